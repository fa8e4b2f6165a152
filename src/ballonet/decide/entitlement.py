"""From what guests need to reservations, and from what the operator weighs to shares: ESXi's own loop moves the memory.

A reservation is what ESXi never balloons or swaps, so it follows the least with which a guest does not page. Shares stay the
operator's: in proportion to need they made simulated hosts worse (docs/decisions/0012). A limit forces a balloon, and becomes
swap where it is too low: set only where the operator allows it, while the host is short, and taken back from who waits for it.
"""

from collections.abc import Container, Mapping
from typing import Final

from msgspec.structs import replace

from ballonet.model.knobs import Entitlement, Knobs
from ballonet.model.plan import Decision, Plan, Reason
from ballonet.model.snapshot import NORMAL_SHARES, Guest, Mode, Snapshot
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
"""Of what a guest uses, and of its size: a limit is never below either. A balloon takes 65 % of a guest at the most
(Mem.CtlMaxPercent); what a limit asks for beyond that is swapped.
"""
LATENCY_PERCENT: Final = 1
"""Of its time that a guest with a limit may wait for memory (mem.latency) before the limit is taken back."""
_SUFFERING: Final = frozenset({Reason.DISTRESS, Reason.FEEDBACK})


def changes(
    plan: Plan,
    snapshot: Snapshot,
    knobs: Mapping[str, Knobs],
    originals: Mapping[str, Knobs],
    *,
    may_limit: Container[str] = (),
) -> list[tuple[str, Entitlement]]:
    """What is worth to be set. Reservations that shrink go first: what they free, others may reserve.

    Args:
        plan: of this tick.
        snapshot: that it was made of.
        knobs: how they stand.
        originals: how they stood before ballonet.
        may_limit: names of guests that may have a limit.
    """
    wishes, decisions = entitlements(plan, snapshot), {one.name: one for one in plan.guests}
    found = []
    for guest in snapshot.guests:
        name, one = guest.name, decisions[guest.name]
        old, before = knobs.get(name), originals.get(name, knobs.get(name))
        if not isinstance(old, Entitlement) or not isinstance(before, Entitlement):
            continue
        wish, limit = wishes.get(name), old.limit_bytes
        if before.limit_bytes is None:  # else it is the operator's
            limit = _limit(guest, one, wish, old, plan) if wish and name in may_limit else _freed(guest, one, old)
        asked = _asked(guest, wish, old, before, limit) if wish else replace(old, limit_bytes=limit)
        if is_worth(old, asked):
            found.append((asked.reservation_bytes - old.reservation_bytes, name, asked))
    return [(name, asked) for _, name, asked in sorted(found, key=lambda each: each[:2])]


def _asked(guest: Guest, wish: Entitlement, old: Entitlement, before: Entitlement, limit: int | None) -> Entitlement:
    """Beside what somebody set by hand: its reservation is the least, its shares stay where ours are normal, its limit binds."""
    reservation = max(wish.reservation_bytes, before.reservation_bytes)
    shares, level = wish.shares, wish.level
    if guest.shares == NORMAL_SHARES:
        shares, level = before.shares, before.level
    elif shares == old.shares:
        level = old.level
    most = reservation if limit is None else min(reservation, limit)
    return Entitlement(shares=shares, level=level, reservation_bytes=most, limit_bytes=limit)


def _freed(guest: Guest, one: Decision, old: Entitlement) -> int | None:
    """No limit of ours on a guest that has lost its balloon, or its voice, or whose operator wants none; held, it stays."""
    is_ours_to_free = guest.mode is Mode.ACT and (not guest.leave_alone or not guest.can_balloon)
    return None if is_ours_to_free or one.reason is Reason.STALE else old.limit_bytes


def entitlements(plan: Plan, snapshot: Snapshot) -> dict[str, Entitlement]:
    """What each guest shall be entitled to; nobody who is only watched, left alone, or of whom nothing new is known."""
    seen = [(guest, one) for guest, one in zip(snapshot.guests, plan.guests, strict=True) if one.is_steered(guest)]
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


def is_worth(old: Knobs, new: Entitlement) -> bool:
    """Whether a change is large enough to be sent."""
    if not isinstance(old, Entitlement):
        return False
    moved = abs(new.reservation_bytes - old.reservation_bytes)
    is_moved = moved > max(STEP_BYTES, STEP_SHARE * max(old.reservation_bytes, new.reservation_bytes))
    return is_moved or abs(new.shares - old.shares) > STEP_SHARE * old.shares or new.limit_bytes != old.limit_bytes


def _shares(guest: Guest) -> int:
    return max(1, min(MOST_SHARES, round(SHARES_PER_MIB * guest.ceiling_bytes / MIB * guest.shares / NORMAL_SHARES)))


def _wish(guest: Guest, decision: Decision) -> int:
    """What it would have reserved beyond its guarantee: the least with which it does not page."""
    return max(0, min(decision.tight_bytes or 0, guest.ceiling_bytes) - guest.guaranteed_bytes)


def _limit(guest: Guest, one: Decision, wish: Entitlement, old: Entitlement, plan: Plan) -> int | None:
    """Down to what a guest needs while the host is short; none when it is not, or when the guest suffers."""
    latency = guest.theirs.get("latency", 0)
    suffers = one.reason in _SUFFERING or (isinstance(latency, int) and latency >= LATENCY_PERCENT)
    if plan.host_state == "high" or suffers:
        return None
    least = max(wish.reservation_bytes, LIMIT_ACTIVE_SHARE * (one.used_bytes or 0), LIMIT_SHARE * guest.ceiling_bytes)
    limit = -(-int(max(least, one.need_bytes or 0, one.floor_bytes)) // MIB) * MIB
    if old.limit_bytes is not None and abs(limit - old.limit_bytes) <= STEP_BYTES and old.limit_bytes >= wish.reservation_bytes:
        return old.limit_bytes
    is_held = guest.resident_bytes is not None and guest.resident_bytes - limit > STEP_BYTES
    return limit if is_held or (old.limit_bytes is not None and limit < guest.ceiling_bytes) else None
