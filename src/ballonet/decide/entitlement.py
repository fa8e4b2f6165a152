"""From what guests need to reservations, and from what the operator weighs to shares: ESXi's own loop moves the memory.

A reservation is what ESXi never balloons or swaps, so it follows the least with which a guest does not page. Shares stay the
operator's: in proportion to need they made simulated hosts worse (docs/decisions/0012).
"""

from typing import Final

from ballonet.model.entitlement import Entitlement
from ballonet.model.plan import Decision, Plan, Reason
from ballonet.model.snapshot import Guest, Mode, Snapshot
from ballonet.model.units import MIB

SHARES_PER_MIB: Final = 10
"""Of a guest of normal shares (vSphere Resource Management: 5, 10 and 20 for low, normal and high)."""
MOST_SHARES: Final = 1_000_000
"""That the API takes (SharesInfo)."""
RESERVED_SHARE: Final = 0.5
"""Of the host, all reservations together: admission control refuses to start a VM where what is left does not hold it."""
STEP_SHARE: Final = 0.1
STEP_BYTES: Final = 64 * MIB
"""Less of a change than both is not sent: each one is a task at the server, and an event in its history."""
_NOT_NOW: Final = frozenset({Reason.ALONE, Reason.UNKNOWN, Reason.OBSERVED, Reason.STALE})


def entitlements(plan: Plan, snapshot: Snapshot) -> dict[str, Entitlement]:
    """What each guest shall be entitled to; nobody who is only watched, left alone, or of whom nothing new is known."""
    seen = [
        (guest, one)
        for guest, one in zip(snapshot.guests, plan.guests, strict=True)
        if guest.mode is Mode.ACT and guest.can_balloon and one.need_bytes is not None and one.reason not in _NOT_NOW
    ]
    room = int(RESERVED_SHARE * snapshot.host.total_bytes)
    firm = sum(guest.guaranteed_bytes for guest, _ in seen)
    more = sum(_wish(guest, one) for guest, one in seen)
    part = min(1.0, max(0, room - firm) / more) if more else 0.0
    return {
        guest.name: Entitlement(
            shares=_shares(guest),
            reservation_bytes=int(guest.guaranteed_bytes + part * _wish(guest, one)) // MIB * MIB,
        )
        for guest, one in seen
    }


def is_worth(old: Entitlement, new: Entitlement) -> bool:
    """Whether a change is large enough to be sent."""
    moved = abs(new.reservation_bytes - old.reservation_bytes)
    is_moved = moved > max(STEP_BYTES, STEP_SHARE * max(old.reservation_bytes, new.reservation_bytes))
    return is_moved or abs(new.shares - old.shares) > STEP_SHARE * old.shares or new.limit_bytes != old.limit_bytes


def _shares(guest: Guest) -> int:
    return max(1, min(MOST_SHARES, round(SHARES_PER_MIB * guest.ceiling_bytes / MIB * guest.shares / 1000)))


def _wish(guest: Guest, decision: Decision) -> int:
    """What it would have reserved beyond its guarantee: the least with which it does not page."""
    return max(0, min(decision.tight_bytes or 0, guest.ceiling_bytes) - guest.guaranteed_bytes)
