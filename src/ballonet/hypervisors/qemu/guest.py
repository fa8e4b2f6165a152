"""One QEMU guest behind one QMP socket: a task of its own connects, looks, and connects again.

Sizes in QMP are bytes already. What is measured how:

- what the guest keeps: `query-balloon` and its virtio-mem (`mover.py`), and BALLOON_CHANGE (QEMU sends at most one a second);
- what the guest says: by its agent, where one speaks (`agent.py`, `guest_agent.py`); else `guest-stats` of the balloon
  device. QEMU asks the driver each `guest-stats-polling-interval` whole seconds; setting it to 0 and back to 1 asks at
  once, which gives numbers younger than a second when it matters;
- what it costs the host: /proc (`process.py`).
"""

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from ballonet.hypervisors.contract import HypervisorError, NoAnswerError, RefusedError
from ballonet.hypervisors.local import agent, guest_agent
from ballonet.hypervisors.local.agent import AgentChannel
from ballonet.hypervisors.local.alone import is_arriving, is_booting, is_migrating, why_alone
from ballonet.hypervisors.local.guest import LocalGuest
from ballonet.hypervisors.local.guest_agent import GuestAgent
from ballonet.hypervisors.local.process import Occupied, Process
from ballonet.hypervisors.paths import text_of
from ballonet.hypervisors.qemu.answers import Migration, Name, Nothing, Object, Report, Sev, Status, Uuid, Version
from ballonet.hypervisors.qemu.mover import Mover, read_layout
from ballonet.hypervisors.qemu.ports import port_sockets
from ballonet.hypervisors.qemu.qmp import NonsenseError, QmpSession
from ballonet.hypervisors.tended import tended
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest, GuestStats, Mechanism, Voice

log = logging.getLogger(__name__)

ANSWER_S: Final = 0.15
"""How long a guest is given to answer a request for statistics before they are read; one that takes longer is read on
the next look. An idle guest under TCG answers within 60 ms."""
DEADLINE_S: Final = 1.0
FACTS_EVERY_S: Final = 10.0
"""How often it is asked whether it runs and migrates; events tell at once that it stopped or went on."""
DESCRIBE_EVERY_S: Final = 5.0
"""How often its devices and the make-up of its memory are looked at: QEMU tells of what goes, and not of what is plugged in."""
KEEP_EVERY_S: Final = 10.0
"""How often a guest at rest is asked what it keeps: QEMU tells of each change (BALLOON_CHANGE); an event can be lost."""
SILENT_S: Final = 3.0
RECONNECT_S: Final = 8.0
"""A session without an answer for so long is given up. Longer than most stops of a QEMU: after those the old one goes on."""
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0)
_EVENTS: Final = (
    "BALLOON_CHANGE",
    "STOP",
    "RESUME",
    "SHUTDOWN",
    "MIGRATION",
    "RESET",
    "DEVICE_DELETED",
    "MEMORY_DEVICE_SIZE_CHANGE",
    "ACPI_DEVICE_OST",
)
_CONFIDENTIAL: Final = ("child<sev-", "child<tdx-", "child<s390-pv-", "child<pef-", "child<arm-rme-")
"""Types of objects that encrypt a guest's memory (qapi/qom.json, ObjectType)."""


class QemuGuest(LocalGuest):
    """One QEMU process behind one QMP socket."""

    _hears_events = True

    def __init__(self, path: str, root: Path, news: Callable[[], None], *, listens: bool = True) -> None:
        """Args:
        path: of the QMP socket.
        root: where /proc is found.
        news: to be called when the loop should not wait.
        listens: whether to hear an agent in the guest, where there is a port for one.
        """
        super().__init__(text_of(Path(path).stem), news, socket=path)
        self.path = path
        self._root = root
        self._listens = listens
        self._guest_agent: GuestAgent | None = None
        self._session: QmpSession | None = None
        self._balloon_path = ""
        self._mover: Mover | None = None
        self._keep_bytes: int | None = None
        self._answered_at = time.monotonic()
        self._facts_at = 0.0
        self._is_migrating = False
        self._keep_at = 0.0
        self._pins: frozenset[str] = frozenset()
        self._confidential: bool | None = None
        self._described_at = 0.0
        self._phase = random.random()  # noqa: S311 it only spreads
        self._uuid = self._told_name = ""
        self._version = ""
        self._reports_free_pages: bool | None = None

    # What others ask

    @property
    def has_died(self) -> bool:
        """Whether its process was known, and is gone. Who still talks has not died."""
        is_talking = self._session is not None and self._session.is_open
        return not is_talking and self._process is not None and self._process.has_died

    @property
    def started_s(self) -> float:
        """When its process began, in seconds since the host's boot; infinite while that is not known."""
        started_s = self._process.started_s if self._process else None
        return math.inf if started_s is None else started_s

    @property
    def identity(self) -> tuple[int, str] | None:
        """Who answers, whatever the socket: its process, and its UUID or name, since one process may pass on what several say.
        None = not known.
        """
        called = self._uuid or self._told_name
        return (self.pid, called) if self.pid and called else None

    def reading(self) -> Guest | None:
        """What is known now; None until it has answered for the first time."""
        if self._mover is None:
            return None
        now = time.monotonic()
        silent_s = now - self._answered_at
        leave_alone = self._leave_alone
        stats, stats_age_s, voice = self._heard(now)
        occupied = self._process.occupied(self._mover.ceiling_bytes) if self._process else Occupied(None)
        if silent_s > SILENT_S:
            what = f"QEMU has not answered for {silent_s:.0f} s ({self._trouble or 'no reason given'})"
            process = f"process {self.pid}" if self.pid else "its process"
            leave_alone = f"{what}; see whether {process} is stopped or waits for a disk, or another client holds {self.path}"
        return Guest(
            name=self.name,
            ceiling_bytes=self._mover.ceiling_bytes,
            mechanisms=self._mover.mechanisms,
            keep_bytes=self._keep_bytes,
            keep_age_s=silent_s,
            resident_bytes=occupied.resident_bytes,
            swapped_bytes=occupied.swapped_bytes,
            huge_bytes=occupied.huge_bytes,
            stats=stats,
            stats_age_s=stats_age_s,
            voice=voice,
            ready_share=self._ready_share,
            can_balloon=not leave_alone,
            is_migrating=self._is_migrating,
            is_starting=self._is_starting,
            silence=self._silence,
            leave_alone=leave_alone,
            uuid=self._uuid,
            hypervisor=self._version,
            reports_free_pages=self._reports_free_pages,
        )

    def _heard(self, now: float) -> tuple[GuestStats | None, float | None, Voice]:
        """The same, with QEMU's guest agent between the two."""
        heard = super()._heard(now)
        if heard[2] is not Voice.AGENT and self._guest_agent is not None and (stats := self._guest_agent.stats) is not None:
            return stats, self._guest_agent.age_s, Voice.GUEST_AGENT
        return heard

    def watch(self, look: Look) -> None:
        """The same for QEMU's guest agent."""
        super().watch(look)
        if self._guest_agent is not None:
            is_heard = self._agent is not None and self._agent.stats is not None
            self._guest_agent.watch(guest_agent.SPARE_S if is_heard else look.every_s)

    async def set_keep(self, keep_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        if self._mover is None:
            raise NoAnswerError(f"{self.name}: no connection ({self._trouble})")
        ceiling = self._mover.ceiling_bytes
        if not 0 < keep_bytes <= ceiling:
            raise RefusedError(f"{self.name}: {keep_bytes} bytes is not within 1 and its ceiling of {ceiling}")
        async with self._talk() as session:
            # Not every QEMU tells of a migration that begins (its capability `events`), and a guest on its way is left alone.
            migration = await session.call("query-migrate", Migration, deadline_s)
            if is_migrating(migration.status, ""):
                self._is_migrating = True
                raise RefusedError(f"{self.name}: it is being migrated")
            await self._mover.set_keep(session, keep_bytes, deadline_s)
        self._keep_at = 0.0

    @contextlib.asynccontextmanager
    async def _talk(self) -> AsyncIterator[QmpSession]:
        """The open session. Raises NoAnswerError."""
        if self._session is None or not self._session.is_open:
            raise NoAnswerError(f"{self.name}: no connection ({self._trouble})")
        yield self._session

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
            except Exception:  # whatever one guest's QEMU says, the others are looked after
                failures += 1
                log.exception("guest failed", extra={"guest": self.name, "socket": self.path})
            finally:
                if self._session is not None:
                    self._session.close()
                    self._session = None
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])

    async def _live(self) -> None:
        session = await QmpSession.open(self.path, DEADLINE_S * 2)
        self._session = session
        self._begin_life(session)
        await self._identify(session)
        tasks = [tended(f"events of {self.name}", partial(self._listen, session), is_endless=False), *self._begin_voices()]
        try:
            while session.is_open:
                await self._take_a_look(session)
                await self._rest()
            raise NoAnswerError("the connection broke")
        finally:
            await self._end(tasks)

    def _begin_life(self, session: QmpSession) -> None:
        """Of a process; what was known of another one with this socket counts no more."""
        before = self._process
        self._process = Process(session.pid, self._root) if session.pid else None
        if before is not None and (self._process is None or before.pid != self._process.pid):
            self._mover = self._confidential = self._keep_bytes = None
            self.name = text_of(Path(self.path).stem)
            self._forget_words()

    def _begin_voices(self) -> list[asyncio.Task[None]]:
        voices = (voice for voice in (self._agent, self._guest_agent) if voice is not None)
        return [tended(f"{type(voice).__name__} of {self.name}", voice.run) for voice in voices]

    @staticmethod
    async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _identify(self, session: QmpSession) -> None:
        self._told_name = (await session.call("query-name", Name, DEADLINE_S)).name or ""
        self.name = self._told_name or self.name
        devices = await self._describe(session)
        if self._listens:
            await self._find_agents(session, devices)
        await self._ask_of_itself(session)
        self._facts_at = 0.0
        self._news()

    async def _describe(self, session: QmpSession) -> list[tuple[str, str]]:
        """What it is made of now: its devices, with their types, and its memory. Raises HypervisorError."""
        devices = []
        for folder in ("/machine/peripheral", "/machine/peripheral-anon"):
            objects = await session.call("qom-list", list[Object], DEADLINE_S, path=folder)
            devices += [(f"{folder}/{device.name}", device.type) for device in objects]
        balloon_path = next((path for path, kind in devices if kind.startswith("child<virtio-balloon")), "")
        layout = await read_layout(session)
        if self._mover is None or balloon_path != self._balloon_path or not layout.is_like(self._mover.layout):
            self._balloon_path, self._mover, self._keep_at, self._facts_at = balloon_path, Mover(balloon_path, layout), 0.0, 0.0
            if balloon_path:
                await self._set_interval(session, 1)
        pins = {pin for pin, mark in (("vfio", "child<vfio-"), ("vhost-vdpa", "child<vhost-vdpa")) if _has(devices, mark)}
        if await self._is_confidential(session):
            pins.add("confidential")
        self._pins, self._described_at = frozenset(pins), self._counts_as_asked(self._described_at, DESCRIBE_EVERY_S)
        return devices

    async def _is_confidential(self, session: QmpSession) -> bool:
        """Whether its memory is encrypted; asked once, as it cannot change. A QEMU that does not say is asked no more."""
        if self._confidential is None:
            found = False
            with contextlib.suppress(RefusedError):
                objects = await session.call("qom-list", list[Object], DEADLINE_S, path="/objects")
                found = any(one.type.startswith(_CONFIDENTIAL) for one in objects)
            with contextlib.suppress(RefusedError):
                found |= (await session.call("query-sev", Sev, DEADLINE_S)).enabled
            self._confidential = found  # only now: with an answer that was late, it is asked again
        return self._confidential

    async def _ask_of_itself(self, session: QmpSession) -> None:
        """What only people want to know; a QEMU that does not say is as good."""
        with contextlib.suppress(RefusedError):
            uuid = (await session.call("query-uuid", Uuid, DEADLINE_S)).uuid
            self._uuid = uuid if uuid.strip("0-") else ""
        with contextlib.suppress(RefusedError):
            qemu = (await session.call("query-version", Version, DEADLINE_S)).qemu
            self._version = f"QEMU {qemu.major}.{qemu.minor}.{qemu.micro}"
        if self._balloon_path:
            with contextlib.suppress(RefusedError):
                self._reports_free_pages = await session.call(
                    "qom-get", bool, DEADLINE_S, path=self._balloon_path, property="free-page-reporting"
                )

    async def _find_agents(self, session: QmpSession, devices: list[tuple[str, str]]) -> None:
        try:
            sockets = await port_sockets(session, devices)
        except RefusedError as error:  # a QEMU that does not say: its balloon speaks
            log.info("guest's ports are not known", extra={"guest": self.name, "trouble": str(error)})
            sockets = {}
        ours, theirs = sockets.get(agent.PORT), sockets.get(guest_agent.PORT)
        self._agent = AgentChannel(ours, self.name, self._on_message) if ours else None
        self._guest_agent = GuestAgent(theirs, self.name, self._on_stats) if theirs else None

    def _on_stats(self, stats: GuestStats) -> None:
        if (stats.available_bytes or 0) < self._look.wake_below_bytes:
            self._look_now.set()
            self._news()

    async def _set_interval(self, session: QmpSession, interval_s: int) -> None:
        path, name = self._balloon_path, "guest-stats-polling-interval"
        await session.call("qom-set", Nothing, DEADLINE_S, path=path, property=name, value=interval_s)

    async def _listen(self, session: QmpSession) -> None:
        async for name in session.events(*_EVENTS):
            if name == "BALLOON_CHANGE":
                self._keep_at = 0.0
            else:
                self._facts_at = self._described_at = 0.0
            if name == "RESET":
                self._begin_anew()
            self._look_now.set()

    async def _take_a_look(self, session: QmpSession) -> None:
        """One round of questions. One that fails leaves the old numbers, which grow old."""
        try:
            await self._look_for_reset(session)
            if time.monotonic() - self._described_at > DESCRIBE_EVERY_S:
                await self._describe(session)
            if time.monotonic() - self._facts_at > FACTS_EVERY_S:
                await self._check(session)
            await self._read(session)
        except NonsenseError as error:
            self._described_at = 0.0  # what it is made of may have changed
            self._tell(str(error))
            if time.monotonic() - self._answered_at > RECONNECT_S:
                raise
        except NoAnswerError as error:
            self._tell(str(error))
            if not session.is_open or time.monotonic() - self._answered_at > RECONNECT_S:
                raise  # half a line may have been lost on the way: only a new session is in step again
        except RefusedError as error:
            self._answered_at = time.monotonic()
            self._leave_alone = self._leave_alone or f"its balloon cannot be read: {error}"
            self._tell(str(error))
        else:
            self._answered_at = time.monotonic()
            self._trouble = ""

    async def _look_for_reset(self, session: QmpSession) -> None:
        """An event tells of one."""

    async def _read(self, session: QmpSession) -> None:
        if self._mover is None or not self._mover.mechanisms:
            return
        asked_at = time.monotonic()
        if not self._balloon_path:
            self._keep_bytes = await self._mover.keep_bytes(session)
            return
        if self._look.every_s < 1.0 and self._heard(asked_at)[2] in {Voice.BALLOON, Voice.NONE}:
            await asyncio.gather(self._set_interval(session, 0), self._set_interval(session, 1))
            await asyncio.sleep(min(ANSWER_S, self._look.every_s / 3))
        is_keep_due = self._is_keep_due(asked_at)
        if not is_keep_due and self._heard(asked_at)[2] is Voice.AGENT:
            # It says more, and sooner; and QEMU carries its words, so that one answers. The driver is heard every now and then.
            return
        asked = session.call("qom-get", Report, DEADLINE_S, path=self._balloon_path, property="guest-stats")
        if is_keep_due:
            report, self._keep_bytes = await asyncio.gather(asked, self._mover.keep_bytes(session))
            self._keep_at = self._counts_as_asked(self._keep_at, KEEP_EVERY_S)
        else:
            report = await asked
        self._take_stats(report, asked_at)
        if self._is_urgent():
            self._news()

    def _counts_as_asked(self, last_at: float, every_s: float) -> float:
        """When what was asked just now counts as asked. The first time a while ago, by this guest's own part of the period:
        guests that a daemon met at the same moment are not asked for all of it at the same moments ever after.
        """
        return time.monotonic() - (0.0 if last_at else self._phase * every_s)

    def _is_keep_due(self, now: float) -> bool:
        """Whether to ask what it keeps: at each look while it moves, or where nobody tells of changes."""
        is_told = self._hears_events and self._mover is not None and self._mover.mechanisms == (Mechanism.BALLOON,)
        return not is_told or self._look.every_s < 1.0 or now - self._keep_at > KEEP_EVERY_S

    def _take_stats(self, report: Report, asked_at: float) -> None:
        if report.last_update <= 0:
            return
        has_come_up = self._has_come_up(report.last_update, asked_at)
        if self._note(report.stats.known(), report.last_update, asked_at) or has_come_up:
            self._facts_at = 0.0  # there is a driver after all

    async def _check(self, session: QmpSession) -> None:
        """Whether this guest can be ballooned at all (R13)."""
        status = await session.call("query-status", Status, DEADLINE_S)
        migration = await session.call("query-migrate", Migration, DEADLINE_S)
        facts = self._process.facts() if self._process else None
        has_driver = self._updated is not None or bool(self._silence) or not self._balloon_path
        self._is_migrating = is_migrating(migration.status, status.status)
        self._is_starting = (
            self._reset_at is not None
            or is_arriving(status.status)
            or (bool(self._balloon_path) and is_booting(has_driver=has_driver, facts=facts))
        )
        self._leave_alone = why_alone(
            has_balloon=bool(self._mover and self._mover.mechanisms),
            has_driver=has_driver,
            is_moving=self._is_migrating,
            run_state=status.status,
            ceiling_bytes=self._mover.ceiling_bytes if self._mover else 0,
            facts=facts,
            pins=self._pins,
            is_resetting=self._reset_at is not None,
            unknown_memory=self._mover.layout.unknown if self._mover else "",
            is_new=self._is_new,
        )
        self._facts_at = self._counts_as_asked(self._facts_at, FACTS_EVERY_S)


def _has(devices: Iterable[tuple[str, str]], mark: str) -> bool:
    return any(kind.startswith(mark) for _, kind in devices)
