"""Rooms for VMs that are about to start, as clients ask for them: kept in a file, told to history, waited for."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ballonet.control.kept import Kept
from ballonet.control.messages import RoomOrder
from ballonet.daemon.rooms import Asking, RoomBook
from ballonet.model.room import Room, RoomPlan, RoomState
from ballonet.model.snapshot import Mode
from ballonet.status.errors import ConflictError, ControlError, NoSuchGuestError
from ballonet.status.words import Change, RoomStatus

log = logging.getLogger(__name__)

JUDGED_S: Final = 8.0
"""Within this a tick has judged a new room; a daemon that has just started meets its guests first."""
WAITS_S: Final = 20.0
"""One question waits no longer: a client that wants to wait asks again, and its room stays."""


class Rooms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ballonet.rooms/1`: the file."""

    schema: str = "ballonet.rooms/1"
    rooms: tuple[RoomStatus, ...] = ()


class Rooming:
    """The rooms as they stand."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        on_ask: Callable[[], None],
        tell: Callable[[Change], None],
        ticking: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        path: where rooms are kept.
        clock: seconds since 1970.
        on_ask: told when one was asked for or taken back.
        tell: to history.
        ticking: seconds on a clock that nobody sets: deadlines within one life of the daemon go by that.
        """
        self._file: Kept[Rooms] = Kept(path, Rooms)
        self._clock, self._ticking, self._on_ask, self._tell = clock, ticking, on_ask, tell
        self._began_at = clock() - ticking()
        self._changed = asyncio.Event()
        self._saving = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._is_stale = False
        self.book = RoomBook(self._note)
        kept, trouble = self._file.load()
        if trouble:
            log.error("rooms of before cannot be read; ask for them again", extra={"trouble": trouble})
        self.book.rooms = {room.key: _clipped(room, self._now()) for room in kept.rooms}

    def _now(self) -> float:
        return self._began_at + self._ticking()

    # For the loop

    def asked(self) -> tuple[Room, ...]:
        """What a decision is to know."""
        return self.book.asked(self._now()) if self.book.rooms else ()

    def follow(self, plans: Iterable[RoomPlan], mode: Mode) -> None:
        """What a tick made of them."""
        self.book.note(plans, self._now(), mode)
        if self._is_stale and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        with contextlib.suppress(ControlError):  # told by the next request; a room that is lost is asked for again
            await self._save()

    async def _save(self) -> None:
        """One after the other, each what stands then. Raises ControlError."""
        async with self._saving:
            self._is_stale = False
            await asyncio.to_thread(self._file.save, Rooms(rooms=tuple(self.book.rooms.values())))

    async def close(self) -> None:
        """Writes what waits."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        if self._is_stale:
            await self._write()

    def _note(self, room: RoomStatus) -> None:
        self._is_stale = True
        self._tell(Change(at=self._clock(), guest=room.name, reason=room.reason, sentence=room.sentence, by=room.by))
        level = logging.WARNING if room.state is RoomState.REFUSED else logging.INFO
        told = {"guest": room.name, "key": room.key, "state": room.state.value, "reason": room.reason}
        log.log(level, "room", extra=told | {"granted_bytes": room.granted_bytes, "sentence": room.sentence, "by": room.by})
        self._changed.set()
        self._changed = asyncio.Event()

    # For clients

    def all(self) -> list[RoomStatus]:
        """As they stand, in the order in which they were asked for."""
        return list(self.book.rooms.values())

    def one(self, key: str) -> RoomStatus:
        """By its key, or by the VM's name. Raises ControlError."""
        return self.book.rooms[self._key(key)]

    def of(self, name: str) -> RoomStatus | None:
        """The same; None = there is none."""
        with contextlib.suppress(ControlError):
            return self.one(name)
        return None

    async def ask(self, key: str, order: RoomOrder, by: str) -> RoomStatus:
        """Asks for a room, and waits as long as the order says, or WAITS_S. Raises ControlError."""
        least = order.bytes if order.least_bytes is None else order.least_bytes
        if least > order.bytes:
            raise ConflictError(f"room for {order.name or key}: at least {least} bytes are more than the {order.bytes} asked for")
        asking = Asking(
            key=key,
            name=order.name or key,
            asked_bytes=order.bytes,
            least_bytes=least,
            waits_s=order.wait_s,
            expires_s=order.expires_s,
            by=by,
        )
        before = dict(self.book.rooms)
        room = self.book.ask(asking, self._now())
        await self._save_or_undo(room.key, before)
        self._on_ask()
        await self._settle(room.key, JUDGED_S, frozenset({RoomState.ASKED}))
        if order.wait_s:
            await self._settle(room.key, min(order.wait_s, WAITS_S), frozenset({RoomState.QUEUED, RoomState.GATHERING}))
        return self.book.rooms.get(room.key, room)

    async def _save_or_undo(self, key: str, before: dict[str, RoomStatus]) -> None:
        """What cannot be kept is not done. Raises ControlError."""
        try:
            await self._save()
        except ControlError:
            self.book.rooms.pop(key, None)
            if key in before:
                self.book.rooms[key] = before[key]
            raise

    async def _settle(self, key: str, most_s: float, while_in: frozenset[RoomState]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                while (room := self.book.rooms.get(key)) is not None and room.state in while_in:
                    await self._changed.wait()

    async def cancel(self, key: str, by: str) -> RoomStatus:
        """Takes it back. Raises ControlError."""
        key, before = self._key(key), dict(self.book.rooms)
        if (room := self.book.cancel(key, self._now(), by)) is None:
            old = self.book.rooms[key]
            raise ConflictError(f"the room for {old.name} is {old.state.value}: there is nothing to take back")
        await self._save_or_undo(key, before)
        self._on_ask()
        return room

    def _key(self, key: str) -> str:
        named = [one for one in self.book.rooms.values() if key in (one.key, one.name)]
        if not named:
            there = ", ".join(one.name for one in self.book.rooms.values()) or "none at all"
            raise NoSuchGuestError(f"no room for {key!r}; there are: {there}")
        return max(named, key=lambda one: (one.state.is_pending, not one.state.is_over, one.key == key, one.asked_at)).key


def _clipped(room: RoomStatus, now: float) -> RoomStatus:
    """A room of a life before, whatever became of the clock meanwhile: it stands no longer than it would have at most."""
    span_s = min(86_400.0 + room.expires_s, max(0.0, room.expires_at - room.asked_at))
    ends_at = now + min(span_s, max(0.0, room.expires_at - now))
    times = {name: min(at, now) for name in _TIMES if (at := getattr(room, name)) is not None}
    return replace(room, expires_at=ends_at, gone_at=None, **times)


_TIMES: Final = ("asked_at", "ready_at", "taken_at", "settled_at", "stalled_at", "over_at")
