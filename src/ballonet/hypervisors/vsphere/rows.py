"""What the vSphere API says of a host and its VMs, as values of ours.

Units are mixed there: quickStats has MB, but KB for compressed and ssd-swapped memory; a host's memorySize is in bytes
(vSphere Web Services API, VirtualMachineQuickStats, HostHardwareSummary). Any of them may be unset.
"""

from typing import Any, Final

from msgspec import Struct

from ballonet.hypervisors.remote.adapter import Row
from ballonet.model.knobs import Entitlement
from ballonet.model.snapshot import Guest, GuestStats, Host, Voice
from ballonet.model.units import KIB, MIB

VM_PROPERTIES: Final = (
    "name",
    "config.uuid",
    "config.instanceUuid",
    "config.hardware.memoryMB",
    "config.memoryAllocation",
    "guest.toolsRunningStatus",
    "runtime.host",
    "runtime.powerState",
    "summary.quickStats",
)
HOST_PROPERTIES: Final = ("name", "summary.hardware.memorySize", "summary.quickStats.overallMemoryUsage")
NO_TOOLS: Final = "VMware Tools do not run in it, so it has no balloon; install open-vm-tools or VMware Tools"
STATES: Final = ("high", "clear", "soft", "hard", "low")
"""mem.state.latest counts them from 0; "clear" exists since 6.0 (VMware, vSphere Resource Management)."""


class Felt(Struct, frozen=True, kw_only=True):
    """What a VM felt of too little memory."""

    swapped_in_bytes: int = 0
    """Counted by ourselves since we watch."""
    latency_percent: float = 0.0
    """Of its time it waits for memory."""


def vm_row(ref: str, said: dict[str, Any], felt: Felt, alone: str = "") -> Row | None:
    """One VM; None where it does not run, or is still being made.

    Args:
        ref: of the managed object.
        said: its properties; what is unset is missing.
        felt: of too little memory, recently.
        alone: why all VMs of this host are left alone; empty = they are not.
    """
    size, allocation = said.get("config.hardware.memoryMB"), said.get("config.memoryAllocation")
    if said.get("runtime.powerState") != "poweredOn" or not size or allocation is None or not said.get("name"):
        return None
    quick = said.get("summary.quickStats")
    taken = {name: _quick(quick, key, unit) for name, (key, unit) in _TAKEN.items()}
    known = {name: value or 0 for name, value in taken.items()}
    ceiling, active = size * MIB, _quick(quick, "guestMemoryUsage", MIB)
    total = max(1, ceiling - known["balloon"])
    entitlement = entitlement_of(allocation)
    has_tools = said.get("guest.toolsRunningStatus") == "guestToolsRunning"
    stats = None
    if active is not None:
        stats = GuestStats(total_bytes=total, available_bytes=max(0, total - active), swap_in_bytes=felt.swapped_in_bytes)
    guest = Guest(
        name=said["name"],
        ceiling_bytes=ceiling,
        keep_bytes=max(1, ceiling - sum(known.values())),
        resident_bytes=_quick(quick, "hostMemoryUsage", MIB),
        stats=stats,
        stats_age_s=None if stats is None else 0.0,
        voice=Voice.NONE if stats is None else Voice.HYPERVISOR,
        can_balloon=has_tools,
        leave_alone=alone if has_tools else NO_TOOLS,
        uuid=said.get("config.uuid") or "",
        theirs=_theirs(known, active, entitlement, felt),
    )
    unique = said.get("config.instanceUuid") or ""  # copies of a VM can have one BIOS UUID
    return Row(ref=ref, guest=guest, knobs=entitlement, unique=unique)


def _theirs(taken: dict[str, int], active: int | None, entitlement: Entitlement, felt: Felt) -> dict[str, int | str]:
    """ESXi's own numbers, by its names."""
    limit = {} if entitlement.limit_bytes is None else {"limit": entitlement.limit_bytes, "latency": round(felt.latency_percent)}
    own = {"active": active or 0, "reservation": entitlement.reservation_bytes, "shares": entitlement.shares}
    return {**taken, **own, **limit}


_TAKEN: Final = {
    "balloon": ("balloonedMemory", MIB),
    "swapped": ("swappedMemory", MIB),
    "compressed": ("compressedMemory", KIB),
}


def _quick(quick: Any, key: str, unit: int) -> int | None:
    value = getattr(quick, key, None)
    return None if value is None else int(value) * unit


def entitlement_of(allocation: Any) -> Entitlement:
    """From a ResourceAllocationInfo: MB, -1 = no limit."""
    limit = -1 if allocation.limit is None else int(allocation.limit)
    return Entitlement(
        shares=int(allocation.shares.shares),
        reservation_bytes=int(allocation.reservation or 0) * MIB,
        limit_bytes=None if limit < 0 else limit * MIB,
        level=str(allocation.shares.level),
    )


def host_of(said: dict[str, Any], state: int | None) -> Host:
    """The machine; `state` is mem.state.latest, None = not known."""
    total = int(said["summary.hardware.memorySize"])
    used = int(said.get("summary.quickStats.overallMemoryUsage") or 0) * MIB
    known = state is not None and 0 <= state < len(STATES)
    return Host(total_bytes=total, available_bytes=max(0, total - used), theirs=STATES[state or 0] if known else "")
