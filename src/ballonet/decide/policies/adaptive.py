"""Ours: each guest what it needs and a fair part of the spare, moved only when a guest has use for it.

1. Every guest has a need (R2): by its recent use (`low`), by its use now (`near`), and with a small margin (`tight`).
2. If all low needs and the reserve (R3) fit, the spare is divided by shares on top. If not, the reserve shrinks to a
   third, then the recent past is let go, then margins shrink, then the guaranteed bytes come first and the rest goes by
   shares (R10); who is short is named, with by how much.
3. A guest below its need gets its whole wish now (R1). A guest above its wish gives only while the host lacks its
   reserve, the one with most to spare first. Spare is handed out only in portions, and in
   quiet times. So a fixed world rests (R12).

4. Who suffered from giving is left in peace (R5); how many give at once follows the host's pressure (R11); what state the
   host is in bounds all of it (R14).
"""

from dataclasses import dataclass, field
from typing import Any, Final

from ballonet.decide import cache, cache_needs, leak
from ballonet.decide.division import pool_of
from ballonet.decide.limited import divide_under_limits
from ballonet.decide.pace import LEAST_STEP_BYTES, REACH_S, dead_band_bytes, donors_at_once, portion_bytes, step_bytes, take_per_s
from ballonet.decide.seat import Seat
from ballonet.decide.states import SCARCE
from ballonet.decide.table import Table
from ballonet.model.plan import Reason, ReserveReason, Shortage, limit_of
from ballonet.model.room import RoomState, some
from ballonet.model.units import MIB

SPARE_BAND_SHARE: Final = 0.06
"""Of the ceiling: spare is handed out in portions of at least this much."""
SPARE_AFTER_S: Final = 10.0
"""Spare is handed out only when no guest was moved out of need for this long: given earlier, it is soon asked back, and each
page that goes to and fro costs both guests more than it is worth to the one that does not need it."""
REFILL_SHARE: Final = 0.2
"""Of the reserve: a smaller gap in it is not worth a command."""
GROWING_SHARE_PER_S: Final = 0.01
"""Of the ceiling: a guest that grows faster gives last, and only when others lack: what it gave it would soon ask back."""
OPERATOR_SHARE: Final = 1 / 40
"""The same where an operator has set the reserve: that is meant as it is said."""
OVER_SHARE: Final = 0.0125
"""Of the ceiling: a guest this little above its part has its part: half a portion, so no guest is sent to and fro (R12)."""
LEAST_OVER_BYTES: Final = 12 * MIB
MOST_OVER_BYTES: Final = 512 * MIB
"""However large it is: others lack what it holds."""
FREE_SHARE: Final = 0.01
"""Of the ceiling: what a kernel keeps free for itself (watermarks) is not given as free memory."""
LEAST_RECALL_BYTES: Final = 16 * MIB
"""Less than this is not worth a command that stops a balloon."""


def divide(table: Table) -> None:
    """Sets every wish, and who is short."""
    movable = [seat for seat in table.seats if seat.is_movable]
    pool = pool_of(table.memory_bytes - table.rooms_bytes, table.seats, table.reserve_bytes)
    reserve = divide_under_limits(table, movable, pool)
    _move(table, movable, reserve, reserve - pool + sum(seat.held_bytes for seat in movable))


def _move(table: Table, seats: list[Seat], reserve: int, lacking: int) -> None:
    """Turns wishes into what to ask for now; a seat that does not move wishes what it keeps.

    A guest gets its whole wish when it keeps less than it should by its use now: its recent use keeps others from taking,
    and is no reason to give. Refilled pasts of guests that had shrunk went to and fro, 53 times in 70 s.
    """
    is_calm = table.limits.has("R12")
    # While one lacks what it is guaranteed, nobody is spared: more than its part is not a guest's to keep (R10).
    owes = any(
        seat.guest.guaranteed_bytes and seat.held_bytes < min(seat.guest.guaranteed_bytes, seat.need_now_bytes) for seat in seats
    )
    lacks = [(seat.rationed_by, _lacks_of_part(seat), seat) for seat in seats if seat.rationed_by is not None]
    asked = {where for where, lack, seat in lacks if lack > dead_band_bytes(seat)}
    # Where one lacks more than others are let off, nobody is: a little from each is all that it waits for.
    waiting = {where for where, lack, seat in lacks if lack > _over_bytes(seat)}
    is_dire = table.is_pressed and any(
        seat.may_take and seat.keep_bytes + dead_band_bytes(seat) < seat.need_now_bytes and not seat.is_cooling for seat in seats
    )
    moves = _Moves()
    for seat in seats:
        # A donor on its way down is counted as arrived; else it would be asked for the same bytes again each tick.
        here = _heading_bytes(seat) if seat.is_under_way else seat.keep_bytes
        wish = least = seat.wish_bytes
        if seat.rationed_by is not None:
            least = wish if seat.rationed_by in asked else max(wish, seat.leave_bytes)
            over = dead_band_bytes(seat) if seat.rationed_by in waiting else _over_bytes(seat)
            seat.is_short, seat.is_over = wish < seat.need_now_bytes, here > least + over
        if _is_due(seat, here, min(seat.need_soon_bytes, wish), is_calm):
            moves.due.append((max(0, wish - max(here, seat.held_bytes)), seat))
            wait_s = max(0.0, seat.memory.peace.cool_until - table.now)
            _set(seat, _release(table, seat, here), _gain_reason(seat), wait_s=wait_s)
        elif seat.guest.deflates:
            moves.due.append((max(0, wish - max(here, seat.held_bytes)), seat))
            _set(seat, max(wish, here), Reason.DEFLATE, goal_bytes=seat.guest.ceiling_bytes, why=seat.guest.deflates)
        elif least < here and seat.may_give and _is_donor(table, seat, owes=owes, is_dire=is_dire):
            moves.donors.append((least, seat))
            _rest(seat, here)
        elif not _is_time_for_spare(table, seat, wish - here):
            moves.resting.append((wish, seat))
            _rest(seat, here)
        else:
            _set(seat, wish, Reason.SPARE)
    for budget in table.budgets:
        inside = [seat for seat in budget.seats if seat.is_movable]
        left = pool_of(budget.memory_bytes, budget.seats, budget.reserve_bytes) - sum(seat.held_bytes for seat in inside)
        _refill(table, moves.within(inside), budget.reserve_bytes - left, budget.reserve_bytes, budget.name)
    _refill(table, moves, lacking, reserve)
    _name_short(table, seats)


def _is_donor(table: Table, seat: Seat, *, owes: bool, is_dire: bool) -> bool:
    """Whether a guest that holds more than its wish is asked for it."""
    return owes or seat.is_over or not _is_spared(table, seat, is_dire=is_dire)


@dataclass(slots=True)
class _Moves:
    """Who moves at a tick."""

    due: list[tuple[int, Seat]] = field(default_factory=list)
    """Who gets more, and how much."""
    donors: list[tuple[int, Seat]] = field(default_factory=list)
    """Guests above what they should have, and down to what each may be asked."""
    resting: list[tuple[int, Seat]] = field(default_factory=list)
    """The others, and what they should have."""

    def within(self, seats: list[Seat]) -> "_Moves":
        """Those of some seats only."""
        names = {seat.guest.name for seat in seats}
        lists = [[one for one in some if one[1].guest.name in names] for some in (self.due, self.donors, self.resting)]
        return _Moves(*lists)


def _refill(table: Table, moves: _Moves, lacking: int, reserve: int, where: str = "") -> None:
    """Asks donors for what is lacking besides what is due, or takes back what was asked for too much.

    Args:
        table: of this tick.
        moves: of this tick, of those under one limit, or of all.
        lacking: of the reserve; negative when more is free.
        reserve: what is to stay free.
        where: the limit; "" = the host.
    """
    is_rationed = where in table.rationed
    # What arrives within moments is as good as there; what was asked for at this tick, for a limit within, is too.
    gap = lacking + sum(more for more, _ in moves.due)
    gap -= sum(min(coming, int(REACH_S * take_per_s(seat))) for _, seat in moves.donors if (coming := _coming_bytes(seat)))
    # Nobody's cache is asked for at once so that another's comes back: who knows which is worth more.
    for_caches = sum(min(more, seat.cache_bytes) for more, seat in moves.due)
    is_pressing = gap - for_caches > reserve or table.is_pressed or is_rationed or (table.is_gathering and not where)
    band, is_ordered = 0.0, table.reserve.reason is ReserveReason.OPERATOR
    if table.limits.has("R12") and not is_rationed:
        band = OPERATOR_SHARE if is_ordered else REFILL_SHARE
    if any(seat.reason is Reason.DEFLATE for _, seat in moves.due) or (table.is_gathering and not where):
        band, is_ordered = 0.0, True  # what was ordered is wanted to its last part
    if gap > band * reserve and not (table.is_meeting and not table.is_pressed):
        _take(table, moves.donors, gap, is_pressing=is_pressing, is_ordered=is_ordered)
    elif gap < 0:
        _recall(moves.resting, -gap, reserve)


def _coming_bytes(seat: Seat) -> int:
    """What a donor was asked for and has not given yet, by orders of before or of this tick."""
    return max(0, seat.keep_bytes - seat.wish_bytes)


def _recall(resting: list[tuple[int, Seat]], surplus: int, reserve: int) -> None:
    """What was asked for and is not missing any more stays where it is: an emergency that is over takes no more (R14)."""
    coming = [
        (seat, min(more, wish - seat.wish_bytes)) for wish, seat in resting if seat.may_take and (more := _coming_bytes(seat))
    ]
    left = surplus + sum(_coming_bytes(seat) for seat, _ in coming) - int(REFILL_SHARE * reserve)
    for seat, most in sorted(coming, key=lambda one: -one[1]):
        back = min(most, left)
        if back >= max(LEAST_RECALL_BYTES, portion_bytes(seat.guest.ceiling_bytes)):
            _set(seat, seat.wish_bytes + back, Reason.RECALL, recalled_bytes=back)
            left -= back


def _name_short(table: Table, seats: list[Seat]) -> None:
    """R10: who is short, and by how much: who has less than the least that it needs now, and does not hold more than its part."""
    if not table.rationed:
        return
    rationed = [seat for seat in seats if seat.rationed_by is not None]
    waiting = {seat.rationed_by for seat in rationed if _lacks_of_part(seat) > _over_bytes(seat)}
    for seat in rationed:
        someone_waits = seat.rationed_by in waiting
        if seat.is_short and _is_leak(table, seat):
            _name_leak(seat)
            continue
        lacks = seat.need_now_bytes - (min(seat.keep_bytes, seat.wish_bytes) if someone_waits else seat.part_now_bytes)
        if lacks > 0 and seat.may_take and not (someone_waits and seat.is_over):
            table.short.append(Shortage(seat.guest.name, lacks, seat.rationed_by or ""))


def _lacks_of_part(seat: Seat) -> int:
    """What a guest waits for: its part, or its need where that is less, is still with others."""
    return min(seat.need_now_bytes, seat.part_now_bytes) - seat.keep_bytes if seat.may_take else 0


def _is_leak(table: Table, seat: Seat) -> bool:
    return seat.need_now_bytes > seat.part_bytes and leak.is_endless(seat.memory, seat.guest.ceiling_bytes, table.now)


def _name_leak(seat: Seat) -> None:
    memory = seat.memory
    risen = memory.rise.rise_peak_bytes - memory.rise.rise_from_bytes
    more = {
        "risen_bytes": risen,
        "rising_s": memory.rise.rise_peak_at - memory.rise.rise_at,
        "demand_bytes": memory.use.used_bytes + memory.use.swapped_bytes,
    }
    _set(seat, seat.wish_bytes, Reason.LEAK, **more)


def _is_time_for_spare(table: Table, seat: Seat, more: int) -> bool:
    """Spare is handed out in quiet times, in portions, and while the host is not scarce."""
    if not table.limits.has("R12"):
        return True
    is_portion = more >= SPARE_BAND_SHARE * seat.guest.ceiling_bytes
    return is_portion and table.quiet_s >= SPARE_AFTER_S and table.state not in SCARCE and table.idle_bytes >= more


def _is_due(seat: Seat, here: int, need: int, is_calm: bool) -> bool:  # noqa: FBT001 a rule in force or not
    """Whether a guest below its need gets more now: at once when it is near paging, else when it is worth a command."""
    portion = portion_bytes(seat.guest.ceiling_bytes) if is_calm else 0
    if not seat.may_take or here >= need:
        return False
    return here < seat.need_now_bytes or need - here >= portion


def _release(table: Table, seat: Seat, here: int) -> int:
    """R1: at once and entirely, whatever the host's own state. Without the rule: thresholds first, and in steps."""
    if table.limits.has("R1"):
        return seat.wish_bytes
    return min(seat.wish_bytes, here + LEAST_STEP_BYTES) if table.slack_bytes >= table.reserve_bytes else here


def _heading_bytes(seat: Seat) -> int:
    """What the guest keeps when it has done what it was asked last."""
    memory = seat.memory
    return seat.keep_bytes if memory.motion.asked_bytes is None or memory.motion.parked_sign else memory.motion.asked_bytes


def _is_spared(table: Table, seat: Seat, *, is_dire: bool) -> bool:
    """Who suffered from giving is left in peace (R5), but not while the host runs out of memory and another pages for want of
    some; who is in distress gives nothing, however low the host is (R14).
    """
    return (seat.is_cooling and not is_dire) or (seat.is_distressed and table.limits.has("R14"))


def _take(table: Table, donors: list[tuple[int, Seat]], gap: int, *, is_pressing: bool, is_ordered: bool) -> None:
    """R3: the host refills its reserve: from those with most plainly free memory first, then with most to spare at all; who grows
    gives last. What is free costs nobody anything; page cache may be what a guest lives on.

    When more is wanted now than is free, or the host runs out of memory (`is_pressing`), even small amounts are worth a command.
    """
    is_calm = table.limits.has("R12") and not is_pressing
    at_once = donors_at_once(table, len(table.seats))
    moving = sum(seat.wish_bytes < seat.keep_bytes for _, seat in donors)
    left = gap
    steps = [(wish, step_bytes(seat), seat) for wish, seat in donors]
    for is_free_only in (True, False):
        offers = [
            (
                _free_part(seat, wish) if is_free_only else _cached_part(table, seat, wish, at_once=is_pressing or is_ordered),
                most,
                seat,
            )
            for wish, most, seat in steps
        ]
        for offer, most, seat in sorted((one for one in offers if one[0] > 0), key=_order):
            if left <= 0:
                return
            is_moving = seat.wish_bytes < seat.keep_bytes
            portion = _least_offer(table, seat, is_calm=is_calm, is_ordered=is_ordered)
            if offer < portion or (moving >= at_once and not is_moving) or (is_calm and _is_growing(seat)):
                continue
            room = max(0, most - _coming_bytes(seat))
            taken = min(offer, max(left, portion), room)
            if taken > 0:
                _ask(table, seat, taken, gap)
                left -= taken
                moving += not is_moving


def _ask(table: Table, seat: Seat, taken: int, gap: int) -> None:
    """Asks a donor for this amount, and says what for."""
    wish = seat.wish_bytes - taken
    if table.is_gathering and not seat.is_over:
        names = [place.room.name for place in table.places if place.state is RoomState.GATHERING]
        _set(seat, wish, Reason.ROOM, deficit_bytes=gap, names=some(names))
    else:
        _set(seat, wish, Reason.PART if seat.is_over else Reason.DONOR, deficit_bytes=gap)


def _least_offer(table: Table, seat: Seat, *, is_calm: bool, is_ordered: bool) -> int:
    """The least that is worth asking of a donor."""
    if is_calm:
        # A reserve that was ordered and can be had is had, be it little from each. One that cannot is not worth small steps.
        return dead_band_bytes(seat) + 1 if is_ordered else portion_bytes(seat.guest.ceiling_bytes)
    if not table.limits.has("R12"):
        return 0
    is_pressing = table.is_pressed or seat.rationed_by is None or seat.is_over
    return dead_band_bytes(seat) + 1 if is_pressing else _over_bytes(seat)


def _over_bytes(seat: Seat) -> int:
    """A guest this little above its part has its part."""
    return max(LEAST_OVER_BYTES, min(MOST_OVER_BYTES, int(OVER_SHARE * seat.guest.ceiling_bytes)))


def _free_part(seat: Seat, wish: int) -> int:
    """What a donor has plainly free of what it may be asked for, by its word; what is under way already comes out of that."""
    stats, offer = seat.guest.stats, seat.wish_bytes - wish
    if stats is None or stats.free_bytes is None:
        return 0
    kept = int(FREE_SHARE * seat.guest.ceiling_bytes)
    return max(0, min(offer, stats.free_bytes - kept - _coming_bytes(seat)))


def _cached_part(table: Table, seat: Seat, wish: int, *, at_once: bool) -> int:
    """What a donor may be asked for, its cache too: all when it is wanted now, else a step, to see what it costs (R17)."""
    offer = seat.wish_bytes - wish
    if at_once or not table.limits.has("R17"):
        return offer
    most = cache.askable_bytes(seat.memory, seat.guest.ceiling_bytes, table.now)
    return offer if most is None else min(offer, max(0, most - _coming_bytes(seat)) + _free_part(seat, wish))


def _order(donor: tuple[int, int, Seat]) -> tuple[bool, int, int]:
    """A donor that would soon ask it back comes last; before it the one that gives most at once: few give at a time (R11)."""
    offer, most, seat = donor
    return _is_growing(seat), -(offer if offer < most else most), -offer


def _is_growing(seat: Seat) -> bool:
    """Whether it would soon ask back what it gave."""
    return seat.memory.use.growth_per_s > GROWING_SHARE_PER_S * seat.guest.ceiling_bytes


def _gain_reason(seat: Seat) -> Reason:
    if seat.is_cooling and seat.keep_bytes < seat.memory.peace.cool_bytes:
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
    memory = seat.memory
    seat.wish_bytes = wish
    seat.reason = reason
    seat.numbers = {
        "need_bytes": seat.need_lasting_bytes,
        "used_bytes": memory.use.used_bytes,
        "growth_bytes": int(memory.use.growth_per_s),
        "swap_in_bytes": int(memory.use.swap_in_per_s),
        "swap_out_bytes": int(memory.use.swap_out_per_s),
    }
    if cache_needs.is_found(seat):
        seat.numbers |= {"cache_bytes": seat.cache_bytes, "cache_reads_per_s": round(memory.reread.saved_per_s)}
    if seat.rationed_by:
        seat.numbers["within"] = limit_of(seat.rationed_by)
    if more:
        seat.numbers |= more
