"""R18: room for VMs that are about to start. What can be had is known before anything moves; it is gathered below all needs and
above all spare, lent to nobody, and counted with the guest from the tick on in which that appears.

A room is no part of the reserve: that is refilled when much of it is missing, and shrinks when not everything fits. With seven
donors on 100 GiB, a reserve that was raised by 28 GiB brought 12.8 (simulated).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ballonet.decide.classify import spare
from ballonet.decide.division import LEAST_RESERVE
from ballonet.decide.floor import floor_bytes
from ballonet.decide.pace import dead_band_bytes, take_per_s
from ballonet.decide.seat import Seat
from ballonet.decide.states import SCARCE
from ballonet.decide.table import Table
from ballonet.model.plan import Reason
from ballonet.model.room import COUNTED, Room, RoomPlan, RoomReason, RoomState
from ballonet.model.text import typed
from ballonet.model.units import format_size

READY_RESERVE: Final = 0.8
"""Of the reserve: what is free beyond a room that is ready. A smaller gap in it is not refilled either (adaptive.py)."""
PEACE_S: Final = 60.0
"""How long a guest that has just started is not asked to give: it has not read in yet what it works on. Qubes OS squeezed one to
138 MiB right after its boot (qubes-issues 4887)."""
HELPS: Final = 3
"""The number of them that are told."""


@dataclass(slots=True)
class Place:
    """A room at the table of one tick."""

    room: Room
    state: RoomState
    reason: RoomReason
    granted_bytes: int = 0
    gathered_bytes: int = 0
    can_bytes: int = 0
    numbers: dict[str, Any] = field(default_factory=dict)
    helps: tuple[str, ...] = ()


def admit(table: Table, rooms: Sequence[Room], *, keeps_rooms: bool, policy: str) -> None:
    """Which rooms are taken, which can be had, and what they come to in the sums of this tick."""
    if not rooms:
        return
    names = {name: one for one in table.seats for name in (one.guest.name, one.guest.uuid) if name}
    table.places = [_place(room, names.get(room.key) or names.get(room.name)) for room in rooms]
    for place in table.places:
        if place.state in {RoomState.TAKEN, RoomState.SETTLED} and table.state not in SCARCE:
            seat = names.get(place.room.key) or names.get(place.room.name)
            if seat is not None and seat.may_give:
                spare(seat)
    _grant(table, keeps_rooms=keeps_rooms, policy=policy)
    counted = sum(place.granted_bytes for place in table.places if place.state in COUNTED)
    needs = sum(one.need_lasting_bytes if one.is_movable else one.counted_bytes for one in table.seats)
    table.rooms_bytes = min(counted, max(0, table.memory_bytes - needs - int(LEAST_RESERVE * table.reserve_bytes)))
    table.is_gathering = any(place.state is RoomState.GATHERING for place in table.places)


def _place(room: Room, seat: Seat | None) -> Place:
    """What became of a room by what runs now."""
    if room.state is RoomState.ASKED and seat is not None and not seat.guest.is_starting:
        return Place(room, RoomState.REFUSED, RoomReason.RUNS)
    if room.state.is_pending:
        if seat is not None:
            return Place(room, RoomState.TAKEN, RoomReason.TAKEN, room.granted_bytes)
        return Place(room, room.state, _as_it_was(room), room.granted_bytes)
    if seat is None:
        return Place(room, RoomState.EXPIRED, RoomReason.ENDED)
    has_settled = not seat.guest.is_starting and seat.guest.stats is not None
    if has_settled or room.state is RoomState.SETTLED:
        return Place(room, RoomState.SETTLED, RoomReason.SETTLED, room.granted_bytes, numbers={"peace_s": PEACE_S})
    return Place(room, RoomState.TAKEN, RoomReason.TAKEN, room.granted_bytes)


def _as_it_was(room: Room) -> RoomReason:
    if room.state in {RoomState.ASKED, RoomState.QUEUED}:
        return RoomReason.QUEUED
    if room.state is RoomState.READY:
        return RoomReason.READY
    return RoomReason.AGAIN if room.was_ready else RoomReason.GATHERING


def _grant(table: Table, *, keeps_rooms: bool, policy: str) -> None:
    """Grants what can be had, first come, first served: all of it, or what is of use; never a part that waits for the rest.

    One that waits keeps those behind it waiting too, but for what fits besides; one that does not wait takes what there is now.
    """
    asking = [place for place in table.places if place.state in {RoomState.ASKED, RoomState.QUEUED}]
    if not asking:
        return
    if refusal := _never(table, keeps_rooms=keeps_rooms):
        for place in asking:
            place.state, place.reason, place.numbers = RoomState.REFUSED, refusal, {"policy": policy}
        return
    left = can_bytes(table) - sum(place.granted_bytes for place in table.places if place.state in COUNTED)
    ahead: list[str] = []
    behind = 0
    for place in asking:
        room = place.room
        place.can_bytes = max(0, left - (behind if room.waits else 0))
        if place.can_bytes >= room.least_bytes:
            place.granted_bytes = min(room.asked_bytes, place.can_bytes)
            place.state, place.reason = RoomState.GATHERING, RoomReason.GATHERING
            left -= place.granted_bytes
        elif room.waits:
            told = f"; ahead of it: {', '.join(ahead)}" if ahead else ""
            place.state, place.reason = RoomState.QUEUED, RoomReason.QUEUED
            place.numbers = {"asked_bytes": room.least_bytes, "ahead": told}
            behind += room.asked_bytes
            ahead.append(room.name)
        else:
            place.state, place.reason = RoomState.REFUSED, RoomReason.SHORT
            place.numbers = {"asked_bytes": room.least_bytes, "held": _held(table)}
        if place.state is not RoomState.GATHERING:
            place.helps = tuple(_helps(table, room.least_bytes - place.can_bytes))


def _never(table: Table, *, keeps_rooms: bool) -> RoomReason | None:
    """Why no room can be kept here at all."""
    if table.seats and all(one.guest.knobs is not None for one in table.seats):
        return RoomReason.OTHERS
    return None if keeps_rooms else RoomReason.PEER


def can_bytes(table: Table) -> int:
    """What could be had for rooms if every guest gave what it may be asked for, down to its need by its recent use."""
    would = bool(table.seats) and all(one.reason is Reason.OBSERVED for one in table.seats)
    least = _needed_bytes if would else _least_bytes
    return table.memory_bytes - int(READY_RESERVE * table.reserve_bytes) - sum(map(least, table.seats))


def _needed_bytes(seat: Seat) -> int:
    """The same of one that is only watched, as if it were not: to be told."""
    return seat.held_bytes if seat.needs_bytes is None else max(seat.needs_bytes[1], seat.floor_bytes)


def _least_bytes(seat: Seat) -> int:
    """What a guest has in any case."""
    if not seat.is_movable:
        return seat.held_bytes
    if not seat.may_give or seat.is_cooling or seat.is_distressed:
        return max(seat.held_bytes, seat.need_lasting_bytes if seat.may_take else 0)
    # Less than the dead band is not asked of anybody.
    return max(seat.need_lasting_bytes, min(seat.held_bytes, seat.need_lasting_bytes + dead_band_bytes(seat)))


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
    for one in table.seats:
        name, idle = one.guest.name, one.held_bytes - _needed_bytes(one)
        if not one.is_movable and one.guest.leave_alone.startswith("on hold") and idle > 0:
            found.append((idle, f"let {name} go, which is on hold: {typed('release', name)}"))
        elif one.is_movable and (gain := _floor_gain(one)):
            found.append((gain, f"lower the floor or the guarantee of {name}: {typed('set', name, '--floor SIZE')}"))
    for brings, told in sorted(found, reverse=True)[:HELPS]:
        yield f"{told} (up to {format_size(brings)})"
    yield f"{format_size(lacking)} are lacking: shut a guest down or move it to another host"


def told(table: Table) -> tuple[RoomPlan, ...]:
    """What this tick makes of each, once everything is divided and guarded."""
    if not table.places:
        return ()
    free = table.memory_bytes - sum(
        max(one.held_bytes, one.wish_bytes) if one.is_movable else one.held_bytes for one in table.seats
    )
    givers = {one.guest.name: one.keep_bytes - one.wish_bytes for one in table.seats if one.reason is Reason.ROOM}
    speed = sum(take_per_s(one) for one in table.seats if one.reason is Reason.ROOM)
    left, most = free - int(READY_RESERVE * table.reserve_bytes), free - int(LEAST_RESERVE * table.reserve_bytes)
    plans = []
    for place in table.places:
        if place.state in COUNTED:
            was_ready = place.state is RoomState.READY
            place.gathered_bytes = max(0, min(place.granted_bytes, most if was_ready else left))
            _judge(place, was_ready=was_ready)
            left, most = left - place.gathered_bytes, most - place.gathered_bytes
        plans.append(_plan(place, givers, speed))
    return tuple(plans)


def _judge(place: Place, *, was_ready: bool) -> None:
    if place.gathered_bytes >= place.granted_bytes:
        place.state, place.reason = RoomState.READY, RoomReason.READY
    elif was_ready:
        place.state, place.reason = RoomState.GATHERING, RoomReason.AGAIN


def _plan(place: Place, givers: dict[str, int], speed: float) -> RoomPlan:
    room, is_gathering = place.room, place.state is RoomState.GATHERING
    lacking = place.granted_bytes - place.gathered_bytes
    return RoomPlan(
        key=room.key,
        name=room.name,
        state=place.state,
        reason=place.reason,
        numbers=place.numbers,
        granted_bytes=place.granted_bytes,
        gathered_bytes=place.gathered_bytes,
        can_bytes=place.can_bytes,
        eta_s=round(lacking / speed, 1) if is_gathering and speed else None,
        givers=givers if is_gathering else {},
        helps=place.helps,
    )
