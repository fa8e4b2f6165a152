"""From what guests need to reservations, and from what the operator weighs to shares: ESXi's own loop moves the memory.

A reservation is what ESXi never balloons or swaps, so it follows the least with which a guest does not page. Shares stay the
operator's: in proportion to need they made simulated hosts worse (docs/decisions/0012). A limit forces a balloon, and becomes
swap where it is too low: set only where the operator allows it, while the host is short, and taken back from who waits for it.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from ballonet.decide.seat import Seat
from ballonet.model.knobs import Entitlement
from ballonet.model.plan import Reason
from ballonet.model.snapshot import NORMAL_SHARES, Guest, Mode
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
LIMIT_ACTIVE_SHARE: Final = 1.25
LIMIT_SHARE: Final = 0.35
"""Of what a guest uses, and of its size: a limit is never below either. A balloon takes at most 65 % of a guest
(Mem.CtlMaxPercent); what a limit asks for beyond that is swapped.
"""
LATENCY_PERCENT: Final = 1
"""Of its time that a guest with a limit may wait for memory (mem.latency) before the limit is taken back."""
LIMIT_PAUSE_S: Final = 600.0
"""After a limit was taken back, until there is another."""


def part_of(seats: Iterable[Seat], total_bytes: int) -> float:
    """Which part of what guests would have reserved beyond their guarantees fits into what may be reserved of the host.

    Args:
        seats: of all guests that are steered so.
        total_bytes: of the host.
    """
    told = list(seats)
    more = sum(map(_more_bytes, told))
    room = int(RESERVED_SHARE * total_bytes) - sum(one.guest.guaranteed_bytes for one in told)
    return min(1.0, max(0, room) / more) if more else 0.0


def wish(one: Seat, old: Entitlement, part: float, host_state: str, *, may_limit: bool) -> Entitlement:
    """What a guest shall be entitled to.

    Args:
        one: its place.
        old: what it is entitled to now.
        part: as `part_of` says.
        host_state: of this tick.
        may_limit: whether it may have a limit.
    """
    guest = one.guest
    before = guest.knobs_before if isinstance(guest.knobs_before, Entitlement) else old
    asked = Entitlement(
        shares=_shares(guest), reservation_bytes=int(guest.guaranteed_bytes + part * _more_bytes(one)) // MIB * MIB
    )
    limit = old.limit_bytes
    if before.limit_bytes is None:  # else it is the operator's
        limit = _limit(one, asked, old, host_state) if may_limit else None
    return _beside(guest, asked, old, before, limit)


def freed(one: Seat, old: Entitlement) -> Entitlement:
    """What stays of it for a guest that is not steered now: no limit of ours on one that has lost its balloon, or its voice for
    good; held, it stays.
    """
    before = one.guest.knobs_before if isinstance(one.guest.knobs_before, Entitlement) else old
    is_ours_to_free = one.guest.mode is Mode.ACT and (not one.guest.leave_alone or not one.guest.can_balloon)
    is_kept = not is_ours_to_free and one.reason is not Reason.STALE
    return old if is_kept or before.limit_bytes is not None else replace(old, limit_bytes=None)


def _beside(guest: Guest, wish: Entitlement, old: Entitlement, before: Entitlement, limit: int | None) -> Entitlement:
    """Next to what was set by hand: that reservation is the least, those shares stay where ours are normal, that limit binds."""
    reservation = max(wish.reservation_bytes, before.reservation_bytes)
    shares, level = wish.shares, wish.level
    if guest.shares == NORMAL_SHARES:
        shares, level = before.shares, before.level
    elif shares == old.shares:
        level = old.level
    most = reservation if limit is None else min(reservation, limit)
    return Entitlement(shares=shares, level=level, reservation_bytes=most, limit_bytes=limit)


def is_worth(old: Entitlement, new: Entitlement) -> bool:
    """Whether a change is large enough to be sent."""
    moved = abs(new.reservation_bytes - old.reservation_bytes)
    is_moved = moved > max(STEP_BYTES, STEP_SHARE * max(old.reservation_bytes, new.reservation_bytes))
    return is_moved or abs(new.shares - old.shares) > STEP_SHARE * old.shares or new.limit_bytes != old.limit_bytes


def _shares(guest: Guest) -> int:
    return max(1, min(MOST_SHARES, round(SHARES_PER_MIB * guest.ceiling_bytes / MIB * guest.shares / NORMAL_SHARES)))


def _more_bytes(one: Seat) -> int:
    """What it would have reserved beyond its guarantee: the least with which it does not page."""
    tight, _ = one.needs_bytes or (0, 0)
    return max(0, min(tight, one.guest.ceiling_bytes) - one.guest.guaranteed_bytes)


def _limit(one: Seat, wish: Entitlement, old: Entitlement, host_state: str) -> int | None:
    """Down to what a guest needs while the host is short; none when it is not, or when the guest suffers."""
    guest, (_, need) = one.guest, one.needs_bytes or (0, 0)
    latency = guest.theirs.get("latency", 0)
    suffers = one.is_distressed or one.is_cooling or (isinstance(latency, int) and latency >= LATENCY_PERCENT)
    if host_state == "high" or suffers:
        return None
    least = max(wish.reservation_bytes, LIMIT_ACTIVE_SHARE * one.memory.use.used_bytes, LIMIT_SHARE * guest.ceiling_bytes)
    limit = -(-int(max(least, need, one.floor_bytes)) // MIB) * MIB
    if old.limit_bytes is not None and abs(limit - old.limit_bytes) <= STEP_BYTES and old.limit_bytes >= wish.reservation_bytes:
        return old.limit_bytes
    is_held = guest.resident_bytes is not None and guest.resident_bytes - limit > STEP_BYTES
    return limit if is_held or (old.limit_bytes is not None and limit < guest.ceiling_bytes) else None
