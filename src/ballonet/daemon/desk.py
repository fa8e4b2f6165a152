"""The daemon's answers to whoever asks over the control API: the last tick, the orders, history."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from ballonet.control.explain import explain
from ballonet.control.messages import (
    Change,
    ControlError,
    Explanation,
    GuestOrder,
    HoldOrder,
    NoSuchGuestError,
    NotYetError,
    Orders,
    Sample,
    Status,
    given,
)
from ballonet.control.metrics import Counters, exposition
from ballonet.control.notes import set_notes
from ballonet.control.orders import (
    OrderBook,
    bound,
    held,
    key_of,
    order_of,
    standing,
    was_held,
    with_guest,
    with_hold,
    with_mode,
    without_hold,
)
from ballonet.control.tell import change_of, status_of
from ballonet.daemon.changes import Changed
from ballonet.daemon.descriptors import descriptor_findings
from ballonet.history import reader
from ballonet.history.store import Bounds, History
from ballonet.model.finding import Finding
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.tick import Tick
from ballonet.sense import contradictions
from ballonet.sense.doctor import HostDoctor, guest_findings, limit_findings
from ballonet.sense.picture import GuestSettings

log = logging.getLogger(__name__)

_NO_NAMES: Final = frozenset({".", ".."})
"""Folders, and never a VM: libvirt, Proxmox VE and others keep files under a VM's name."""
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
        self.settings_of: Callable[[Guest], GuestSettings] = lambda _guest: GuestSettings()
        """What counts for a guest, orders and configuration together."""
        self.settled: Callable[[], Iterable[str]] = tuple
        """Of which guests the configuration says something."""

    # From the loop

    @property
    def mode(self) -> Mode:
        """Of the host: as ordered, else as configured."""
        return self._orders.mode or self._mode()

    def hold_of(self, guest: Guest | None) -> str:
        """Why a guest, or the whole host, is on hold; empty = it is not."""
        return held(self._orders, guest, self._clock()) if self._orders.hold or self._orders.holds else ""

    def order_of(self, guest: Guest) -> GuestOrder | None:
        """What was ordered of a guest."""
        return order_of(self._orders, guest)

    def note(self, tick: Tick, changes: Sequence[Changed]) -> None:
        """Takes a tick."""
        now = self._clock()
        self._tick = tick = replace(tick, at=now)
        if (orders := bound(self._orders, tick.snapshot.guests)) is not self._orders:
            self._bind(orders)
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

    def _bind(self, orders: Orders) -> None:
        """Guests came of which something was ordered by name: from here on it is theirs, whatever they are called."""
        with contextlib.suppress(ControlError):  # by name they have it all the same; tried again at the next order
            self._book.write(orders)
        self._orders = orders

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
        return status_of(tick, at=tick.at, mode=self.mode, hold=self.hold_of(None))

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
        guest = self._guest(name)
        before = self.settings_of(guest) if guest else None
        orders = await self._change(lambda orders, key: with_guest(orders, key, order, self._called(name)), "set", name)
        if guest is None or before is None:
            return replace(orders, notes=(self._awaited(name),))
        return replace(orders, notes=set_notes(guest, given(order), before, self.settings_of(guest)))

    async def hold(self, name: str, order: HoldOrder) -> Orders:
        """As the protocol says."""
        called, now = self._called(name), self._clock()
        orders = await self._change(lambda orders, key: with_hold(orders, key, order, now, called), "hold", name)
        return orders if not name or self._guest(name) else replace(orders, notes=(self._awaited(name),))

    async def release(self, name: str) -> Orders:
        """As the protocol says."""
        if name:
            self._require(name)
        note = was_held(self._orders, key_of(self._orders, name, self._guests()) if name else "", self._clock())
        orders = await self._change(without_hold, "release", name)
        return replace(orders, notes=(note,)) if note else orders

    async def set_mode(self, mode: Mode | None) -> Orders:
        """As the protocol says."""
        return await self._change(lambda orders, _key: with_mode(orders, mode), "mode", "")

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
        found += limit_findings(tick.snapshot.host) + contradictions.findings(tick.snapshot, self.settled())
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
        key = key_of(self._orders, name, self._guests())
        if self._guest(name) is None and key not in self._orders.guests and key not in self._orders.holds:
            raise NoSuchGuestError(f"no guest {name!r} here; there are: {self._names()}")

    def _guests(self) -> tuple[Guest, ...]:
        return self._tick.snapshot.guests if self._tick else ()

    def _guest(self, name: str) -> Guest | None:
        return next((guest for guest in self._guests() if name in (guest.name, guest.uuid)), None)

    def _called(self, name: str) -> str:
        """The name of a guest that may have been named by its UUID."""
        guest = self._guest(name)
        return guest.name if guest else name

    def _names(self) -> str:
        return ", ".join(sorted(guest.name for guest in self._guests())) or "none at all"

    def _awaited(self, name: str) -> str:
        return f"no guest {name!r} is up; it is kept for when one comes. There are: {self._names()}"

    async def _change(self, change: Callable[[Orders, str], Orders], what: str, name: str) -> Orders:
        """Changes the orders, of the guest that is called so, or of the host when `name` is empty."""
        if name in _NO_NAMES:
            raise NoSuchGuestError(f"no guest {name!r}, and there can be none; there are: {self._names()}")
        async with self._changing:
            old = standing(self._orders, self._clock())
            orders = change(old, key_of(old, name, self._guests()) if name else "")
            await asyncio.to_thread(self._book.write, orders)
            self._orders = orders
        log.warning("ordered", extra={"what": what, "guest": name, "orders": str(orders)})
        self._on_orders()
        return orders
