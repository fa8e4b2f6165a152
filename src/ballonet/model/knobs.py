"""What a hypervisor with a loop of its own is told of a guest, where nobody outside sizes a balloon."""

import enum
from typing import Final, TypeAlias

from msgspec import Struct


class Steering(enum.Enum):
    """What an outsider can set on a guest."""

    TARGET = "target"
    """What the guest keeps, in bytes (KVM)."""
    BOUNDS = "bounds"
    """Minimum, maximum, buffer and priority of the hypervisor's own loop (Hyper-V)."""
    ENTITLEMENT = "entitlement"
    """Shares, reservation and limit of the hypervisor's own loop (ESXi)."""


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


def more(old: Knobs, new: Knobs) -> int:
    """How much more a change asks for: of several changes the least goes first, since what one frees another may have."""
    if isinstance(old, Entitlement) and isinstance(new, Entitlement):
        return new.reservation_bytes - old.reservation_bytes
    if isinstance(old, Bounds) and isinstance(new, Bounds):
        return new.buffer_percent - old.buffer_percent
    return 0


def steering_of(knobs: Knobs | None) -> Steering:
    """How a guest is steered whose knobs are these; without any, its balloon is sized."""
    if knobs is None:
        return Steering.TARGET
    return Steering.ENTITLEMENT if isinstance(knobs, Entitlement) else Steering.BOUNDS
