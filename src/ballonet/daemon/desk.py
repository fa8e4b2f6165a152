"""The daemon's answers to whoever asks over the control API: the last tick, the orders, history."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from ballonet.control.explain import explain
from ballonet.control.messages import (
    Change,
    Explanation,
    GuestOrder,
    HoldOrder,
    NoSuchGuestError,
    NotYetError,
    Orders,
    Sample,
    Status,
)
from ballonet.control.metrics import Counters, exposition
from ballonet.control.orders import OrderBook, held, with_guest, with_hold, with_mode, without_hold
from ballonet.control.tell import change_of, status_of
from ballonet.daemon.changes import Changed
from ballonet.daemon.descriptors import descriptor_findings
from ballonet.history import reader
from ballonet.history.store import Bounds, History
from ballonet.model.finding import Finding
from ballonet.model.snapshot import Mode
from ballonet.model.tick import Tick
from ballonet.sense.doctor import HostDoctor, guest_findings, limit_findings

log = logging.getLogger(__name__)

KEPT_EVERY_S: Final = 1.0
"""Ticks that command nothing are kept in history this often, and others ten times as often at the most."""
LIVE_EVERY_S: Final = 1.0


class DaemonDesk:
    """As `control.desk` says."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        bounds: Bounds | None,
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
        self._book = OrderBook(folder / "orders.json")
        self._history_path = folder / "history.db"
        self.counters = Counters()
        self._history = History(self._history_path, bounds, self._count_lost, clock) if bounds else None
        self._mode, self._on_orders = mode, on_orders
        self._orders, trouble = self._book.read(clock())
        if trouble:
            log.error("orders cannot be read; everything is on hold: ballonet release", extra={"trouble": trouble})
        self._changing = asyncio.Lock()
        self._tick: Tick | None = None
        self._kept_at = 0.0
        self._pending: list[Change] = []
        self._ticked = asyncio.Event()
        self.others: Callable[[], list[Finding]] = list
        """Findings of what is around the desk."""

    # From the loop

    @property
    def mode(self) -> Mode:
        """Of the host: as ordered, else as configured."""
        return self._orders.mode or self._mode()

    def hold_of(self, name: str) -> str:
        """Why a guest is on hold; empty = it is not."""
        return held(self._orders, name, self._clock()) if self._orders.hold or self._orders.holds else ""

    def order_of(self, name: str) -> GuestOrder | None:
        """What was ordered of a guest."""
        return self._orders.guests.get(name)

    def note(self, tick: Tick, changes: Sequence[Changed]) -> None:
        """Takes a tick."""
        now = self._clock()
        self._tick = tick = replace(tick, at=now)
        self._count(tick)
        if self._history is None:
            self._wake()
            return
        self._pending += [change_of(decision, guest, now) for decision, guest in changes]
        every_s = KEPT_EVERY_S / 10 if any(one.is_command for one in tick.plan.guests) else KEPT_EVERY_S
        if not 0 <= now - self._kept_at < every_s * 0.95:
            self._history.note(tick, self._pending)
            self._kept_at, self._pending = now, []
        self._wake()

    def _wake(self) -> None:
        """Whoever waits for the next tick."""
        self._ticked.set()
        self._ticked = asyncio.Event()

    def set_bounds(self, bounds: Bounds | None) -> None:
        """Of history; whether any is kept changes with a restart only."""
        if self._history is not None and bounds is not None:
            self._history.bounds = bounds

    @property
    def backlog(self) -> int:
        """Ticks that wait for the disk."""
        return self._history.backlog if self._history is not None else 0

    def close(self) -> None:
        """Writes what waits."""
        if self._history is not None:
            if self._tick is not None and self._pending:
                self._history.note(self._tick, self._pending)
            self._history.close()

    def _count(self, tick: Tick) -> None:
        self.counters.ticks += 1
        if tick.outcome.sent or tick.outcome.failed:
            uuids = {guest.name: guest.uuid for guest in tick.snapshot.guests}
            reasons = {one.name: one.reason.value for one in tick.plan.guests}
            for name in tick.outcome.sent:
                self.counters.commands[name, uuids.get(name, ""), reasons.get(name, "")] += 1
            for name in tick.outcome.failed:
                self.counters.failures[name, uuids.get(name, "")] += 1
        if self.counters.ticks % 1000 == 0:
            self.counters.keep_only(guest.name for guest in tick.snapshot.guests)

    def _count_lost(self) -> None:
        self.counters.lost += 1

    # From the API

    def status(self) -> Status:
        """As the protocol says."""
        tick = self._last()
        return status_of(tick, at=tick.at, mode=self.mode, hold=self.hold_of(""))

    async def statuses(self) -> AsyncIterator[Status]:
        """As the protocol says."""
        while True:
            if self._tick is not None:
                yield self.status()
                await asyncio.sleep(LIVE_EVERY_S)
            await self._ticked.wait()

    async def explain(self, name: str, at: float | None) -> Explanation:
        """As the protocol says."""
        if at is None:
            tick = self._last()
            return explain(tick, name, at=tick.at, mode=self.mode)
        tick = await asyncio.to_thread(reader.tick_at, self._history_path, at)
        return explain(tick, name, at=tick.at, mode=self.mode, is_past=True)

    def orders(self) -> Orders:
        """As the protocol says."""
        return self._orders

    async def set_guest(self, name: str, order: GuestOrder) -> Orders:
        """As the protocol says."""
        self._require(name)
        return await self._change(lambda orders: with_guest(orders, name, order), "set", name)

    async def hold(self, name: str, order: HoldOrder) -> Orders:
        """As the protocol says."""
        if name:
            self._require(name)
        return await self._change(lambda orders: with_hold(orders, name, order, self._clock()), "hold", name)

    async def release(self, name: str) -> Orders:
        """As the protocol says."""
        if name:
            self._require(name)
        return await self._change(lambda orders: without_hold(orders, name), "release", name)

    async def set_mode(self, mode: Mode | None) -> Orders:
        """As the protocol says."""
        return await self._change(lambda orders: with_mode(orders, mode), "mode", "")

    async def changes(self, name: str, since: float, until: float, limit: int) -> list[Change]:
        """As the protocol says."""
        return await asyncio.to_thread(reader.changes, self._history_path, name, since, until, limit)

    async def samples(self, name: str, since: float, until: float, limit: int) -> list[Sample]:
        """As the protocol says."""
        return await asyncio.to_thread(reader.samples, self._history_path, name, since, until, limit)

    async def findings(self) -> list[Finding]:
        """As the protocol says."""
        tick = self._last()
        found = self.others() + descriptor_findings(len(tick.snapshot.guests))
        found += await asyncio.to_thread(HostDoctor(self._root).findings)
        found += limit_findings(tick.snapshot.host)
        for guest in tick.snapshot.guests:
            found += guest_findings(guest)
        return found

    def metrics(self) -> bytes:
        """As the protocol says."""
        return exposition(self.status() if self._tick is not None else None, self.counters)

    def _last(self) -> Tick:
        if self._tick is None:
            raise NotYetError("the daemon has not looked yet; ask again in a second, or see its log for why")
        return self._tick

    def _require(self, name: str) -> None:
        known = {guest.name for guest in self._tick.snapshot.guests} if self._tick else set()
        if name not in known | self._orders.guests.keys() | self._orders.holds.keys():
            raise NoSuchGuestError(f"no guest {name!r} here; there are: {', '.join(sorted(known)) or 'none at all'}")

    async def _change(self, change: Callable[[Orders], Orders], what: str, name: str) -> Orders:
        async with self._changing:
            orders = change(self._orders)
            await asyncio.to_thread(self._book.write, orders)
            self._orders = orders
        log.warning("ordered", extra={"what": what, "guest": name, "orders": str(orders)})
        self._on_orders()
        return orders
