"""What each should have of some memory: needs, then the spare; and when not all needs fit, who goes short of what (R9, R10)."""

from typing import Final

from ballonet.decide import cache_needs
from ballonet.decide.estimate import back_bytes
from ballonet.decide.fairness import at_level, fill, fund
from ballonet.decide.floor import floor_bytes
from ballonet.decide.pace import REACH_S, take_per_s
from ballonet.decide.seat import Seat
from ballonet.decide.table import Table

LEAST_RESERVE: Final = 1 / 3
"""Part of the reserve that stays while margins are full: grants of the next moments come out of it. It shrinks that far, as
much as it must, before anything else does."""
BARE_PART: Final = 0.4
"""Of the least margin: what a guest keeps of it while memory that donors are giving is not there yet."""
GOES_ON_S: Final = 20.0
"""A guest that reads back what it paged out asks, within its share, for what it reads in this time. What it does not touch lies
well where it is: the room for it would lie idle, while others page.
"""


def pool_of(memory: int, seats: list[Seat], reserve: int) -> int:
    """What is divided among those that can be moved. What a starting guest may take is gathered out of spare and page cache;
    nobody's need is cut for what it may never touch.
    """
    fixed = [seat for seat in seats if not seat.is_movable]
    if not fixed:
        return memory
    whole = memory - sum(seat.held_bytes for seat in fixed)
    expected = memory - sum(seat.counted_bytes for seat in fixed)
    needs = sum(seat.need_lasting_bytes for seat in seats if seat.is_movable) + reserve
    return min(expected, max(whole, needs))


def share_out(table: Table, seats: list[Seat], pool: int, wanted: int, where: str = "") -> int:
    """Sets the wishes for a pool of memory of which `wanted` is to stay free. Returns what stays free of it.

    Args:
        table: of this tick.
        seats: among whom.
        pool: bytes that are divided.
        wanted: of it, to stay free.
        where: the limit that it lies within; "" = the host.
    """
    low = sum(seat.need_lasting_bytes for seat in seats)
    guaranteed = [seat for seat in seats if seat.guest.guaranteed_bytes] if table.limits.has("R10") else []
    owed = sum(_owed_bytes(seat, seat.need_lasting_bytes) for seat in guaranteed)
    free = max(wanted, owed)
    if low + free > pool and table.limits.has("R9"):
        low = _bound_claims(seats, pool)
    if low + free <= pool:
        _spread(seats, pool - free)
        return free
    least = int(wanted * LEAST_RESERVE)
    # What guests used a moment ago is let go before what guests read again now.
    near = sum(seat.need_soon_bytes for seat in seats)
    low -= cache_needs.give_up(seats, pool, near + max(least, owed) - pool)
    if low + max(least, owed) <= pool:  # the reserve shrinks first, as far as it must
        for seat in seats:
            seat.wish_bytes = seat.need_lasting_bytes
        return pool - low
    owed = sum(_owed_bytes(seat, seat.need_now_bytes) for seat in guaranteed)
    return max(owed, _shrink(table, seats, pool - owed, least, where))


def _bound_claims(seats: list[Seat], pool: int) -> int:
    """R9: when not everything fits, a guest has no more than its share of all on its word alone: what others leave goes to
    needs that the host has seen. Gives the sum of low needs then.
    """
    shares = sum(seat.guest.shares or 1 for seat in seats)
    for seat in seats:
        seat.part_bytes = int(pool * (seat.guest.shares or 1) / shares)
        if seat.need_now_bytes <= seat.part_bytes or not seat.may_give:
            continue
        most = max(seat.proven_bytes, seat.part_bytes, seat.floor_bytes)
        if seat.need_now_bytes > most:
            past = seat.need_soon_bytes - seat.need_now_bytes
            seat.need_now_bytes = most
            seat.need_soon_bytes = min(seat.need_soon_bytes, most + past)
            seat.need_lasting_bytes = min(seat.need_lasting_bytes, seat.need_soon_bytes)
    return sum(seat.need_lasting_bytes for seat in seats)


def lend_margins(table: Table, seats: list[Seat], pool: int, wanted: int, where: str) -> None:
    """What donors cannot give within moments is not there yet: others lend of their margins until it comes, and no more.

    Args:
        table: of this tick.
        seats: among whom.
        pool: bytes that were divided among them.
        wanted: of it, to stay free.
        where: the limit that it lies within; "" = the host.
    """
    far = sum(map(_far_bytes, seats))
    if where in table.rationed or not far or sum(seat.need_lasting_bytes for seat in seats) + wanted + far <= pool:
        return
    here = pool - far
    if here >= sum(seat.need_now_bytes for seat in seats):
        share_out(table, seats, here, wanted, where)
    else:
        _lay_bare(seats, here)


def _lay_bare(seats: list[Seat], pool: int) -> None:
    """Sets wishes between what guests use and their least needs."""
    bare = [_bare_bytes(seat) for seat in seats]
    part = max(0.0, pool - sum(bare)) / max(1, sum(seat.need_now_bytes for seat in seats) - sum(bare))
    for seat, least in zip(seats, bare, strict=True):
        seat.wish_bytes = least + int(part * (seat.need_now_bytes - least))


def _bare_bytes(seat: Seat) -> int:
    """What a guest uses now, and a part of its least margin: for the moments in which others page already."""
    used = min(seat.need_now_bytes, max(seat.memory.use.used_bytes, seat.memory.use.said_bytes))
    return max(min(seat.need_now_bytes, seat.floor_bytes), used + int(BARE_PART * (seat.need_now_bytes - used)))


def _owed_bytes(seat: Seat, need: int) -> int:
    """R10: what it is guaranteed beyond its need. Used by others it could not be had back: most cannot page out."""
    return max(0, min(seat.guest.guaranteed_bytes, seat.most_bytes) - need)


def _far_bytes(seat: Seat) -> int:
    """What a donor holds beyond its wish and its balloon cannot take in the next moments."""
    if not seat.may_give or seat.keep_bytes <= seat.wish_bytes:
        return 0
    return max(0, seat.keep_bytes - int(REACH_S * take_per_s(seat)) - seat.wish_bytes)


def _shrink(table: Table, seats: list[Seat], pool: int, reserve: int, where: str) -> int:
    """Not all needs fit: the recent past goes first, then the margins. Gives what stays free of the pool."""
    left = pool - reserve
    low = sum(seat.need_lasting_bytes for seat in seats)
    near = sum(seat.need_soon_bytes for seat in seats)
    tight = sum(seat.need_now_bytes for seat in seats)
    if near <= left:
        part = min(1.0, (left - near) / max(1, low - near))
        for seat in seats:
            seat.wish_bytes = seat.need_soon_bytes + int(part * (seat.need_lasting_bytes - seat.need_soon_bytes))
        return reserve
    for seat in seats:
        seat.claim_bytes = _claim_bytes(seat)
    if sum(seat.claim_bytes for seat in seats) > pool:
        return _ration(table, seats, pool, reserve, where)
    if table.is_pressed and left < tight:
        _lay_bare(seats, left)  # a host that runs out of memory pages for all of them
    else:
        part = max(0.0, left - tight) / max(1, near - tight)
        for seat in seats:
            seat.wish_bytes = seat.need_now_bytes + int(part * (seat.need_soon_bytes - seat.need_now_bytes))
    return reserve


def _ration(table: Table, seats: list[Seat], pool: int, reserve: int, where: str) -> int:
    """R10: not even tight needs fit. Floors and guarantees first, the rest at one price for all: each has its part. Returns
    what stays free for guests that have not asked for all of their parts: they shall not wait for another guest's balloon.
    """
    table.rationed.add(where)
    for seat in seats:
        seat.rationed_by = where
    if not table.limits.has("R10"):  # first come, first served
        left = pool
        for seat in seats:
            seat.wish_bytes = max(1, min(seat.need_now_bytes, left))
            seat.leave_bytes = seat.part_now_bytes = seat.wish_bytes
            left -= seat.wish_bytes
        return 0
    level = fund(seats, pool, _least_bytes, _asked_bytes)
    for seat in seats:
        seat.leave_bytes = min(seat.wish_bytes, seat.need_now_bytes)
    unasked = sum(
        max(0, min(seat.most_bytes, int(level * (seat.guest.shares or 1))) - seat.wish_bytes)
        for seat in seats
        if seat.may_take and seat.wish_bytes >= seat.claim_bytes
    )
    kept = min(reserve, unasked, max(0, sum(seat.claim_bytes for seat in seats) - pool))
    if kept:
        fund(seats, pool - kept, _least_bytes, _asked_bytes)
    for seat in seats:
        seat.part_now_bytes = seat.wish_bytes
        # Who cannot page out is protected up to its part: beyond that others would page for it (R6).
        seat.floor_bytes = min(seat.floor_bytes, max(floor_bytes(seat.guest), seat.wish_bytes))
    return kept


def _least_bytes(seat: Seat) -> int:
    """What a guest has before anything is divided: floor, and what it uses of its guarantee; all, if it cannot give."""
    if not seat.may_give:
        return seat.keep_bytes
    return max(min(seat.floor_bytes, floor_bytes(seat.guest)), min(seat.need_now_bytes, seat.guest.guaranteed_bytes))


def _claim_bytes(seat: Seat) -> int:
    """What a guest asks for: the least that it needs, and within its share what it goes on to read back of what it paged out."""
    memory = seat.memory
    if not memory.use.swapped_bytes and seat.may_give and seat.need_now_bytes >= seat.floor_bytes:
        return seat.need_now_bytes  # as of most guests
    out = min(memory.use.swapped_bytes, int(memory.use.swap_in_per_s * GOES_ON_S)) - back_bytes(memory)
    return max(_least_bytes(seat), seat.need_now_bytes, min(seat.need_now_bytes + out, seat.part_bytes, seat.most_bytes))


def _asked_bytes(seat: Seat) -> int:
    return seat.claim_bytes


def _spread(seats: list[Seat], amount: int) -> None:
    """Divides `amount`: low needs first, on top by shares what guests filled with cache, and likewise what is left. What is
    plainly free goes before what a guest may live on.
    """
    filled = [max(seat.need_lasting_bytes, _filled_bytes(seat)) for seat in seats]
    if sum(filled) > amount:
        claims = [
            (low := seat.need_lasting_bytes, most, low, seat.guest.shares or 1) for seat, most in zip(seats, filled, strict=True)
        ]
    else:
        _return(seats, filled, amount - sum(filled))
        claims = [
            (least, max(least, seat.most_bytes), least, seat.guest.shares or 1) for seat, least in zip(seats, filled, strict=True)
        ]
    level = fill(claims, amount)
    for seat, claim in zip(seats, claims, strict=True):
        seat.wish_bytes = int(at_level(claim, level))


def _return(seats: list[Seat], filled: list[int], spare: int) -> None:
    """Of what is plainly spare those come first whose memory is to be given back; adds to what each fills."""
    first = [number for number, seat in enumerate(seats) if seat.guest.deflates]
    if first:
        claims = [(0.0, float(max(0, seats[n].most_bytes - filled[n])), 0.0, float(seats[n].guest.shares or 1)) for n in first]
        level = fill(claims, spare)
        for number, claim in zip(first, claims, strict=True):
            filled[number] += int(at_level(claim, level))


def _filled_bytes(seat: Seat) -> int:
    """What a guest has done something with: all but what it has plainly free, by its word, and what it never touched."""
    stats = seat.guest.stats
    if stats is None or stats.free_bytes is None:
        return seat.keep_bytes
    filled = seat.keep_bytes - stats.free_bytes
    occupied = seat.guest.occupied_bytes
    return filled if occupied is None or occupied > filled else occupied
