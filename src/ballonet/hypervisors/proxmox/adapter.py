"""The VMs of this Proxmox VE node: their QMP sockets, and what their configuration files say of them.

A VM that pvestatd balloons is left alone, with the command that hands it over: two controllers at one balloon undo each
other's work for ever.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from ballonet.hypervisors.contract import Capabilities
from ballonet.hypervisors.paths import matching
from ballonet.hypervisors.proxmox.vm import VmConfig, read_vm
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.hypervisors.qemu.guest import QemuGuest
from ballonet.hypervisors.qemu.shared_socket import SharedSocketGuest
from ballonet.hypervisors.told import Told
from ballonet.model.finding import Finding, Level, fault
from ballonet.model.snapshot import Guest
from ballonet.model.terms import UNSAID, Terms

log = logging.getLogger(__name__)

SOCKETS: Final = "var/run/qemu-server/*.qmp"
CONFIGS: Final = "etc/pve/qemu-server"
"""Of this node: a link that pmxcfs keeps."""
UNREADABLE: Final = "VMs' configuration cannot be read; what it said last counts"
FRESH_S: Final = 3.0
"""A file that was written so lately is read again at each look."""


class ProxmoxHypervisor(QemuHypervisor):
    """All running VMs of this node."""

    def __init__(self, root: Path = Path("/"), *, listens: bool = True) -> None:
        """Args:
        root: where /proc, /etc/pve and /var/run are found.
        listens: whether to hear agents in the guests.
        """
        super().__init__((str(root / SOCKETS),), root, listens=listens, kind=SharedSocketGuest)
        self._configs = root / CONFIGS
        self._unread = Told(log)
        self._read: dict[str, tuple[float, VmConfig]] = {}
        """By VMID: when the file was written, and what it says."""

    @property
    def capabilities(self) -> Capabilities:
        """Those of QEMU."""
        return replace(super().capabilities, name="proxmox")

    def terms(self, name: str) -> Terms:
        """Its minimum and its priority."""
        guest = self._named(name)
        return self._config(guest).terms if guest else UNSAID

    def findings(self) -> list[Finding]:
        """As the contract says. A node without a running VM is none of its faults."""
        found = [one for one in super().findings() if one.level is Level.FAULT]
        if self._unread.trouble:
            found.append(fault(f"{UNREADABLE}: {self._unread.trouble}", "systemctl status pve-cluster"))
        return found

    def guests(self) -> tuple[Guest, ...]:
        """As the contract says; a guest that is pvestatd's, or whose tags say no, is to be left alone."""
        found = super().guests()
        said = {guest.name: self._config(guest) for guest in self._guests.values()}
        return tuple(_with_config(one, said[one.name]) if one.name in said else one for one in found)

    def _config(self, guest: QemuGuest) -> VmConfig:
        """What is known of it; at first that it is not ours."""
        vmid = Path(guest.path).stem
        return self._read[vmid][1] if vmid in self._read else VmConfig(vmid=vmid, is_unread=True)

    async def _refresh(self) -> None:
        """In a thread: /etc/pve is a file system in user space."""
        self._read = await asyncio.to_thread(self._read_all)

    def _read_all(self) -> dict[str, tuple[float, VmConfig]]:
        """Those that have changed; one that cannot be read says what it said last, and so do all where their folder cannot be."""
        found = dict(self._read)
        try:
            paths = [Path(path) for path in matching(str(self._configs / "*.conf"))]
        except OSError as error:
            self._unread.failed(UNREADABLE, error, has_trace=False)
            return found
        trouble: OSError | None = None
        for path in paths:
            try:
                written_at = path.stat().st_mtime
                # pmxcfs has whole seconds: what was written in this one may be written again in it.
                is_fresh = time.time() - written_at < FRESH_S
                if is_fresh or found.get(path.stem, (-1.0, None))[0] != written_at:
                    found[path.stem] = written_at, read_vm(path.stem, path.read_text(errors="replace"))
            except OSError as error:
                trouble = trouble or error  # which says of which file
        if trouble is None:
            self._unread.well("VMs' configuration can be read again")
        else:
            self._unread.failed(UNREADABLE, trouble, has_trace=False)
        return found


def _with_config(guest: Guest, config: VmConfig) -> Guest:
    """The guest with what its configuration file says of it."""
    tagged = replace(guest, tags=tuple(sorted(config.tags))) if config.tags else guest
    why = config.why_alone if guest.can_balloon else ""
    return replace(tagged, can_balloon=False, leave_alone=why) if why else tagged
