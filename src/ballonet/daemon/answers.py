"""The daemon's answers to clients of the control API: the last tick, the orders, history."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ballonet.control.messages import HoldOrder, Orders, RoomOrder
from ballonet.control.orders import OrderBook
from ballonet.daemon.changes import Changed, Moved
from ballonet.daemon.descriptors import descriptor_findings
from ballonet.daemon.ordering import Ordering
from ballonet.daemon.rooming import Rooming
from ballonet.history.answer import Question
from ballonet.history.asker import Asker
from ballonet.history.store import History
from ballonet.history.tidy import Retention
from ballonet.model.finding import HOST, Finding, Level
from ballonet.model.plan import Keep
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.tick import Tick
from ballonet.sense import contradictions
from ballonet.sense.doctor import HostDoctor, guest_findings, limit_findings
from ballonet.status.errors import NoSuchGuestError, NotYetError
from ballonet.status.explain import explain
from ballonet.status.metrics import Counters, exposition
from ballonet.status.tell import change_of, moved_change, status_of
from ballonet.status.words import Change, Explanation, RoomStatus, Status

KEPT_EVERY_S: Final = 1.0
"""Ticks that command nothing are kept in history this often, and others at most ten times as often."""
LIVE_EVERY_S: Final = 1.0


class DaemonAnswers:
    """As `control.service` says."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        bounds: Retention | None,
        mode: Callable[[], Mode],
        on_orders: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        folder: of orders and history.
        root: where /proc and /sys are found.
        bounds: of history; None = none is kept.
        mode: the configuration's.
        on_orders: told when orders changed.
        clock: seconds since 1970.
        """
        self._root, self._clock = root, clock
        path = folder / "history.db"
        self._past = Asker(path)
        self.counters = Counters()
        self._history = History(path, bounds, self._count_lost, clock) if bounds else None
        self._mode = mode
        self._tick: Tick | None = None
        self._encoded_of: tuple[object, ...] = ()
        self._encoded = msgspec.Raw(b"")
        """The status as JSON, and what it was made of."""
        self._exposed_of: tuple[object, ...] = ()
        self._exposed = b""
        """The metrics, and what they were made of."""
        self._kept_at = 0.0
        self._pending: list[Change] = []
        self._troubles: dict[str, str] = {}
        """By guest: why its last command failed; none = it did not."""
        self.ordering = Ordering(OrderBook(folder / "orders.json"), clock, self._guests, on_orders, self.tell)
        self.rooming = Rooming(folder / "rooms.json", clock, on_orders, self.tell)
        self._ticked = asyncio.Event()
        self.others: Callable[[], list[Finding]] = list
        """Findings of what is around it."""
        self.of_guests: Callable[[], list[Finding]] = list
        """Of those the adapter's own: shown with the guest."""
        self.settled: Callable[[], Iterable[str]] = tuple
        """Of which guests the configuration says something."""

    # From the loop

    @property
    def mode(self) -> Mode:
        """Of the host: as ordered, else as configured."""
        return self.ordering.orders.mode or self._mode()

    def tell(self, change: Change) -> None:
        """Something that happened, for history."""
        if self._history is not None:
            self._pending.append(change)

    def note(self, tick: Tick, changes: Sequence[Changed], moves: Sequence[Moved] = ()) -> None:
        """Takes a tick, what is new in it, and what others moved."""
        now = self._clock()
        self._tick = tick = replace(tick, at=now)
        self.ordering.bind(tick.snapshot.guests)
        if self.rooming.book.rooms:
            self.rooming.follow(tick.plan.rooms, self.mode)
        self._count(tick)
        if self._history is None:
            self._wake()
            return
        self._pending += [moved_change(one.guest, one.sentence, now) for one in moves]
        self._pending += [change_of(decision, guest, now, done) for decision, guest, done in changes]
        is_moving = any(isinstance(one.ask, Keep) for one in tick.plan.guests)
        every_s = KEPT_EVERY_S / 10 if is_moving else KEPT_EVERY_S
        if not 0 <= now - self._kept_at < every_s * 0.95:
            self._history.note(tick, self._pending)
            self._kept_at, self._pending = now, []
        self._wake()

    def _wake(self) -> None:
        """Wakes the clients that wait for the next tick."""
        self._ticked.set()
        self._ticked = asyncio.Event()

    def set_retention(self, bounds: Retention | None) -> None:
        """Of history; whether any is kept changes with a restart only."""
        if self._history is not None and bounds is not None:
            self._history.bounds = bounds

    @property
    def backlog(self) -> int:
        """Ticks that wait for the disk."""
        return self._history.backlog if self._history is not None else 0

    async def close(self) -> None:
        """Writes what waits."""
        await self._past.close()
        await self.rooming.close()
        if self._history is not None:
            if self._tick is not None and self._pending:
                self._history.note(self._tick, self._pending)
            self._history.close()

    def _count(self, tick: Tick) -> None:
        self.counters.tick(time.monotonic())
        self._troubles = {name: text for name, text in self._troubles.items() if name not in tick.outcome.sent}
        self._troubles |= tick.outcome.failed
        if tick.outcome.sent or tick.outcome.failed:
            uuids = {guest.name: guest.uuid for guest in tick.snapshot.guests}
            reasons = {one.name: one.reason.value for one in tick.plan.guests}
            for name in tick.outcome.sent:
                self.counters.commands[name, uuids.get(name, ""), reasons.get(name, "")] += 1
            for name in tick.outcome.failed:
                self.counters.failures[name, uuids.get(name, "")] += 1
        if self.counters.ticks % 1000 == 0:
            self.counters.keep_only(guest.name for guest in tick.snapshot.guests)

    def _history_findings(self) -> list[Finding]:
        if self._history is None or not self._history.trouble:
            return []
        what = f"history is not written: {self._history.trouble}"
        remedy = "see that its disk has room and can be written; ballooning goes on, and nothing of now can be explained later"
        return [Finding(level=Level.WARNING, where=HOST, what=what, remedy=remedy)]

    def _count_lost(self) -> None:
        self.counters.lost += 1

    # From the API

    def status(self) -> Status:
        """As the protocol says."""
        tick = self._last()
        return status_of(
            tick,
            at=tick.at,
            mode=self.mode,
            hold=self.ordering.hold_of(None),
            troubles=self._named_troubles(),
            rooms=self.rooming.all(),
        )

    def status_json(self) -> msgspec.Raw:
        """As the protocol says; made once for all who ask between two ticks or orders."""
        self._last()
        if not _are_same(self._encoded_of, made_of := self._made_of()):
            self._encoded_of, self._encoded = made_of, msgspec.Raw(msgspec.json.encode(self.status()))
        return self._encoded

    def _made_of(self) -> tuple[object, ...]:
        """What a status is made of: as long as it is the same, so is the status."""
        return (self._tick, self.ordering.orders, self._mode(), *self.rooming.book.rooms.values())

    def _named_troubles(self) -> dict[str, str]:
        """By guest: why its last command failed; else what of it its adapter cannot do as it is told."""
        return {one.where: one.what for one in self.of_guests() if one.level is not Level.NOTE} | self._troubles

    async def lives(self) -> AsyncIterator[bytes]:
        """As the protocol says."""
        while True:
            if self._tick is not None:
                yield bytes(self.status_json())
                await asyncio.sleep(LIVE_EVERY_S)
            await self._ticked.wait()

    async def explain(self, name: str, at: float | None) -> Explanation | msgspec.Raw:
        """As the protocol says."""
        if at is None:
            tick = self._last()
            try:
                return explain(tick, name, at=tick.at, mode=self.mode)
            except NoSuchGuestError as error:
                if (room := self.rooming.of(name)) is None:
                    raise
                raise NoSuchGuestError(f"{name} does not run; its room is {room.state.value}: {room.sentence}") from error
        return await self._past.ask(Question(what="explanation", name=name, since=at))

    def orders(self) -> Orders:
        """As the protocol says."""
        return self.ordering.orders

    async def set_guest(self, name: str, order: Mapping[str, Any], by: str) -> Orders:
        """As the protocol says."""
        return await self.ordering.set_guest(name, order, by)

    async def hold(self, name: str, order: HoldOrder, by: str) -> Orders:
        """As the protocol says."""
        return await self.ordering.hold(name, order, by)

    async def release(self, name: str, by: str) -> Orders:
        """As the protocol says."""
        return await self.ordering.release(name, by)

    async def set_mode(self, mode: Mode | None, by: str) -> Orders:
        """As the protocol says."""
        return await self.ordering.set_mode(mode, by)

    def rooms(self) -> list[RoomStatus]:
        """As the protocol says."""
        return self.rooming.all()

    def room(self, key: str) -> RoomStatus:
        """As the protocol says."""
        return self.rooming.one(key)

    async def ask_room(self, key: str, order: RoomOrder, by: str) -> RoomStatus:
        """As the protocol says."""
        return await self.rooming.ask(key, order, by)

    async def cancel_room(self, key: str, by: str) -> RoomStatus:
        """As the protocol says."""
        return await self.rooming.cancel(key, by)

    async def changes(self, name: str, since: float, until: float, limit: int) -> msgspec.Raw:
        """As the protocol says."""
        return await self._past.ask(Question(what="changes", name=name, since=since, until=until, limit=limit))

    async def samples(self, name: str, since: float, until: float, limit: int) -> msgspec.Raw:
        """As the protocol says."""
        what = "samples" if name else "host_samples"
        return await self._past.ask(Question(what=what, name=name, since=since, until=until, limit=limit))

    async def findings(self) -> list[Finding]:
        """As the protocol says."""
        tick = self._last()
        found = self.others() + descriptor_findings(len(tick.snapshot.guests)) + self._history_findings()
        found += await asyncio.to_thread(HostDoctor(self._root).findings)
        found += limit_findings(tick.snapshot.host) + contradictions.findings(tick.snapshot, self.settled())
        for guest in tick.snapshot.guests:
            found += guest_findings(guest)
        return found

    def metrics(self) -> bytes:
        """As the protocol says."""
        if self._tick is None:
            return exposition(None, self.counters)
        # Made once for all who scrape between two ticks or orders.
        if not _are_same(self._exposed_of, made_of := self._made_of()):
            self._exposed_of, self._exposed = made_of, exposition(self.status(), self.counters)
        return self._exposed

    def _last(self) -> Tick:
        if self._tick is None:
            raise NotYetError("the daemon has not looked yet; ask again in a second, or see its log for why")
        return self._tick

    def _guests(self) -> tuple[Guest, ...]:
        return self._tick.snapshot.guests if self._tick else ()


def _are_same(ones: tuple[object, ...], others: tuple[object, ...]) -> bool:
    """Whether each is the very same value; nothing is compared in depth."""
    return len(ones) == len(others) and all(one is other for one, other in zip(ones, others, strict=True))
