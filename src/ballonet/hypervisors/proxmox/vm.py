"""What Proxmox VE's configuration says of one VM. No I/O: the file's text comes in (qm.conf(5))."""

from typing import Final

from msgspec import Struct

from ballonet.model.terms import Terms
from ballonet.model.units import MIB

DEFAULT_MEMORY_MIB: Final = 512
LONGEST_NUMBER: Final = 12
"""Of digits: more are no size in MiB, nor a share."""
TAG_OFF: Final = "ballonet_off"
PRIORITIES: Final = {"ballonet_prio_low": 500, "ballonet_prio_high": 2000}
"""Tags, and the shares that they stand for; 1000 without one."""


class VmConfig(Struct, frozen=True, kw_only=True):
    """One VM. Sizes in MiB, as Proxmox has them."""

    vmid: str
    memory_mib: int = DEFAULT_MEMORY_MIB
    balloon_mib: int | None = None
    """The minimum; 0 = it has no balloon; None = not set, and Proxmox leaves the balloon alone."""
    shares: int = 1000
    """0 = pvestatd leaves the balloon alone."""
    tags: frozenset[str] = frozenset()
    is_unread: bool = False
    """Nobody has been able to read its configuration yet."""

    @property
    def is_pvestatds(self) -> bool:
        """Whether pvestatd moves its balloon: it has a minimum below its memory, and shares."""
        return bool(self.balloon_mib) and (self.balloon_mib or 0) < self.memory_mib and self.shares > 0

    @property
    def why_alone(self) -> str:
        """Why ballonet leaves it alone, with the remedy; empty = it need not."""
        if self.is_unread:
            return "its configuration could not be read yet, so nobody knows whose balloon it is; the log says why"
        if TAG_OFF in self.tags:
            return f"its tag {TAG_OFF} says so"
        if self.is_pvestatds:
            return f"pvestatd balloons it; to hand it over: qm set {self.vmid} --shares 0"
        return ""

    @property
    def terms(self) -> Terms:
        """In the contract's words. Shares say nothing here: to hand a VM over they must be 0."""
        shares = next((PRIORITIES[tag] for tag in sorted(self.tags & PRIORITIES.keys(), reverse=True)), None)
        return Terms(floor_bytes=self.balloon_mib * MIB if self.balloon_mib else None, shares=shares)


def read_vm(vmid: str, text: str) -> VmConfig:
    """The VM of a `VMID.conf`. Lines that are not understood are left alone: the file is Proxmox's."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("["):
            break  # snapshots: what it was once
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            found[name.strip()] = value.strip()
    memory = _number(found.get("memory", "").removeprefix("current="))
    shares, balloon = _number(found.get("shares")), _number(found.get("balloon"))
    return VmConfig(
        vmid=vmid,
        memory_mib=DEFAULT_MEMORY_MIB if memory is None else memory,
        balloon_mib=balloon,
        shares=1000 if shares is None else shares,
        tags=frozenset(filter(None, found.get("tags", "").replace(",", ";").replace(" ", ";").split(";"))),
    )


def _number(text: str | None) -> int | None:
    """None where there is none, or none that Proxmox VE would take."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER else None
