"""Serves the control API on a Unix socket, for root and a group, and on a loopback TCP port for whoever has the token."""

import asyncio
import contextlib
import fcntl
import grp
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn
from msgspec import Struct

from ballonet.control.app import TokenGate, api
from ballonet.control.desk import Desk
from ballonet.model.settings import SettingsError

log = logging.getLogger(__name__)
logging.getLogger("uvicorn").setLevel(logging.WARNING)  # that it serves is told once, by the daemon

SHORTEST_TOKEN: Final = 16
END_S: Final = 1
"""How long open streams may take to end."""


class Door(Struct, frozen=True, kw_only=True):
    """Where to listen."""

    socket: Path
    group: str
    """Who may use the socket beside root; passed over where there is no such group."""
    listen: str = ""
    """A loopback address and port; empty = none."""
    token_file: str = ""
    """Holds the token for it."""


class _Server(uvicorn.Server):
    """Leaves signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ControlServer:
    """Both doors, open while the daemon runs."""

    def __init__(self, desk: Desk, door: Door) -> None:
        """Opens them. Raises SettingsError, before anything is served.

        Args:
        desk: answers.
        door: where.
        """
        app = api(desk)
        self._lock = _only_one(door.socket)
        self._servers = [(_server(app), _unix(door.socket, door.group))]
        if door.listen:
            self._servers.append((_server(TokenGate(app, _token(door.token_file))), _tcp(door.listen)))
        self._path = door.socket

    async def run(self) -> None:
        """Serves until cancelled."""
        tasks = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in self._servers]
        try:
            await asyncio.gather(*tasks)
        finally:
            for server, _ in self._servers:
                server.should_exit = True
            await asyncio.wait(tasks, timeout=2 * END_S)
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._lock)


def _server(app: object) -> _Server:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        timeout_graceful_shutdown=END_S,
        limit_concurrency=64,
        server_header=False,
    )
    return _Server(config)


def _only_one(path: Path) -> int:
    """A lock that ends with the process: two daemons on one host would undo each other's work."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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


def _unix(path: Path, group: str) -> socket.socket:
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


def _tcp(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError as error:
        raise SettingsError(f"at `control.listen`: {listen!r} is no address and port, like 127.0.0.1:9717") from error
    if not address.is_loopback:
        raise SettingsError(f"at `control.listen`: {host} is not a loopback address; put a proxy with TLS before 127.0.0.1")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 the version
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((str(address), number))
    except (OSError, OverflowError) as error:
        raise SettingsError(f"at `control.listen`: cannot listen at {listen}: {error}") from error
    return sock


def _token(path: str) -> str:
    try:
        file = Path(path)
        if file.stat().st_mode & 0o077:
            raise SettingsError(f"at `control.token_file`: others may read {path}; chmod 600 it")
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"at `control.token_file`: cannot read {path!r}: {error}; openssl rand -hex 32 makes a token"
        ) from error
    if len(token) < SHORTEST_TOKEN or not token.isascii():
        raise SettingsError(
            f"at `control.token_file`: less than {SHORTEST_TOKEN} plain characters; openssl rand -hex 32 makes a token"
        )
    return token
