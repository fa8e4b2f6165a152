"""Where the control API listens: a Unix socket for root and a group, a loopback TCP port for clients with the token."""

import contextlib
import fcntl
import grp
import ipaddress
import logging
import os
import socket
import stat
from pathlib import Path
from typing import Final

from ballonet.model.settings import SettingsError

log = logging.getLogger(__name__)

LAST_PORT: Final = 65535


def only_one(path: Path) -> int:
    """A lock that ends with the process: two daemons on one host would undo each other's work."""
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o755)  # its group must come to the socket, whatever the umask
        lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"cannot make {path}: {error.strerror}; set `control.socket` to a place that can be written"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise SettingsError(
            f"another ballonet runs with {path}; stop it, or give this one a `control.socket` of its own"
        ) from error
    return lock


def unix(path: Path, group: str) -> socket.socket:
    """Nobody else can connect in between: it is bound with no rights for others."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        sock.bind(str(path))
    except OSError as error:
        raise SettingsError(
            f"cannot listen at {path}: {error.strerror}; remove what is there, or set `control.socket`"
        ) from error
    finally:
        os.umask(old)
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(0o660)
    except KeyError:
        log.info(
            "no such group; the control socket is root's alone", extra={"group": group, "remedy": f"groupadd --system {group}"}
        )
    except OSError as error:
        log.warning("control socket not given to its group", extra={"group": group, "trouble": str(error)})
    return sock


def address_of(listen: str) -> tuple[str, int]:
    """A loopback address and a port. Raises SettingsError when it is anything else."""
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError as error:
        raise SettingsError(f"at `control.listen`: {listen!r} is no address and port, like 127.0.0.1:9717") from error
    if not address.is_loopback:
        raise SettingsError(f"at `control.listen`: {host} is not a loopback address; put a proxy with TLS before 127.0.0.1")
    if not 0 <= number <= LAST_PORT:
        raise SettingsError(f"at `control.listen`: {number} is no port; give 1 to {LAST_PORT}")
    return str(address), number


def tcp(listen: str) -> socket.socket:
    """A socket bound there. Raises SettingsError: what it names is no loopback address, or is taken."""
    address, number = address_of(listen)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, number))
    except OSError as error:
        sock.close()
        raise SettingsError(f"at `control.listen`: cannot listen at {listen}: {error}") from error
    return sock
