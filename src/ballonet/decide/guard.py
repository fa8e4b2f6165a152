"""What no policy may do: go below a floor, promise what is not there, move who must not be moved. R4, R6, R8, R13."""

from typing import Final

from ballonet.decide.estimate import back_bytes
from ballonet.decide.fairness import at_level, fill
from ballonet.decide.pace import dead_band_bytes, portion_bytes
from ballonet.decide.seat import Seat
from ballonet.decide.table import Table
from ballonet.decide.total import REST_BYTES
from ballonet.model.plan import Reason, limit_of

IDLE_RISE_SHARE: Final = 0.02
"""Of the ceiling, a second: how fast the need of a guest is taken to rise that shows no growth."""
SWAPPED_PART: Final = 0.5
"""Of what a guest has paged out: counted as missing when several lack memory. Less, and the guest that paged first goes on to
page most; more, and what is lent lies idle until its disk has read that much back."""
CUSHION_SHARE: Final = 1 / 3
"""Of the reserve: this stays when a guest that can wait is given of what is free. Taken back at the host's next breath, it would
go to and fro (R12)."""
_URGENT: Final = (Reason.DISTRESS, Reason.FEEDBACK, Reason.NEEDS, Reason.SHORT, Reason.LEAK)


def bounds(table: Table) -> None:
    """Nobody goes below its floor, above its ceiling, or where it may not go (R6, R8, R13)."""
    for seat in table.seats:
        _bound(seat)


def promises(table: Table) -> None:
    """Nothing is promised that is not there. Any command of the plan may be carried out alone then, in any order (R4)."""
    if table.limits.has("R4"):
        for budget in table.budgets:
            _promise(table, budget.seats, budget.slack_bytes, budget.reserve_bytes, budget.name)
        _promise(table, table.seats, table.slack_bytes, table.reserve_bytes, kept=table.rooms_bytes)


PASSES: Final = (bounds, promises)
"""What follows our policies, in this order."""


def peer_bounds(table: Table) -> None:
    """Nobody is squeezed below its floor by a peer, or moved where it may not go."""
    for seat in table.seats:
        if not seat.is_movable:
            seat.wish_bytes = seat.keep_bytes
            continue
        wish = seat.guest.ceiling_bytes if seat.guest.deflates else seat.wish_bytes
        if (wish < seat.keep_bytes and not seat.may_give) or (wish > seat.keep_bytes and not seat.may_take):
            wish = seat.keep_bytes
        least = min(seat.floor_bytes, seat.keep_bytes) if table.limits.has("R6") else 1
        seat.wish_bytes = max(1, least, min(wish, seat.guest.ceiling_bytes))
        if wish < least:
            seat.say(least, Reason.FLOOR, floor_bytes=seat.floor_bytes, wish_bytes=wish)


def peer_promises(table: Table) -> None:
    """Where a peer's wishes lead fits on the host. The order, free first and then give, is left to `act`.

    A host that is not measured (total 0), or a goal that the caller gave in its place, leaves nothing to hold wishes against.
    """
    if not table.limits.has("R4") or not table.total_bytes or "goal_bytes" in table.options:
        return
    for seats, slack, kept, where in [
        *((budget.seats, budget.slack_bytes, budget.reserve_bytes, budget.name) for budget in table.budgets),
        (table.seats, table.slack_bytes, table.reserve_bytes, ""),
    ]:
        freed = sum(max(0, seat.keep_bytes - seat.wish_bytes) for seat in seats)
        _promise(table, seats, slack + freed, kept, where)


PEER_PASSES: Final = (peer_bounds, peer_promises)
"""What follows a peer's policy."""


def _bound(seat: Seat) -> None:
    wish = seat.wish_bytes
    if seat.floor_bytes <= wish == seat.keep_bytes <= seat.guest.ceiling_bytes and not seat.returns_bytes:
        return  # it stays, as most do at most ticks
    if not seat.is_movable:
        seat.wish_bytes = seat.returns_bytes or seat.keep_bytes
        return
    least = seat.floor_bytes if seat.may_take else min(seat.floor_bytes, seat.keep_bytes)
    if wish < least:
        seat.wish_bytes = least
        if seat.reason in {Reason.STATIC, Reason.DONOR, Reason.PART} or seat.keep_bytes < seat.floor_bytes - REST_BYTES:
            seat.reason, seat.numbers = Reason.FLOOR, {"floor_bytes": seat.floor_bytes, "wish_bytes": wish}
    seat.wish_bytes = wish = max(1, min(seat.wish_bytes, seat.guest.ceiling_bytes))
    if (wish < seat.keep_bytes and not seat.may_give) or (wish > seat.keep_bytes and not seat.may_take):
        seat.wish_bytes = seat.keep_bytes


def _promise(table: Table, seats: list[Seat], slack: int, reserve: int, where: str = "", *, kept: int = 0) -> None:
    """Gives come out of what nobody may take yet; what this plan frees is promised when the host has seen it.

    Args:
        table: of this tick.
        seats: all that lie under one limit: the host's, or one around some guests.
        slack: what is unpromised of it.
        reserve: what is to stay free of it.
        where: the limit around some guests; "" = the host.
        kept: for VMs that are about to start: for those that are in need, and for nobody else (R18).
    """
    gains = [seat for seat in seats if seat.wish_bytes > seat.held_bytes and seat.is_movable]
    if not gains:
        return
    others = [seat for seat in gains if seat.reason not in _URGENT]
    urgent = [seat for seat in gains if seat.reason in _URGENT]
    if table.limits.has("R10") and seats is table.seats:
        slack -= _guarantee(urgent, max(0, slack))
    is_calm = table.limits.has("R12")
    pressing: list[Seat] = []
    patient: list[Seat] = []
    for seat in urgent:
        (patient if is_calm and _can_wait(seat) else pressing).append(seat)
    slack -= _lend(pressing, max(0, slack), where)
    slack -= _lend(patient, max(0, slack - kept - int(CUSHION_SHARE * reserve)), where)
    for seat in others:
        # Spare stops at the reserve.
        room = slack - kept - (reserve if _leaves_reserve(seat, seats, slack, reserve) else 0)
        more = max(0, min(seat.wish_bytes - seat.held_bytes, room))
        if more < seat.wish_bytes - seat.held_bytes:
            _cut(seat, seat.held_bytes + more, room, where)
        slack -= more


def _leaves_reserve(seat: Seat, seats: list[Seat], slack: int, reserve: int) -> bool:
    """Whether what it gets is spare. The last of what is given back by order is not, when others have it only in pieces that
    are worth no command: it would never come.
    """
    if seat.reason is not Reason.DEFLATE:
        return seat.reason is Reason.SPARE
    pieces = sum(dead_band_bytes(one) for one in seats if one.is_movable)
    return seat.wish_bytes - seat.held_bytes - max(0, slack - reserve) > min(pieces, int(CUSHION_SHARE * reserve))


def _can_wait(seat: Seat) -> bool:
    """Whether a guest lacks little, still has something, and nothing of it moves."""
    memory = seat.memory
    is_quiet = not (memory.use.growth_per_s or memory.use.swapped_bytes or seat.is_distressed or seat.is_cooling)
    is_little = seat.wish_bytes - seat.keep_bytes < portion_bytes(seat.guest.ceiling_bytes)
    return is_quiet and is_little and seat.keep_bytes >= max(seat.floor_bytes, (memory.use.used_bytes + seat.need_now_bytes) // 2)


def _guarantee(seats: list[Seat], slack: int) -> int:
    """R10: a guest below its guarantee comes first. Returns how much of the slack that takes; it counts as held then."""
    lent = 0
    for seat in seats:
        owed = min(seat.guest.guaranteed_bytes, seat.wish_bytes) - seat.held_bytes
        if owed > 0:
            more = min(owed, slack - lent)
            seat.held_bytes += more
            lent += more
    return lent


def _lend(seats: list[Seat], slack: int, where: str) -> int:
    """Divides what there is so that all last equally long: nobody has seconds to spare while another pages. Gives how much
    was lent.
    """
    wanted = sum(seat.wish_bytes - seat.held_bytes for seat in seats)
    if wanted <= slack:
        return wanted
    claims = [(seat.held_bytes, seat.wish_bytes, *_pace(seat)) for seat in seats]
    lasts_s = fill(claims, sum(seat.held_bytes for seat in seats) + slack)
    lent = 0
    for seat, claim in zip(seats, claims, strict=True):
        keep = int(at_level(claim, lasts_s))
        lent += keep - seat.held_bytes
        if keep < seat.wish_bytes:
            _cut(seat, keep, slack, where)
    return lent


def _pace(seat: Seat) -> tuple[float, float]:
    """What a guest needs at this moment, and how fast that may rise: at least as fast as one that looks idle may begin to."""
    memory, ceiling = seat.memory, seat.guest.ceiling_bytes
    return memory.use.used_bytes + max(back_bytes(memory), int(SWAPPED_PART * memory.use.swapped_bytes)), max(
        memory.use.growth_per_s, IDLE_RISE_SHARE * ceiling
    )


def _cut(seat: Seat, keep: int, room: int, where: str) -> None:
    numbers: dict[str, object] = {"wish_bytes": seat.wish_bytes, "slack_bytes": max(0, room)}
    if where:
        numbers["within"] = limit_of(where)
    # Resident beyond what it keeps is no reason to give: it would only come back slower.
    seat.wish_bytes = max(seat.keep_bytes, keep) if keep > seat.keep_bytes else seat.keep_bytes
    seat.reason, seat.numbers = Reason.BUDGET, numbers
