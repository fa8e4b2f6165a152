"""The book of rooms for VMs that are about to start (R18): who asked for what, until when, and what each tick made of it."""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ballonet.model.room import PEACE_S, Room, RoomPlan, RoomReason, RoomState, is_uuid
from ballonet.model.snapshot import Mode
from ballonet.model.units import format_size, span_words
from ballonet.status.errors import ConflictError
from ballonet.status.words import RoomStatus

KEPT_S: Final = 600.0
"""How long a room that is over is still shown."""
GONE_S: Final = 10.0
"""A VM that had started and is not seen for this long has ended; adapters lose sight of one for less."""
MOST_ROOMS: Final = 256
"""More are not kept at a time: a client that asks without end is told."""
ASKED: Final = "room-asked"
MODE: Final = "room-mode"
EXPIRED: Final = "room-expired"
CANCELLED: Final = "room-cancelled"
ENDED: Final = "room-ended"


class Asking(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    key: str
    name: str
    asked_bytes: int
    least_bytes: int
    waits_s: float = 0.0
    expires_s: float = 120.0
    by: str = ""


class RoomBook:
    """All rooms, in the order in which they were asked for."""

    def __init__(self, on_change: Callable[[RoomStatus], None] = lambda _room: None) -> None:
        """Args:
        on_change: told of each room that has another state or another reason.
        """
        self._on_change = on_change
        self.rooms: dict[str, RoomStatus] = {}

    def ask(self, asking: Asking, now: float) -> RoomStatus:
        """Takes a request. The same VM has the same room, with a new deadline: what is there for it stays. A room that has to be
        larger is judged anew, in its old place. Raises ConflictError when there are too many.

        Args:
            asking: what for.
            now: seconds on a clock that only rises, near to those since 1970.
        """
        old = next((one for one in self.rooms.values() if one.state.is_pending and _is_same_vm(one, asking)), None)
        if old is None:
            if sum(one.state.is_pending for one in self.rooms.values()) >= MOST_ROOMS:
                raise ConflictError(
                    f"{MOST_ROOMS} rooms are asked for already; `ballonet room` shows them, --cancel takes one back"
                )
            self.rooms.pop(asking.key, None)  # a new one comes last
            return self._set(_new(asking, now))
        self._rename(old.key, asking.key if is_uuid(asking.key) else old.key)
        if asking.least_bytes <= old.granted_bytes or (asking.asked_bytes, asking.least_bytes) == (
            old.asked_bytes,
            old.least_bytes,
        ):
            return self._keep(old, asking, now)
        new = replace(_new(asking, now), key=asking.key if is_uuid(asking.key) else old.key, granted_bytes=0)
        return self._set(new)

    def _rename(self, old: str, new: str) -> None:
        """A room that was asked for by the VM's name is known by its UUID from then on."""
        if old != new:
            self.rooms = {(new if key == old else key): one for key, one in self.rooms.items() if key != new}

    def _keep(self, old: RoomStatus, asking: Asking, now: float) -> RoomStatus:
        ends_at = now + asking.expires_s + (0.0 if old.state is RoomState.READY else asking.waits_s)
        kept = replace(
            old,
            key=asking.key if is_uuid(asking.key) else old.key,
            name=asking.name if asking.name != asking.key else old.name,
            least_bytes=min(old.least_bytes, asking.least_bytes),
            granted_bytes=min(old.granted_bytes, asking.asked_bytes),
            gathered_bytes=min(old.gathered_bytes, asking.asked_bytes),
            waits=old.waits or asking.waits_s > 0,
            expires_s=asking.expires_s,
            expires_at=max(old.expires_at, ends_at),
            by=asking.by,
        )
        self.rooms[kept.key] = kept
        return kept

    def cancel(self, key: str, now: float, by: str = "") -> RoomStatus | None:
        """Ends a room; None = there is none that could be ended."""
        room = self.rooms.get(key)
        if room is None or not room.state.is_pending:
            return None
        free = "what was gathered is free again" if room.granted_bytes else "nothing had been gathered yet"
        text = f"the room for {room.name} is taken back; {free}"
        return self._over(replace(room, by=by), RoomState.CANCELLED, CANCELLED, text, now)

    def asked(self, now: float) -> tuple[Room, ...]:
        """What a decision is to know, at a time."""
        for room in tuple(self.rooms.values()):
            self._age(room, now)
        return tuple(_for_decision(room, now) for room in self.rooms.values() if not room.state.is_over)

    def _age(self, room: RoomStatus, now: float) -> None:
        if room.state.is_pending and now >= room.expires_at:
            free = "; what was gathered for it is free again" if room.granted_bytes else ""
            text = f"{room.name} has not started within {span_words(room.expires_at - room.asked_at)}{free}"
            self._over(room, RoomState.EXPIRED, EXPIRED, text, now)
        elif room.gone_at is not None and now - room.gone_at > GONE_S:
            was = "before its balloon driver had spoken" if room.state is RoomState.TAKEN else "soon after its start"
            self._over(room, RoomState.EXPIRED, ENDED, f"{room.name} has ended {was}; what it had is free again", now)
        elif (room.state is RoomState.SETTLED and now - (room.settled_at or now) > PEACE_S) or (
            room.state.is_over and now - (room.over_at or now) > KEPT_S
        ):
            del self.rooms[room.key]

    def note(self, plans: Iterable[RoomPlan], now: float, mode: Mode = Mode.ACT) -> None:
        """What a tick made of them."""
        for plan in plans:
            room = self.rooms.get(plan.key)
            if room is None or room.state.is_over or room.asked_at != plan.asked_at:
                continue  # it was taken back, or asked anew, while the tick was made and carried out
            if mode is not Mode.ACT and (plan.state.is_pending or plan.state is RoomState.REFUSED):
                can = f"; {format_size(plan.can_bytes)} could be had for {room.name}" if plan.can_bytes else ""
                text = f"nothing is moved in mode {mode.value}, so no room is made{can}; `ballonet mode act` moves memory"
                self._over(replace(room, can_bytes=plan.can_bytes), RoomState.REFUSED, MODE, text, now)
                continue
            self._follow(room, plan, now)

    def _follow(self, room: RoomStatus, plan: RoomPlan, now: float) -> None:
        if plan.reason is RoomReason.GONE:
            self.rooms[room.key] = replace(room, gone_at=now if room.gone_at is None else room.gone_at)
            return
        new = replace(
            room,
            state=plan.state,
            reason=plan.reason.value,
            sentence=plan.sentence,
            granted_bytes=plan.granted_bytes,
            gathered_bytes=plan.gathered_bytes,
            can_bytes=plan.can_bytes or room.can_bytes,
            eta_s=plan.eta_s,
            givers=plan.givers,
            helps=plan.helps,
            gone_at=None,
            stalled_at=(room.stalled_at or now) if plan.is_stalled else None,
        )
        new = _dated(room, new, now)
        if (new.state, new.reason) != (room.state, room.reason):
            self._set(new)
        else:
            self.rooms[room.key] = new

    def _over(self, room: RoomStatus, state: RoomState, reason: str, sentence: str, now: float) -> RoomStatus:
        ended = replace(room, state=state, reason=reason, sentence=sentence, over_at=now, eta_s=None, givers={})
        return self._set(replace(ended, granted_bytes=0, gathered_bytes=0))

    def _set(self, room: RoomStatus) -> RoomStatus:
        self.rooms[room.key] = room
        self._on_change(room)
        return room


def _new(asking: Asking, now: float) -> RoomStatus:
    return RoomStatus(
        key=asking.key,
        name=asking.name,
        state=RoomState.ASKED,
        asked_bytes=asking.asked_bytes,
        least_bytes=asking.least_bytes,
        waits=asking.waits_s > 0,
        expires_s=asking.expires_s,
        expires_at=now + asking.waits_s + asking.expires_s,
        asked_at=now,
        reason=ASKED,
        sentence=f"{format_size(asking.asked_bytes)} are asked for, for {asking.name}",
        by=asking.by,
    )


def _is_same_vm(room: RoomStatus, asking: Asking) -> bool:
    """Whether both are of one VM: one may be asked for by its name, and then by its UUID, as a hook does."""
    if room.key.lower() == asking.key.lower():
        return True
    if is_uuid(room.key) and is_uuid(asking.key):
        return False
    return bool({room.name, room.key} & {asking.name, asking.key})


def _for_decision(room: RoomStatus, now: float) -> Room:
    def since(at: float | None) -> float:
        return 0.0 if at is None else max(0.0, now - at)

    return Room(
        key=room.key,
        name=room.name,
        asked_at=room.asked_at,
        asked_bytes=room.asked_bytes,
        least_bytes=room.least_bytes,
        waits=room.waits,
        state=room.state,
        granted_bytes=room.granted_bytes,
        gathered_bytes=room.gathered_bytes,
        was_ready=room.ready_at is not None,
        stalled_s=since(room.stalled_at),
        taken_s=since(room.taken_at),
        settled_s=since(room.settled_at),
    )


def _dated(old: RoomStatus, new: RoomStatus, now: float) -> RoomStatus:
    """When what happened. How long a room is kept is counted from when it was ready first."""
    if new.state is RoomState.READY and old.ready_at is None:
        new = replace(new, ready_at=now, expires_at=now + new.expires_s)
    if new.state is RoomState.TAKEN and old.taken_at is None:
        new = replace(new, taken_at=now)
    if new.state is RoomState.SETTLED and old.settled_at is None:
        new = replace(new, settled_at=now)
    return replace(new, over_at=now) if new.state.is_over else new
