"""What a hypervisor with a loop of its own is told of a guest, where nobody outside sizes a balloon."""

from typing import Final, TypeAlias

from msgspec import Struct


class Entitlement(Struct, frozen=True, kw_only=True, tag="entitlement"):
    """Shares, reservation and limit, as ESXi has them (vSphere Resource Management, "Memory Resource Allocation")."""

    shares: int
    """Weight among the guests of one parent. > 0."""
    reservation_bytes: int
    """What is never ballooned or swapped."""
    limit_bytes: int | None = None
    """Never more of the host than this; None = no limit."""
    level: str = "custom"
    """The name of the shares: low, normal or high, by the guest's size; else custom."""


BUFFER_PERCENT: Final = (5, 2000)
PRIORITY: Final = (0, 100)
"""What Set-VMMemory takes."""


class Bounds(Struct, frozen=True, kw_only=True, tag="bounds"):
    """What Hyper-V's Dynamic Memory is given (Set-VMMemory). While a guest runs, minimum only falls and maximum only rises."""

    minimum_bytes: int
    """Below this it takes nothing."""
    maximum_bytes: int
    buffer_percent: int
    """Of its demand, what it is to have on top."""
    priority: int
    """Who comes first when not everything fits."""


Knobs: TypeAlias = Entitlement | Bounds
