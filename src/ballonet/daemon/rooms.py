"""The book of rooms for VMs that are about to start (R18): who asked for what, until when, and what each tick made of it."""

from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from ballonet.decide.rooms import PEACE_S
from ballonet.model.room import Room, RoomPlan, RoomReason, RoomState
from ballonet.model.snapshot import Mode
from ballonet.model.units import format_size, span_words
from ballonet.status.words import RoomStatus

KEPT_S = 600.0
"""How long a room that is over is still shown."""
MODE = "room-mode"
EXPIRED = "room-expired"
CANCELLED = "room-cancelled"


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
        """Takes a request. The same key is the same room, with a new deadline; another size is judged anew, in its old place.

        Args:
            asking: what for.
            now: seconds since 1970.
        """
        old = self.rooms.get(asking.key)
        expires_at = now + asking.waits_s + asking.expires_s
        if old is not None and old.state.is_pending and _is_same(old, asking):
            room = replace(old, expires_at=max(old.expires_at, expires_at), waits=old.waits or asking.waits_s > 0, by=asking.by)
            self.rooms[asking.key] = room
            return room
        if old is None or not old.state.is_pending:
            self.rooms.pop(asking.key, None)  # a new one comes last
        room = RoomStatus(
            key=asking.key,
            name=asking.name,
            state=RoomState.ASKED,
            asked_bytes=asking.asked_bytes,
            least_bytes=asking.least_bytes,
            waits=asking.waits_s > 0,
            expires_s=asking.expires_s,
            expires_at=expires_at,
            asked_at=now,
            reason="room-asked",
            sentence=f"{format_size(asking.asked_bytes)} are asked for {asking.name}",
            by=asking.by,
        )
        return self._set(room)

    def cancel(self, key: str, now: float) -> RoomStatus | None:
        """Ends a room; None = there is none that could be ended."""
        room = self.rooms.get(key)
        if room is None or not room.state.is_pending:
            return None
        return self._over(room, RoomState.CANCELLED, CANCELLED, f"what was kept for {room.name} is free again: taken back", now)

    def asked(self, now: float) -> tuple[Room, ...]:
        """What a decision is to know, at a time."""
        for room in tuple(self.rooms.values()):
            self._age(room, now)
        return tuple(
            Room(
                key=room.key,
                name=room.name,
                asked_bytes=room.asked_bytes,
                least_bytes=room.least_bytes,
                waits=room.waits,
                state=room.state,
                granted_bytes=room.granted_bytes,
                gathered_bytes=room.gathered_bytes,
                was_ready=room.ready_at is not None,
                settled_s=now - room.settled_at if room.settled_at is not None else 0.0,
            )
            for room in self.rooms.values()
            if not room.state.is_over
        )

    def _age(self, room: RoomStatus, now: float) -> None:
        if room.state.is_pending and now >= room.expires_at:
            text = (
                f"{room.name} has not started within {span_words(room.expires_at - room.asked_at)}: what was kept is free again"
            )
            self._over(room, RoomState.EXPIRED, EXPIRED, text, now)
        elif (room.state is RoomState.SETTLED and now - (room.settled_at or now) > PEACE_S) or (
            room.state.is_over and now - (room.over_at or now) > KEPT_S
        ):
            del self.rooms[room.key]

    def note(self, plans: Iterable[RoomPlan], now: float, mode: Mode = Mode.ACT) -> None:
        """What a tick made of them."""
        for plan in plans:
            room = self.rooms.get(plan.key)
            if room is None or room.state.is_over:
                continue  # cancelled while the tick was made
            if mode is not Mode.ACT and (plan.state.is_pending or plan.state is RoomState.REFUSED):
                can = f"{format_size(plan.can_bytes)} could be had for {room.name}"
                text = f"nothing is moved in mode {mode.value}, so no room is made: {can}; `ballonet mode act` moves memory"
                self._over(replace(room, can_bytes=plan.can_bytes), RoomState.REFUSED, MODE, text, now)
                continue
            self._follow(room, plan, now)

    def _follow(self, room: RoomStatus, plan: RoomPlan, now: float) -> None:
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
        )
        if plan.state is RoomState.READY and room.state is not RoomState.READY:
            new = replace(new, ready_at=now, expires_at=max(room.expires_at, now + room.expires_s))
        if plan.state is RoomState.SETTLED and room.settled_at is None:
            new = replace(new, settled_at=now)
        if plan.state.is_over:
            new = replace(new, over_at=now)
        if (new.state, new.reason) == (room.state, room.reason) or new.reason == RoomReason.SETTLED.value == room.reason:
            self.rooms[room.key] = new
        else:
            self._set(new)

    def _over(self, room: RoomStatus, state: RoomState, reason: str, sentence: str, now: float) -> RoomStatus:
        ended = replace(room, state=state, reason=reason, sentence=sentence, over_at=now, eta_s=None, givers={})
        return self._set(replace(ended, granted_bytes=0, gathered_bytes=0))

    def _set(self, room: RoomStatus) -> RoomStatus:
        self.rooms[room.key] = room
        self._on_change(room)
        return room


def _is_same(room: RoomStatus, asking: Asking) -> bool:
    return (room.asked_bytes, room.least_bytes, room.name) == (asking.asked_bytes, asking.least_bytes, asking.name)
