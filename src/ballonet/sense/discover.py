"""What virtual machines a host seems to have, and by what they could be reached: for an operator's first configuration."""

import contextlib
import glob
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

LIBVIRT: Final = ("run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock")
"""Where libvirt listens (remote driver, libvirt 9.0): the monolithic daemon, or that of the QEMU driver alone."""
LIBVIRTD: Final = ("usr/sbin/libvirtd", "usr/sbin/virtqemud")
PROXMOX: Final = "etc/pve/qemu-server"
_NAMES: Final = re.compile(r"(qemu-system-|qemu-kvm$|kvm$)")
_OPEN: Final = frozenset({"/tmp", "/var/tmp", "/dev/shm", "/run/lock"})  # noqa: S108 where others may put what they like
_OTHERS: Final = ("/var/lib/libvirt/", "/run/libvirt/", "/var/run/qemu-server/", "/run/qemu-server/")
"""Sockets below these are libvirt's or Proxmox VE's own: one serves one client at a time."""


class Found(NamedTuple):
    """What was seen."""

    proxmox: int | None = None
    """VMs that Proxmox VE knows on this node; None = it is none."""
    libvirt: str = ""
    """By what libvirt was found; empty = not at all."""
    is_libvirt_up: bool = False
    """Whether it listens."""
    processes: int = 0
    """QEMU processes."""
    sockets: tuple[str, ...] = ()
    """QMP sockets of theirs that nobody else is known to use."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """Those, several of one folder and one ending as one wildcard: guests that start later are found too."""
        kinds: dict[tuple[str, str], list[str]] = {}
        for path in self.sockets:
            one = PurePosixPath(path)
            kinds.setdefault((str(one.parent), one.suffix), []).append(glob.escape(path))
        found: list[str] = []
        for (folder, ending), names in sorted(kinds.items()):
            is_one = len(names) == 1 or not ending or folder in _OPEN
            found += names if is_one else [f"{glob.escape(folder)}/*{glob.escape(ending)}"]
        return tuple(found)


def discover(root: Path = Path("/")) -> Found:
    """Looks around; touches nothing, and asks nobody.

    Args:
        root: where the host's files are found.
    """
    at = [one for one in LIBVIRT if (root / one).is_socket()]
    by = at or [one for one in LIBVIRTD if (root / one).exists()]
    machines = list(_machines(root))
    vms = len(list((root / PROXMOX).glob("*.conf"))) if (root / PROXMOX).is_dir() else None
    sockets = {path for words in machines for path in _sockets(words) if path.startswith("/") and not path.startswith(_OTHERS)}
    return Found(vms, f"/{by[0]}" if by else "", bool(at), len(machines), tuple(sorted(sockets)))


def _machines(root: Path) -> Iterator[list[str]]:
    """Command lines of QEMU processes."""
    for path in (root / "proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if _NAMES.match(PurePosixPath(words[0]).name):
                yield words


def _sockets(words: list[str]) -> Iterator[str]:
    """QMP sockets in a command line: -qmp and -qmp-pretty, or a chardev of a monitor in control mode (qemu(1))."""
    chardevs, monitors = {}, []
    for option, value in pairwise(words):
        parts = dict(part.partition("=")[::2] for part in value.split(","))
        if option in {"-qmp", "-qmp-pretty"} and value.startswith("unix:"):
            yield value.removeprefix("unix:").split(",")[0]
        elif option == "-chardev" and value.startswith("socket,"):
            chardevs[parts.get("id", "")] = parts.get("path", "")
        elif option == "-mon" and parts.get("mode") == "control":
            monitors.append(parts.get("chardev", value.split(",")[0]))
    yield from (path for one in monitors if (path := chardevs.get(one, "")))
