"""What a hypervisor with a loop of its own is told of a guest: how much of the host it is entitled to."""

from msgspec import Struct


class Entitlement(Struct, frozen=True, kw_only=True):
    """Shares, reservation and limit, as ESXi has them (vSphere Resource Management, "Memory Resource Allocation")."""

    shares: int
    """Weight among the guests of one parent. > 0."""
    reservation_bytes: int
    """What is never ballooned or swapped."""
    limit_bytes: int | None = None
    """Never more of the host than this; None = no limit."""
    level: str = "custom"
    """The name of the shares: low, normal or high, by the guest's size; else custom."""
