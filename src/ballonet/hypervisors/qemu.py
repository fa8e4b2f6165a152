"""QEMU/KVM through QMP sockets: the virtio balloon of each guest, looked at by a task of its own.

Sizes in QMP are bytes already. What is measured how:

- what the guest keeps: `query-balloon`, and BALLOON_CHANGE (QEMU sends at most one a second);
- what the guest says: `guest-stats` of the balloon device. QEMU asks the driver each `guest-stats-polling-interval`
  whole seconds; setting it to 0 and back to 1 asks at once, which gives numbers younger than a second when it matters;
- what it costs the host: /proc (`process.py`).
"""

import asyncio
import contextlib
import glob
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from ballonet.hypervisors.contract import (
    Capabilities,
    GuestGoneError,
    HypervisorError,
    Mechanism,
    NoAnswerError,
    RefusedError,
    Steering,
)
from ballonet.hypervisors.process import Process
from ballonet.hypervisors.qmp import QmpSession
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest, GuestStats

log = logging.getLogger(__name__)

ABSENT: Final = 2**64 - 1
"""How QMP writes a statistic that the guest did not send (hw/virtio/virtio-balloon.c, reset_stats)."""
ANSWER_S: Final = 0.15
"""How long a guest is given to answer a request for statistics before they are read; one that takes longer is read on
the next look. An idle guest under TCG answers within 60 ms."""
DEADLINE_S: Final = 1.0
FACTS_EVERY_S: Final = 2.0
BOOT_S: Final = 120.0
"""A guest without a balloon driver after this long does not have one; before, it may still be booting."""
SILENT_S: Final = 3.0
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0)
_EVENTS: Final = ("BALLOON_CHANGE", "STOP", "RESUME", "SHUTDOWN", "MIGRATION")


class _Name(Struct):
    name: str | None = None


class _Memory(Struct):
    base: int = field(name="base-memory")
    plugged: int = field(name="plugged-memory", default=0)


class _Balloon(Struct):
    actual: int


class _Status(Struct):
    status: str


class _Migration(Struct):
    status: str = "none"


class _Object(Struct):
    name: str
    type: str


class _Stats(Struct):
    """Of `guest-stats`; tags as QEMU names them."""

    total: int = field(name="stat-total-memory", default=ABSENT)
    free: int = field(name="stat-free-memory", default=ABSENT)
    available: int = field(name="stat-available-memory", default=ABSENT)
    cache: int = field(name="stat-disk-caches", default=ABSENT)
    swap_in: int = field(name="stat-swap-in", default=ABSENT)
    swap_out: int = field(name="stat-swap-out", default=ABSENT)
    major_faults: int = field(name="stat-major-faults", default=ABSENT)


class _Report(Struct):
    stats: _Stats
    last_update: int = field(name="last-update")


class QemuGuest:
    """One QEMU process behind one QMP socket."""

    def __init__(self, path: str, root: Path, news: Callable[[], None]) -> None:
        self.path = path
        self.name = Path(path).stem
        self._root = root
        self._news = news
        self._session: QmpSession | None = None
        self._process: Process | None = None
        self._look = Look(1.0, 0)
        self._look_now = asyncio.Event()
        self._balloon_path = ""
        self._ceiling_bytes = 0
        self._keep_bytes: int | None = None
        self._answered_at = time.monotonic()
        self._stats: GuestStats | None = None
        self._stats_at = 0.0
        self._updated: tuple[int, _Stats] | None = None
        self._facts_at = 0.0
        self._leave_alone = ""
        self._is_migrating = False
        self._trouble = ""

    # What others ask

    @property
    def pid(self) -> int | None:
        """Its process; None while it was never reached."""
        return self._process.pid if self._process else None

    def reading(self) -> Guest | None:
        """What is known now; None until it has answered for the first time."""
        if not self._ceiling_bytes:
            return None
        now = time.monotonic()
        silent_s = now - self._answered_at
        leave_alone = self._leave_alone
        if silent_s > SILENT_S:
            leave_alone = f"QEMU has not answered for {silent_s:.0f} s ({self._trouble or 'no reason given'})"
        return Guest(
            name=self.name,
            ceiling_bytes=self._ceiling_bytes,
            keep_bytes=self._keep_bytes,
            keep_age_s=silent_s,
            resident_bytes=self._process.resident_bytes() if self._process else None,
            stats=self._stats,
            stats_age_s=now - self._stats_at if self._stats else None,
            can_balloon=not leave_alone,
            is_migrating=self._is_migrating,
            leave_alone=leave_alone,
        )

    def watch(self, look: Look) -> None:
        """A closer look begins at once."""
        if look.every_s < self._look.every_s:
            self._look_now.set()
        self._look = look

    async def set_keep(self, keep_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        if not 0 < keep_bytes <= self._ceiling_bytes:
            raise RefusedError(f"{self.name}: {keep_bytes} bytes is not within 1 and its ceiling of {self._ceiling_bytes}")
        if self._session is None or not self._session.is_open:
            raise NoAnswerError(f"{self.name}: no connection ({self._trouble})")
        await self._session.call("balloon", dict[str, Any], deadline_s, value=keep_bytes)

    # Its own life

    async def run(self) -> None:
        """Connects, looks, and connects again, until cancelled."""
        failures = 0
        while True:
            try:
                await self._live()
            except HypervisorError as error:
                failures = 0 if self._session is not None else failures + 1
                self._tell(str(error))
            finally:
                if self._session is not None:
                    await self._session.close()
                    self._session = None
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])

    def _tell(self, trouble: str) -> None:
        """Says a trouble once, and again when it changes."""
        if trouble != self._trouble:
            log.warning("guest in trouble", extra={"guest": self.name, "socket": self.path, "trouble": trouble})
        self._trouble = trouble

    async def _live(self) -> None:
        session = await QmpSession.open(self.path, DEADLINE_S * 2)
        self._session = session
        self._process = Process(session.pid, self._root) if session.pid else None
        await self._identify(session)
        listening = asyncio.create_task(self._listen(session))
        try:
            while session.is_open:
                await self._take_a_look(session)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._look_now.wait(), self._look.every_s)
                self._look_now.clear()
            raise NoAnswerError("the connection broke")
        finally:
            listening.cancel()

    async def _identify(self, session: QmpSession) -> None:
        self.name = (await session.call("query-name", _Name, DEADLINE_S)).name or self.name
        memory = await session.call("query-memory-size-summary", _Memory, DEADLINE_S)
        devices = []
        for folder in ("/machine/peripheral", "/machine/peripheral-anon"):
            objects = await session.call("qom-list", list[_Object], DEADLINE_S, path=folder)
            devices += [(f"{folder}/{device.name}", device.type) for device in objects]
        self._balloon_path = next((path for path, kind in devices if kind.startswith("child<virtio-balloon")), "")
        self._has_vfio = any(kind.startswith("child<vfio-") for _, kind in devices)
        if self._balloon_path:
            await self._set_interval(session, 1)
        self._ceiling_bytes = memory.base + memory.plugged
        self._facts_at = 0.0
        self._news()

    async def _set_interval(self, session: QmpSession, interval_s: int) -> None:
        path, name = self._balloon_path, "guest-stats-polling-interval"
        await session.call("qom-set", dict[str, Any], DEADLINE_S, path=path, property=name, value=interval_s)

    async def _listen(self, session: QmpSession) -> None:
        async for name, data in session.events(*_EVENTS):
            if name != "BALLOON_CHANGE":
                self._facts_at = 0.0
            elif isinstance(data, dict) and isinstance(data.get("actual"), int):
                self._keep_bytes = data["actual"]
            self._look_now.set()

    async def _take_a_look(self, session: QmpSession) -> None:
        """One round of questions. One that fails leaves the old numbers, which grow old."""
        try:
            if time.monotonic() - self._facts_at > FACTS_EVERY_S:
                await self._check(session)
            if self._balloon_path:
                await self._read_balloon(session)
        except NoAnswerError as error:
            self._tell(str(error))
            if not session.is_open:
                raise
        except RefusedError as error:
            self._leave_alone = self._leave_alone or f"its balloon cannot be read: {error}"
            self._tell(str(error))
        else:
            self._answered_at = time.monotonic()
            self._trouble = ""

    async def _read_balloon(self, session: QmpSession) -> None:
        asked_at = time.monotonic()
        if self._look.every_s < 1.0:
            await asyncio.gather(self._set_interval(session, 0), self._set_interval(session, 1))
            await asyncio.sleep(min(ANSWER_S, self._look.every_s / 3))
        report, balloon = await asyncio.gather(
            session.call("qom-get", _Report, DEADLINE_S, path=self._balloon_path, property="guest-stats"),
            session.call("query-balloon", _Balloon, DEADLINE_S),
        )
        self._keep_bytes = balloon.actual
        self._take_stats(report, asked_at)
        if self._is_urgent():
            self._news()

    def _take_stats(self, report: _Report, asked_at: float) -> None:
        """`last-update` counts whole seconds: a changed number says more precisely that the guest answered since."""
        if report.last_update <= 0:
            return
        now = time.monotonic()
        if self._updated != (report.last_update, report.stats):
            is_first = self._stats is None
            if is_first:
                self._facts_at = 0.0  # there is a driver after all
            self._updated = (report.last_update, report.stats)
            age_s = max(0.0, time.time() - report.last_update - 1.0)
            self._stats_at = now - age_s if is_first else max(asked_at, now - age_s)
        elif time.time() - report.last_update < 1.0 + (now - asked_at):
            self._stats_at = max(self._stats_at, now - 1.0)
        s = report.stats
        self._stats = GuestStats(
            total_bytes=_known(s.total),
            free_bytes=_known(s.free),
            available_bytes=_known(s.available),
            cache_bytes=_known(s.cache),
            swap_in_bytes=_known(s.swap_in),
            swap_out_bytes=_known(s.swap_out),
            major_faults=_known(s.major_faults),
        )

    def _is_urgent(self) -> bool:
        available = self._stats.available_bytes if self._stats else None
        return available is not None and available < self._look.wake_below_bytes

    async def _check(self, session: QmpSession) -> None:
        """Whether this guest can be ballooned at all (R13)."""
        status = await session.call("query-status", _Status, DEADLINE_S)
        migration = await session.call("query-migrate", _Migration, DEADLINE_S)
        self._is_migrating = migration.status in {"setup", "active", "device", "postcopy-active", "pre-switchover"}
        self._leave_alone = self._why_not(status.status)
        self._facts_at = time.monotonic()

    def _why_not(self, status: str) -> str:  # noqa: PLR0911 a list of reasons, one line each
        facts = self._process.facts() if self._process else None
        if not self._balloon_path:
            return "it has no balloon device; add -device virtio-balloon-pci"
        if self._is_migrating or status in {"inmigrate", "postmigrate", "finish-migrate"}:
            return "it is being migrated"
        if status != "running":
            return f"it is not running ({status})"
        if self._has_vfio or (facts and facts.has_vfio):
            return "a device is passed through (VFIO), which pins its memory"
        if facts and facts.hugetlb_bytes:
            return "its memory is huge pages, of which a balloon frees none"
        if facts and facts.locked_bytes > self._ceiling_bytes // 2:
            return "its memory is locked (mlock), so a balloon frees none"
        if self._updated is None:
            is_booting = facts is None or facts.age_s < BOOT_S
            return "it is still booting, or has no balloon driver" if is_booting else "no balloon driver answers in it"
        return ""


def _known(value: int) -> int | None:
    return value if 0 <= value < ABSENT else None


class QemuHypervisor:
    """Every guest whose QMP socket matches a pattern. Guests come and go by themselves."""

    def __init__(self, sockets: tuple[str, ...], root: Path = Path("/"), discover_s: float = 1.0) -> None:
        """Args:
        sockets: paths of QMP sockets, wildcards allowed.
        root: where /proc is found.
        discover_s: how often to look for new sockets.
        """
        self._sockets = sockets
        self._root = root
        self._discover_s = discover_s
        self._news = asyncio.Event()
        self._guests: dict[str, QemuGuest] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._discovery: asyncio.Task[None] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """It steers a target by balloons."""
        return Capabilities(name="qemu", steering=Steering.TARGET, mechanisms=frozenset({Mechanism.BALLOON}))

    @property
    def news(self) -> asyncio.Event:
        """As the contract says."""
        return self._news

    async def open(self) -> None:
        """Starts to discover and watch."""
        self._discovery = asyncio.create_task(self._discover())

    async def close(self) -> None:
        """Ends all sessions; guests stay as they are."""
        tasks = [task for task in (self._discovery, *self._tasks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._guests.clear()

    def guests(self) -> tuple[Guest, ...]:
        """As the contract says. Where two guests have one name, the later socket's is NAME@SOCKET."""
        found: dict[str, Guest] = {}
        for guest in self._guests.values():
            if guest.name in found:
                guest.name = f"{guest.name}@{Path(guest.path).stem}"
            if (reading := guest.reading()) is not None:
                found[reading.name] = reading
        return tuple(found.values())

    def pids(self) -> tuple[int, ...]:
        """As the contract says."""
        return tuple(pid for guest in self._guests.values() if (pid := guest.pid) is not None)

    def watch(self, name: str, look: Look) -> None:
        """As the contract says."""
        if (guest := self._named(name)) is not None:
            guest.watch(look)

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        guest = self._named(name)
        if guest is None:
            raise GuestGoneError(f"{name}: no such guest")
        await guest.set_keep(keep_bytes, deadline_s)

    def _named(self, name: str) -> QemuGuest | None:
        return next((guest for guest in self._guests.values() if guest.name == name), None)

    async def _discover(self) -> None:
        while True:
            paths = {path for pattern in self._sockets for path in glob.glob(pattern)}  # noqa: PTH207 patterns are absolute
            for path in sorted(paths - self._guests.keys()):
                self._guests[path] = guest = QemuGuest(path, self._root, self._news.set)
                self._tasks[path] = asyncio.create_task(guest.run())
            for path in list(self._guests):
                if path not in paths or self._has_died(path):
                    await self._forget(path)
            await asyncio.sleep(self._discover_s)

    def _has_died(self, path: str) -> bool:
        """A socket file outlives a QEMU that was killed; its process does not."""
        pid = self._guests[path].pid
        return pid is not None and not (self._root / "proc" / str(pid)).exists()

    async def _forget(self, path: str) -> None:
        guest, task = self._guests.pop(path), self._tasks.pop(path)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        log.info("guest gone", extra={"guest": guest.name, "socket": path})
        self._news.set()
