"""R18: room for VMs that are about to start. What can be had is known before anything moves; it is gathered below all needs and
above all spare, lent to nobody, and counted with the guest from the tick on in which that appears.

A room is no part of the reserve: that is refilled when much of it is missing, and shrinks when not everything fits. With seven
donors on 100 GiB, a reserve that was raised by 28 GiB brought 12.8 (simulated).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ballonet.decide.classify import spare
from ballonet.decide.division import LEAST_RESERVE
from ballonet.decide.floor import floor_bytes
from ballonet.decide.pace import dead_band_bytes, take_per_s
from ballonet.decide.seat import Seat
from ballonet.decide.states import ALARMING
from ballonet.decide.table import BudgetTable, Table
from ballonet.model.plan import Reason
from ballonet.model.room import COUNTED, PEACE_S, Room, RoomPlan, RoomReason, RoomState, is_uuid, some
from ballonet.model.snapshot import Mode
from ballonet.model.text import typed
from ballonet.model.units import format_size

READY_RESERVE: Final = 0.8
"""Of the reserve: what is free beyond a room that is ready. A smaller gap in it is not refilled either (adaptive.py)."""
SILENT_S: Final = 120.0
"""A VM that has taken its room and whose balloon driver has not spoken for this long has none, and counts as any such guest."""
STALLED_S: Final = 20.0
"""What can no longer be had for this long is given up: guests have come to need it, or nobody may be moved any more."""
UNSEEN_S: Final = 5.0
"""When memory of a room that was ready is gone, its VM may have begun to take it before its adapter has seen it: this long
nothing is gathered anew."""
HELPS: Final = 3
"""The number of them that are told."""
_LET_GO: Final = re.compile(r"to let it go: (.*)$")


@dataclass(slots=True)
class Place:
    """A room at the table of one tick."""

    room: Room
    state: RoomState
    reason: RoomReason
    granted_bytes: int = 0
    gathered_bytes: int = 0
    can_bytes: int = 0
    is_stalled: bool = False
    """It was granted, and cannot be had any more."""
    numbers: dict[str, Any] = field(default_factory=dict)
    helps: tuple[str, ...] = ()

    def refuse(self, reason: RoomReason, **numbers: Any) -> None:
        """Nothing is kept for it."""
        self.state, self.reason, self.numbers, self.granted_bytes = RoomState.REFUSED, reason, numbers, 0


def admit(table: Table, rooms: Sequence[Room], known: Mapping[str, object], *, keeps_rooms: bool, policy: str) -> None:
    """Which rooms are taken, which can be had, and what they come to in the sums of this tick.

    Args:
        table: of this tick, before anything is divided.
        rooms: in the order in which they were asked for.
        known: guests that were there before this tick, by name.
        keeps_rooms: whether the policy gathers any.
        policy: its name.
    """
    if not rooms:
        return
    find = _Finder(table.seats)
    table.places = [_place(room, find(room), known) for room in rooms]
    for place in table.places:
        if (seat := find(place.room)) is not None:
            _count(table, place, seat)
    if not table.is_new:  # a daemon that has just started has not met its guests
        _grant(table, keeps_rooms=keeps_rooms, policy=policy)
    counted = sum(map(_counted_bytes, table.places))
    needs = sum(one.need_lasting_bytes if one.is_movable else one.counted_bytes for one in table.seats)
    table.rooms_bytes = min(counted, max(0, table.memory_bytes - needs - int(LEAST_RESERVE * table.reserve_bytes)))
    table.is_gathering = any(place.state is RoomState.GATHERING and not place.is_stalled for place in table.places)
    for budget in _around_all(table):
        budget.memory_bytes -= table.rooms_bytes  # a VM that starts will lie under it too


class _Finder:
    """Whose a room is: by UUID, else by name. Names are not unique everywhere, and a UUID is never another VM's."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._uuids = {one.guest.uuid.lower(): one for one in seats if one.guest.uuid}
        self._names = {one.guest.name: one for one in seats}

    def __call__(self, room: Room) -> Seat | None:
        if (found := self._uuids.get(room.key.lower())) is not None:
            return found
        named = self._names.get(room.name) or self._names.get(room.key)
        return None if named is not None and named.guest.uuid and is_uuid(room.key) else named


def _place(room: Room, seat: Seat | None, known: Mapping[str, object]) -> Place:
    """What became of a room by what runs now."""
    if room.state is RoomState.ASKED and seat is not None and seat.guest.name in known:
        return Place(room, RoomState.REFUSED, RoomReason.RUNS)
    if room.state.is_pending and seat is None:
        is_stalled = room.state is RoomState.READY and room.stalled_s > 0
        return Place(room, room.state, _as_it_was(room), room.granted_bytes, is_stalled=is_stalled)
    if seat is None:
        return Place(room, room.state, RoomReason.GONE, room.granted_bytes)
    guest = seat.guest
    has_settled = not guest.is_starting and (guest.stats is not None or room.taken_s > SILENT_S)
    if room.state is RoomState.SETTLED or (room.state is RoomState.TAKEN and has_settled):
        return Place(room, RoomState.SETTLED, RoomReason.SETTLED, room.granted_bytes, numbers={"peace_s": PEACE_S})
    reason = RoomReason.TAKEN if room.granted_bytes else RoomReason.EARLY
    return Place(room, RoomState.TAKEN, reason, room.granted_bytes)


def _as_it_was(room: Room) -> RoomReason:
    if room.state in {RoomState.ASKED, RoomState.QUEUED}:
        return RoomReason.QUEUED
    if room.state is RoomState.READY:
        return RoomReason.READY
    return RoomReason.AGAIN if room.was_ready else RoomReason.GATHERING


def _count(table: Table, place: Place, seat: Seat) -> None:
    """A guest that has taken its room counts at that, or at more, until it has settled; then it has peace for a while."""
    if place.state is RoomState.TAKEN:
        granted = place.granted_bytes
        seat.held_bytes, seat.counted_bytes = max(seat.held_bytes, granted), max(seat.counted_bytes, granted)
        seat.whole_bytes, seat.is_still = max(seat.whole_bytes, granted), False
    is_at_peace = place.state in {RoomState.TAKEN, RoomState.SETTLED} and place.room.settled_s <= PEACE_S
    if is_at_peace and seat.may_give and table.state not in ALARMING:
        spare(seat)


def _counted_bytes(place: Place) -> int:
    """What counts besides the guests: rooms whose VM is still to come, or has come and is not seen just now."""
    if place.is_stalled:  # what is there is kept, and no more is taken for what cannot come
        return min(place.granted_bytes, place.room.gathered_bytes)
    is_gone = place.state is RoomState.TAKEN and place.reason is RoomReason.GONE
    return place.granted_bytes if place.state in COUNTED or is_gone else 0


def _grant(table: Table, *, keeps_rooms: bool, policy: str) -> None:
    """Grants what can be had, first come, first served: all of it, or what is of use; never a part that waits for the rest. What
    cannot be had now waits, if it may, and lets pass what can.
    """
    pending = [place for place in table.places if place.state.is_pending]
    if not pending:
        return
    if refusal := _never(table, keeps_rooms=keeps_rooms):
        for place in pending:
            place.can_bytes = max(0, can_bytes(table))
            place.refuse(refusal, policy=policy)
        return
    left = can_bytes(table) - sum(_counted_bytes(place) for place in table.places if not place.state.is_pending)
    ahead: list[str] = []
    for place in pending:
        place.can_bytes = max(0, left)
        if place.state in COUNTED:
            _judge_anew(table, place, ahead)
        else:
            _judge_first(table, place, ahead)
        left -= _counted_bytes(place)


def _judge_first(table: Table, place: Place, ahead: list[str]) -> None:
    room = place.room
    if place.can_bytes >= room.least_bytes:
        place.granted_bytes = min(room.asked_bytes, place.can_bytes)
        place.state, place.reason = RoomState.GATHERING, RoomReason.GATHERING
    elif room.waits and room.least_bytes <= _most_bytes(table):
        _queue(table, place, ahead)
    else:
        place.refuse(RoomReason.SHORT, asked=_asked(room), held=_held(table))
        place.helps = tuple(_helps(table, room.least_bytes - place.can_bytes))


def _queue(table: Table, place: Place, ahead: list[str]) -> None:
    room = place.room
    place.state, place.reason, place.granted_bytes = RoomState.QUEUED, RoomReason.QUEUED, 0
    place.numbers = {"asked": _asked(room), "ahead": f"; ahead of it: {some(ahead)}" if ahead else ""}
    place.helps = tuple(_helps(table, room.least_bytes - place.can_bytes))
    ahead.append(room.name)


def _judge_anew(table: Table, place: Place, ahead: list[str]) -> None:
    """What was granted and is not all there yet may have become too much: for a while that is waited for."""
    if place.state is RoomState.READY or place.granted_bytes <= place.can_bytes:
        return
    place.is_stalled, place.reason = True, RoomReason.STALLED
    if place.room.stalled_s < STALLED_S:
        return
    place.is_stalled = False
    if place.room.waits:
        _queue(table, place, ahead)
    else:
        place.refuse(RoomReason.SHORT, asked=_asked(place.room), held=_held(table))


def _never(table: Table, *, keeps_rooms: bool) -> RoomReason | None:
    """Why no room can be kept here at all."""
    if table.seats and all(one.guest.knobs is not None for one in table.seats):
        return RoomReason.OTHERS
    if not keeps_rooms:
        return RoomReason.PEER
    if table.seats and all(one.guest.mode is not Mode.ACT for one in table.seats):
        return RoomReason.WATCHED
    return None


def can_bytes(table: Table) -> int:
    """What could be had for rooms if every guest gave what it may be asked for, down to its need by its recent use. On a host
    that only watches: if its guests were moved.
    """
    would = bool(table.seats) and all(one.guest.mode is Mode.OBSERVE for one in table.seats)
    least = _needed_bytes if would else _least_bytes
    found = table.memory_bytes - int(READY_RESERVE * table.reserve_bytes) - sum(map(least, table.seats))
    for budget in _around_all(table):
        inside = budget.memory_bytes - int(READY_RESERVE * budget.reserve_bytes) - sum(map(least, budget.seats))
        found = min(found, inside)
    return found


def _most_bytes(table: Table) -> int:
    """What could ever be had, if every guest came down to its floor: a wait for more would not end."""
    floors = sum(floor_bytes(one.guest) if one.is_movable else 0 for one in table.seats)
    most = [table.memory_bytes, *(budget.memory_bytes for budget in _around_all(table))]
    return min(most) - floors


def _around_all(table: Table) -> list[BudgetTable]:
    """Limits under which all guests of the host lie: a VM that starts will lie there too."""
    return [budget for budget in table.budgets if len(budget.seats) == len(table.seats)]


def _needed_bytes(seat: Seat) -> int:
    """What a guest needs, whether it may be moved or not."""
    return seat.held_bytes if seat.needs_bytes is None else max(seat.needs_bytes[1], seat.floor_bytes)


def _least_bytes(seat: Seat) -> int:
    """What a guest has in any case."""
    if not seat.is_movable:
        return seat.held_bytes
    if not seat.may_give or seat.is_cooling or seat.is_distressed:
        return max(seat.held_bytes, seat.need_lasting_bytes if seat.may_take else 0)
    # Less than the dead band is not asked of anybody.
    return max(seat.need_lasting_bytes, min(seat.held_bytes, seat.need_lasting_bytes + dead_band_bytes(seat)))


def _asked(room: Room) -> str:
    """What was asked for, in words."""
    least = f", or {format_size(room.least_bytes)} at least," if room.least_bytes < room.asked_bytes else ""
    return f"{format_size(room.asked_bytes)}{least}"


def _held(table: Table) -> str:
    """Which guests hold most of what cannot be had, and why."""
    most = sorted(table.seats, key=lambda one: -_least_bytes(one))[:2]
    return "".join(f"; {one.guest.name} keeps {format_size(_least_bytes(one))}, {_why(one)}" for one in most)


def _why(seat: Seat) -> str:
    guest = seat.guest
    if guest.leave_alone:
        return f"as nothing of it is moved ({guest.leave_alone})"
    if seat.is_movable and _floor_gain(seat):
        return f"by its floor of {format_size(floor_bytes(guest))}"
    return "which it needs" if seat.is_movable else "as nothing of it is moved"


def _floor_gain(seat: Seat) -> int:
    """What a guest would need less if its operator had set no floor and no guarantee."""
    memory, set_bytes = seat.memory, max(seat.guest.floor_bytes or 0, seat.guest.guaranteed_bytes)
    return max(0, min(set_bytes, seat.need_lasting_bytes) - max(int(memory.use.slow_bytes), memory.use.used_bytes))


def _helps(table: Table, lacking: int) -> Iterator[str]:
    """What an operator could do, by what it brings."""
    found: list[tuple[int, str]] = []
    everybody, of_all = 0, ""
    for one in table.seats:
        name, idle = one.guest.name, one.held_bytes - _needed_bytes(one)
        hold = _LET_GO.search(one.guest.leave_alone)
        if hold is not None and not one.is_movable and idle > 0:
            if hold[1] == typed("release"):
                everybody, of_all = everybody + idle, hold[1]
            else:
                found.append((idle, f"let {name} go, which is on hold: {hold[1]}"))
        elif one.is_movable and (gain := _floor_gain(one)):
            found.append((gain, f"lower the floor or the guarantee of {name}: {typed('set', name, '--floor SIZE')}"))
    if everybody:
        found.append((everybody, f"let all guests go, which are on hold: {of_all}"))
    for brings, told in sorted(found, reverse=True)[:HELPS]:
        yield f"{told} (up to {format_size(brings)})"
    if lacking > 0:
        yield f"{format_size(lacking)} are lacking: shut a guest down or move it to another host"


def told(table: Table) -> tuple[RoomPlan, ...]:
    """What this tick makes of each, once everything is divided and guarded."""
    if not table.places:
        return ()
    free = _free_bytes(table.memory_bytes, table.seats)
    kept = table.reserve_bytes
    for budget in _around_all(table):
        inside = _free_bytes(budget.memory_bytes + table.rooms_bytes, budget.seats)
        free, kept = min((free, kept), (inside, budget.reserve_bytes))
    givers = {one.guest.name: one.keep_bytes - one.wish_bytes for one in table.seats if one.reason is Reason.ROOM}
    speed = sum(take_per_s(one) for one in table.seats if one.reason is Reason.ROOM)
    left, most = free - int(READY_RESERVE * kept), free - int(LEAST_RESERVE * kept)
    plans = []
    for place in table.places:
        if place.state in COUNTED:
            was_ready = place.state is RoomState.READY
            place.gathered_bytes = max(0, min(place.granted_bytes, most if was_ready else left))
            if not table.is_new:
                _judge(place, was_ready=was_ready)
            left, most = left - place.gathered_bytes, most - place.gathered_bytes
        plans.append(_plan(place, givers, speed))
    return tuple(plans)


def _free_bytes(memory: int, seats: Sequence[Seat]) -> int:
    """What no guest may take after this tick."""
    return memory - sum(max(one.held_bytes, one.wish_bytes) if one.is_movable else one.held_bytes for one in seats)


def _judge(place: Place, *, was_ready: bool) -> None:
    if place.gathered_bytes >= place.granted_bytes:
        place.state, place.reason, place.is_stalled = RoomState.READY, RoomReason.READY, False
    elif was_ready and place.room.stalled_s < UNSEEN_S:
        place.is_stalled = True
    elif was_ready:
        place.state, place.reason, place.is_stalled = RoomState.GATHERING, RoomReason.AGAIN, False


def _plan(place: Place, givers: dict[str, int], speed: float) -> RoomPlan:
    room, is_gathering = place.room, place.state is RoomState.GATHERING and not place.is_stalled
    lacking = place.granted_bytes - place.gathered_bytes
    was_there = room.gathered_bytes if place.state is RoomState.TAKEN else place.gathered_bytes
    return RoomPlan(
        key=room.key,
        name=room.name,
        asked_at=room.asked_at,
        state=place.state,
        reason=place.reason,
        numbers=place.numbers | ({"gathered_bytes": was_there} if place.state is RoomState.TAKEN else {}),
        granted_bytes=place.granted_bytes,
        gathered_bytes=place.gathered_bytes,
        can_bytes=place.can_bytes,
        is_stalled=place.is_stalled,
        eta_s=round(lacking / speed, 1) if is_gathering and speed else None,
        givers=givers if is_gathering else {},
        helps=place.helps,
    )
