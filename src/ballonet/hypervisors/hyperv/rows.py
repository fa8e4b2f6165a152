"""What Hyper-V's cmdlets say of a host and its VMs, as values of ours.

Sizes are bytes, but KiB in Win32_OperatingSystem and MiB in performance counters (Microsoft, Get-VM, Get-VMMemory; Hyper-V
Dynamic Memory Performance Counters).
"""

from collections.abc import Mapping
from typing import Any, Final

from ballonet.hypervisors.contract import RefusedError
from ballonet.hypervisors.remote.adapter import Row
from ballonet.model.knobs import Bounds
from ballonet.model.snapshot import Guest, GuestStats, Host, Voice
from ballonet.model.units import KIB, MIB

VM: Final = (
    "VMName",
    "VMId",
    "State",
    "DynamicMemoryEnabled",
    "MemoryAssigned",
    "MemoryDemand",
    "MemoryStatus",
    "MemoryStartup",
)
MEMORY: Final = ("VMId", "Minimum", "Maximum", "Buffer", "Priority")
SYSTEM: Final = ("TotalVisibleMemorySize", "FreePhysicalMemory")
COUNTERS: Final = ("Name", "CurrentPressure", "GuestVisiblePhysicalMemory")
RUNNING: Final = ("Running", 2)
OFF: Final = ("Off", 3)
"""VMState, as text or number."""
STATIC: Final = "static memory: Hyper-V does not balloon it; with it off, Set-VMMemory -DynamicMemoryEnabled $true"
SILENT: Final = "it tells no demand: its Dynamic Memory driver does not run, or not yet (on Linux that is hv_balloon)"


def host_of(said: Mapping[str, Any]) -> Host:
    """The host, from Win32_OperatingSystem. Raises RefusedError."""
    total, free = (number(said, name, "Win32_OperatingSystem") * KIB for name in SYSTEM)
    return Host(total_bytes=total, available_bytes=max(0, min(free, total)))


def vm_row(vm: Mapping[str, Any], memory: Mapping[str, Any], counters: Mapping[str, Any], host: Host) -> Row:
    """One VM.

    Args:
        vm: of Get-VM.
        memory: of Get-VMMemory.
        counters: of its Dynamic Memory; empty where it has none, or where we may not read them.
        host: that it runs on.

    Raises:
        RefusedError: something is missing or no number.
    """
    name = str(vm["VMName"])
    sizes = {key: number(vm, key, name) for key in ("MemoryAssigned", "MemoryDemand", "MemoryStartup")}
    bounds = Bounds(
        minimum_bytes=number(memory, "Minimum", name),
        maximum_bytes=number(memory, "Maximum", name),
        buffer_percent=number(memory, "Buffer", name),
        priority=number(memory, "Priority", name),
    )
    is_dynamic, assigned, demand = bool(vm.get("DynamicMemoryEnabled")), sizes["MemoryAssigned"], sizes["MemoryDemand"]
    ceiling = min(bounds.maximum_bytes, host.total_bytes) if is_dynamic else sizes["MemoryStartup"]
    speaks = is_dynamic and demand > 0
    stats = GuestStats(total_bytes=assigned, available_bytes=max(0, assigned - demand)) if speaks else None
    return Row(
        ref=str(vm["VMId"]),
        guest=Guest(
            name=name,
            ceiling_bytes=max(1, ceiling, assigned),
            keep_bytes=max(1, assigned),
            resident_bytes=assigned,
            stats=stats,
            stats_age_s=None if stats is None else 0.0,
            voice=Voice.NONE if stats is None else Voice.HYPERVISOR,
            can_balloon=speaks,
            leave_alone="" if speaks else SILENT if is_dynamic else STATIC,
            uuid=str(vm["VMId"]),
            theirs=_theirs(vm, bounds, sizes, counters) if is_dynamic else {"assigned": assigned},
        ),
        knobs=bounds,
        is_running=_plain(vm.get("State")) in RUNNING,
        is_off=_plain(vm.get("State")) in OFF,
    )


def _theirs(vm: Mapping[str, Any], bounds: Bounds, sizes: Mapping[str, int], counters: Mapping[str, Any]) -> dict[str, int | str]:
    """Hyper-V's own numbers, by its names. What it ballooned and what it hot-added are two things: the one is lent to others and
    comes back, the other is memory that the guest did not start with.
    """
    assigned, demand = sizes["MemoryAssigned"], sizes["MemoryDemand"]
    found: dict[str, int | str] = {
        "demand": demand,
        "assigned": assigned,
        "pressure": round(100 * demand / assigned) if assigned else 0,
        "status": str(_plain(vm.get("MemoryStatus")) or "not told"),
        "startup": sizes["MemoryStartup"],
        "minimum": bounds.minimum_bytes,
        "maximum": bounds.maximum_bytes,
        "buffer": bounds.buffer_percent,
        "priority": bounds.priority,
    }
    if "GuestVisiblePhysicalMemory" in counters:
        visible = number(counters, "GuestVisiblePhysicalMemory", str(vm["VMName"])) * MIB
        found["ballooned"] = max(0, visible - assigned)
        found["hot-added since it started"] = max(0, visible - sizes["MemoryStartup"])
    return found


def number(said: Mapping[str, Any], key: str, of: str) -> int:
    """A number that was said. Raises RefusedError."""
    value = _plain(said.get(key))
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise RefusedError(
            f"{of}: the host says {value!r} for {key} where a number is due; is it Windows Server 2016 or later?"
        ) from error


def _plain(value: Any) -> Any:
    """An enumeration is an object of a text and a number."""
    return getattr(value, "to_string", value)
