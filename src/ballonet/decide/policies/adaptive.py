"""Ours: each guest what it needs and a fair part of the spare, moved only when somebody has use for it.

1. Every guest has a need (R2): by its use of late (`low`), by its use now (`near`), and with a small margin (`tight`).
2. If all low needs and the reserve (R3) fit, the spare is divided by shares on top. If not, the reserve shrinks to a
   third, then the recent past is let go, then margins shrink, then the guaranteed bytes come first and the rest goes by
   shares (R10); who is short is named, with by how much.
3. A guest below its need gets its whole wish now (R1). A guest above its wish gives only while the host lacks its
   reserve, the one with most to spare first. Spare is handed out only in portions, and in
   quiet times. So a fixed world rests (R12).

4. Who suffered from giving is left in peace (R5); how many give at once follows the host's pressure (R11); what state the
   host is in bounds all of it (R14).
"""

from typing import Any, Final

from ballonet.decide.fairness import at_level, fill, fund
from ballonet.decide.pace import LEAST_STEP_BYTES, PORTION_SHARE, donors_at_once, step_bytes, take_per_s
from ballonet.decide.seat import Seat
from ballonet.decide.states import ALARMING, SCARCE
from ballonet.decide.stuck import is_under_way
from ballonet.decide.table import Table
from ballonet.model.plan import Reason, Shortage

LEAST_RESERVE: Final = 1 / 3
"""Part of the reserve that stays while margins are full: grants of the next moments come out of it."""
SPARE_BAND_SHARE: Final = 0.06
"""Of the ceiling: spare is handed out in portions of at least this much."""
SPARE_AFTER_S: Final = 10.0
"""Spare is handed out only when nobody was moved out of need for so long: given earlier, it is soon asked back, and each
page that goes to and fro costs both guests more than it is worth to the one that does not need it."""
REFILL_SHARE: Final = 0.2
"""Of the reserve: a smaller gap in it is not worth a command."""
GROWING_SHARE_PER_S: Final = 0.01
"""Of the ceiling: a guest that grows faster gives last, and only when others lack: what it gave it would soon ask back."""
REACH_S: Final = 0.8
"""What arrives within this time is as good as there: little more than what the needs look ahead (TIGHT_HORIZON_S)."""


def divide(table: Table) -> None:
    """Sets every wish, and who is short."""
    movable = [seat for seat in table.seats if seat.may_give or seat.may_take]
    pool = table.memory_bytes - sum(seat.held_bytes for seat in table.seats if not (seat.may_give or seat.may_take))
    reserve = _share_out(table, movable, pool)
    needed = sum(seat.low_bytes for seat in movable) + table.reserve_bytes
    far = sum(map(_far_bytes, movable))
    is_emptied = table.state in ALARMING and needed <= pool
    if far and needed + far > pool and not is_emptied:
        # What donors cannot give within moments is not there yet: others lend of their margins until it comes.
        reserve = _share_out(table, movable, pool - far)
    _move(table, movable, reserve)


# What each should have


def _share_out(table: Table, seats: list[Seat], pool: int) -> int:
    """Sets the wishes for a pool of memory. Gives what stays free of it."""
    low = sum(seat.low_bytes for seat in seats)
    guaranteed = [seat for seat in seats if seat.guest.guaranteed_bytes] if table.limits.has("R10") else []
    owed = sum(_owed_bytes(seat, seat.low_bytes) for seat in guaranteed)
    free = max(table.reserve_bytes, owed)
    if low + free <= pool:
        # A host that runs out of memory has no spare: all that guests do not need is asked back (R14).
        free = pool - low if table.state in ALARMING else free
        _spread(seats, pool - free)
        return free
    least = int(table.reserve_bytes * LEAST_RESERVE)
    owed = sum(_owed_bytes(seat, seat.tight_bytes) for seat in guaranteed)
    _shrink(table, seats, pool - owed, least)
    return max(least, owed)


def _owed_bytes(seat: Seat, need: int) -> int:
    """R10: what it is guaranteed beyond its need. Used by others it could not be had back: most cannot page out."""
    return max(0, min(seat.guest.guaranteed_bytes, seat.most_bytes) - need)


def _far_bytes(seat: Seat) -> int:
    """What a donor holds beyond its wish and its balloon cannot take in the next moments."""
    if not seat.may_give or seat.keep_bytes <= seat.wish_bytes:
        return 0
    return max(0, seat.keep_bytes - int(REACH_S * take_per_s(seat)) - seat.wish_bytes)


def _shrink(table: Table, seats: list[Seat], pool: int, reserve: int) -> None:
    """Not all needs fit: the recent past goes first, then the margins."""
    left = pool - reserve
    low = sum(seat.low_bytes for seat in seats)
    near = sum(seat.near_bytes for seat in seats)
    tight = sum(seat.tight_bytes for seat in seats)
    if near <= left:
        part = min(1.0, (left - near) / max(1, low - near))
        for seat in seats:
            seat.wish_bytes = seat.near_bytes + int(part * (seat.low_bytes - seat.near_bytes))
    elif tight <= pool:
        part = max(0.0, left - tight) / max(1, near - tight)
        for seat in seats:
            seat.wish_bytes = seat.tight_bytes + int(part * (seat.near_bytes - seat.tight_bytes))
    else:
        _ration(table, seats, pool)


def _ration(table: Table, seats: list[Seat], pool: int) -> None:
    """R10: not even tight needs fit. Floors and guarantees first, the rest at one price for all."""

    def least_bytes(seat: Seat) -> int:
        return max(seat.floor_bytes, min(seat.tight_bytes, seat.guest.guaranteed_bytes))

    if table.limits.has("R10"):
        fund(seats, pool, least_bytes, lambda seat: max(least_bytes(seat), seat.tight_bytes))
    else:  # whoever comes first
        left = pool
        for seat in seats:
            seat.wish_bytes = max(1, min(seat.tight_bytes, left))
            left -= seat.wish_bytes
    for seat in seats:
        if seat.wish_bytes < seat.tight_bytes:
            seat.is_short = True
            table.short.append(Shortage(seat.guest.name, seat.tight_bytes - seat.wish_bytes))


def _spread(seats: list[Seat], amount: int) -> None:
    """Divides `amount`: the low needs, and by shares on top what is left, nobody above what it can keep."""
    claims = [(seat.low_bytes, max(seat.low_bytes, seat.most_bytes), seat.low_bytes, seat.guest.shares or 1) for seat in seats]
    level = fill(claims, amount)
    for seat, claim in zip(seats, claims, strict=True):
        seat.wish_bytes = int(at_level(claim, level))


# Who moves now


def _move(table: Table, seats: list[Seat], reserve: int) -> None:
    """Turns wishes into what to ask for now; a seat that does not move wishes what it keeps.

    A guest gets its whole wish when it keeps less than it should by its use now: its use of late keeps others from taking,
    and is no reason to give. Refilled pasts of guests that had shrunk went to and fro, 53 times in 70 s.
    """
    is_calm = table.limits.has("R12")
    gap = reserve - table.slack_bytes
    # While one lacks what it is guaranteed, nobody is spared: more than its part is not a guest's to keep (R10).
    owes = any(
        seat.guest.guaranteed_bytes and seat.held_bytes < min(seat.guest.guaranteed_bytes, seat.tight_bytes) for seat in seats
    )
    donors: list[tuple[int, Seat]] = []
    for seat in seats:
        # A donor on its way down is counted as arrived; else it would be asked for the same bytes again each tick.
        here = _heading_bytes(seat)
        wish = seat.wish_bytes
        if _is_due(seat, here, min(seat.near_bytes, wish), is_calm):
            gap += max(0, wish - max(here, seat.held_bytes))
            wait_s = max(0.0, seat.memory.cool_until - table.now)
            _set(seat, _release(table, seat, here), _gain_reason(seat), wait_s=wait_s)
        elif wish < here and seat.may_give and (owes or not _is_spared(table, seat)):
            gap -= min(max(0, seat.keep_bytes - here), int(REACH_S * take_per_s(seat)))
            donors.append((here - wish, seat))
            _rest(seat, here)
        elif not _is_time_for_spare(table, seat, wish - here):
            _rest(seat, here)
        else:
            _set(seat, wish, Reason.SPARE)
    if gap > (REFILL_SHARE * reserve if is_calm else 0):
        _take(table, donors, gap, is_pressing=gap > reserve or table.state in ALARMING)


def _is_time_for_spare(table: Table, seat: Seat, more: int) -> bool:
    """Spare is handed out in quiet times, in portions, and while the host is not scarce."""
    if not table.limits.has("R12"):
        return True
    is_portion = more >= SPARE_BAND_SHARE * seat.guest.ceiling_bytes
    return table.quiet_s >= SPARE_AFTER_S and table.state not in SCARCE and is_portion


def _is_due(seat: Seat, here: int, need: int, is_calm: bool) -> bool:  # noqa: FBT001 a rule in force or not
    """Whether a guest below its need gets more now: at once when it is near paging, else when it is worth a command."""
    portion = PORTION_SHARE * seat.guest.ceiling_bytes if is_calm else 0
    return seat.may_take and here < need and (here < seat.tight_bytes or need - here >= portion)


def _release(table: Table, seat: Seat, here: int) -> int:
    """R1: at once and entirely, whatever the host's own state. Without the rule: thresholds first, and in steps."""
    if table.limits.has("R1"):
        return seat.wish_bytes
    return min(seat.wish_bytes, here + LEAST_STEP_BYTES) if table.slack_bytes >= table.reserve_bytes else here


def _heading_bytes(seat: Seat) -> int:
    """What the guest keeps when it has done what it was asked last."""
    memory = seat.memory
    if seat.is_still or memory.asked_bytes is None or memory.parked_sign or not is_under_way(memory, seat.keep_bytes):
        return seat.keep_bytes
    return memory.asked_bytes


def _is_spared(table: Table, seat: Seat) -> bool:
    """Who suffered from giving is left in peace (R5); who is in distress gives nothing, however low the host is (R14)."""
    return seat.is_cooling or (seat.is_distressed and table.limits.has("R14"))


def _take(table: Table, donors: list[tuple[int, Seat]], gap: int, *, is_pressing: bool) -> None:
    """R3: the host refills its reserve, from those with most to spare; who grows gives last.

    When more is wanted now than is free, or the host runs out of memory (`is_pressing`), even small amounts are worth a command.
    """
    left = gap
    is_calm = table.limits.has("R12")
    at_once = donors_at_once(table, len(table.seats))
    moving = sum(seat.wish_bytes < seat.keep_bytes for _, seat in donors)
    for excess, seat in sorted(donors, key=_order):
        if left <= 0:
            return
        here, is_moving = seat.wish_bytes, seat.wish_bytes < seat.keep_bytes
        portion = int(PORTION_SHARE * seat.guest.ceiling_bytes) if is_calm and not is_pressing else 0
        if excess < portion or (moving >= at_once and not is_moving) or (is_calm and not is_pressing and _is_growing(seat)):
            continue
        step = excess if table.state in ALARMING else step_bytes(seat)
        room = max(0, step - max(0, seat.keep_bytes - here))
        taken = min(excess, max(left, portion), room)
        if taken > 0:
            _set(seat, here - taken, Reason.DONOR, deficit_bytes=gap)
            left -= taken
            moving += not is_moving


def _order(donor: tuple[int, Seat]) -> tuple[bool, int]:
    excess, seat = donor
    return _is_growing(seat), -excess


def _is_growing(seat: Seat) -> bool:
    """Whether it would soon ask back what it gave."""
    return seat.memory.growth_per_s > GROWING_SHARE_PER_S * seat.guest.ceiling_bytes


def _gain_reason(seat: Seat) -> Reason:
    if seat.is_cooling and seat.keep_bytes < seat.memory.cool_bytes:
        return Reason.FEEDBACK
    if seat.is_distressed:
        return Reason.DISTRESS
    return Reason.SHORT if seat.is_short else Reason.NEEDS


def _rest(seat: Seat, here: int) -> None:
    if seat.reason is Reason.CALM or seat.numbers is None:
        _set(seat, here, Reason.SHORT if seat.is_short else Reason.CALM)
    else:
        seat.wish_bytes = here


def _set(seat: Seat, wish: int, reason: Reason, **more: Any) -> None:
    seat.wish_bytes, seat.reason = wish, reason
    seat.numbers = {
        "need_bytes": seat.low_bytes,
        "used_bytes": seat.memory.used_bytes,
        "growth_bytes": int(seat.memory.growth_per_s),
        "swap_in_bytes": int(seat.memory.swap_in_per_s),
        "swap_out_bytes": int(seat.memory.swap_out_per_s),
        **more,
    }
