"""Whether the hooks that ask for room before a VM starts are in force (docs/rooms.md)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import ballonet
from ballonet.model.finding import HOST, Finding, Level

SOURCE: Final = Path(ballonet.__file__).parent / "control" / "room_hook.py"
LIBVIRT: Final = "etc/libvirt/hooks/qemu.d/50-ballonet"
PROXMOX: Final = "var/lib/vz/snippets/ballonet-room"
PLACES: Final = {"libvirt": LIBVIRT, "proxmox": PROXMOX}
"""Below the root, by the name that `ballonet hook` has for them."""


def findings(root: Path) -> Iterator[Finding]:
    """Of hooks that are there and do nothing, or not what this version would."""
    for host, place in PLACES.items():
        path = root / place
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError):
            continue  # none is a choice
        remedy = f"ballonet hook {host}"
        if not os.access(path, os.X_OK):
            yield _warning(f"{path} cannot be executed: VMs start without asking for room", remedy)
        if _code(text) != _code(SOURCE.read_text()):
            yield _warning(f"{path} is of another version of ballonet", remedy)


def _code(text: str) -> list[str]:
    """Without the line that says where the configuration is."""
    return [line for line in text.splitlines() if not line.startswith("CONFIG = ")]


def _warning(what: str, remedy: str) -> Finding:
    return Finding(level=Level.WARNING, where=HOST, what=what, remedy=remedy)
