"""One QEMU guest behind one QMP socket.

Sizes in QMP are bytes already. What is measured how:

- what the guest keeps: `query-balloon` and its virtio-mem (`mover.py`), and BALLOON_CHANGE (QEMU sends at most one a second);
- what the guest says: by its agent, where one speaks (`local/agent.py`, `local/guest_agent.py`); else `guest-stats` of the
  balloon device. QEMU asks the driver each `guest-stats-polling-interval` whole seconds; setting it to 0 and back to 1 asks at
  once, which gives numbers younger than a second when it matters;
- what it costs the host: /proc (`local/process.py`).

A look at a guest whose balloon is all that moves is one write, and a callback when QEMU has answered: nothing waits for it.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from ballonet.hypervisors.contract import HypervisorError, NoAnswerError, RefusedError
from ballonet.hypervisors.local import agent, guest_agent
from ballonet.hypervisors.local.agent import AgentChannel
from ballonet.hypervisors.local.alone import is_arriving, is_migrating
from ballonet.hypervisors.local.beats import Beats
from ballonet.hypervisors.local.guest import DEADLINE_S, NOT_YET, REST_S, Disk, LocalGuest, Made, Running
from ballonet.hypervisors.local.guest_agent import GuestAgent
from ballonet.hypervisors.local.process import Process
from ballonet.hypervisors.paths import text_of
from ballonet.hypervisors.qemu import describe
from ballonet.hypervisors.qemu.answers import Balloon, BlockDevice, Migration, Name, Nothing, Report, Status
from ballonet.hypervisors.qemu.mover import Mover
from ballonet.hypervisors.qemu.ports import port_sockets
from ballonet.hypervisors.qemu.qmp import Call, NonsenseError, QmpSession, line_of
from ballonet.hypervisors.tended import tended
from ballonet.model.plan import Look
from ballonet.model.snapshot import GuestStats, Mechanism, Voice

T = TypeVar("T")

log = logging.getLogger(__name__)

FACTS_EVERY_S: Final = 10.0
"""How often it is asked whether it runs and migrates; events tell at once that it stopped or went on."""
DESCRIBE_EVERY_S: Final = 5.0
"""How often its devices and the make-up of its memory are looked at: QEMU tells of what goes, and not of what is plugged in."""
KEEP_EVERY_S: Final = 10.0
"""How often a guest at rest is asked what it keeps: QEMU tells of each change (BALLOON_CHANGE); an event can be lost."""
CLOSE_KEEP_EVERY_S: Final = 1.0
"""The same for one that is watched closely, and does not move."""
MOVING_S: Final = 0.15
"""A guest that is looked at so often moves, or is about to run out: what it keeps is asked at each look."""
LEAST_S: Final = 0.1
"""Between two looks at what rarely changes: whatever events a guest brings about, they cost no more than that."""
RECONNECT_S: Final = 8.0
"""A session without an answer for this long is given up. Longer than most stops of a QEMU: after those the old one goes on."""
ON_TIME_S: Final = 0.2
"""On beats as close as this a driver is asked for the next one; a real guest answers within 60 ms."""
KICK: Final = -1
"""Number of what a driver is asked on beats. Questions for statistics, for what it keeps and for its disks have numbers of their
own each time, by what they leave when divided by KINDS: an answer that comes too late is none to the next question.
"""
KINDS: Final = 3
INTERVAL: Final = "guest-stats-polling-interval"
_NUMBER: Final = b"0}\n"
"""How a line that `line_of` makes with the number 0 ends."""
_KEEP_HEAD: Final = line_of("query-balloon", {}, 0).removesuffix(_NUMBER)
_DISK_HEAD: Final = line_of("query-blockstats", {}, 0).removesuffix(_NUMBER)
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


class QemuGuest(LocalGuest):
    """One QEMU process behind one QMP socket."""

    _hears_events = True

    def __init__(
        self, path: str, root: Path, news: Callable[[], None], beats: Beats | None = None, *, listens: bool = True
    ) -> None:
        """Args:
        path: of the QMP socket.
        root: where /proc is found.
        news: to be called when the loop should not wait.
        beats: of its adapter.
        listens: whether to hear an agent in the guest, where there is a port for one.
        """
        super().__init__(text_of(Path(path).stem), news, beats, socket=path)
        self.path = path
        self._root = root
        self._listens = listens
        self._guest_agent: GuestAgent | None = None
        self._session: QmpSession | None = None
        self._balloon_path = ""
        self._mover: Mover | None = None
        self._keep_at = self._described_at = self._failed_at = 0.0
        self._confidential: bool | None = None
        self._told_name = ""
        self._is_identified = False
        """Whether all is known of this life that does not change."""
        self._is_set_up: bool | None = None
        """Whether a driver has set its balloon up, by its QEMU; None = that does not say (before 7.2)."""
        self._refusal = ""
        """Why its balloon cannot be read, as it said last."""
        self._asked_at = 0.0
        """When the beat's questions went out."""
        self._awaited: set[int] = set()
        """Those of them that are not answered."""
        self._round = 0
        """How often it was asked on beats."""
        self._refused_round = -1
        """In which of these rounds it refused last."""
        self._stats_head = self._kick_lines = b""

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
        called = self.uuid or self._told_name
        return (self.pid, called) if self.pid and called else None

    def watch(self, look: Look) -> None:
        """The same for QEMU's guest agent."""
        super().watch(look)
        if self._guest_agent is not None:
            is_heard = self._agent is not None and self._agent.stats is not None
            self._guest_agent.watch(guest_agent.SPARE_S if is_heard else look.every_s)

    def _heard(self, now: float) -> tuple[GuestStats | None, float | None, Voice]:
        """The same, with QEMU's guest agent between the two."""
        heard = super()._heard(now)
        if heard[2] is not Voice.AGENT and self._guest_agent is not None and (stats := self._guest_agent.stats) is not None:
            return stats, self._guest_agent.age_s, Voice.GUEST_AGENT
        return heard

    def _silent(self, silent_s: float) -> str:
        process = f"process {self.pid}" if self.pid else "its process"
        what = f"QEMU has not answered for {silent_s:.0f} s ({self._trouble or 'no reason given'})"
        return f"{what}; see whether {process} is stopped or waits for a disk, or another client holds {self.path}"

    async def _move(self, keep_bytes: int, deadline_s: float) -> None:
        async with self._talk() as session:
            if self._is_another(session):
                raise NoAnswerError(f"{self.name}: another process answers at {self.path}; what it is has to be seen first")
            # Not every QEMU tells of a migration that begins (its capability `events`), and a guest on its way is left alone.
            migration = await session.call("query-migrate", Migration, deadline_s)
            if is_migrating(migration.status, ""):
                self._running = replace(self._running, is_migrating=True)
                raise RefusedError(f"{self.name}: it is being migrated")
            assert self._mover is not None, "nobody knows how it moves before it is described"
            await self._mover.set_keep(session, keep_bytes, deadline_s)
        self._keep_at = 0.0

    @contextlib.asynccontextmanager
    async def _talk(self) -> AsyncIterator[QmpSession]:
        """The open session. Raises NoAnswerError."""
        if self._session is None or not self._session.is_open:
            raise NoAnswerError(f"{self.name}: no connection ({self._trouble})")
        yield self._session

    # Its own life

    async def _live(self) -> None:
        self._session = session = await QmpSession.open(self.path, DEADLINE_S * 2)
        tasks: list[asyncio.Task[None]] = []
        try:
            session.hear(self._on_answer, self._wake.set)
            tasks = [tended(f"events of {self.name}", partial(self._listen, session), is_endless=False)]  # none of them is missed
            self._begin_life(session)
            await self._identify(session)
            tasks += self._begin_voices((self._agent, self._guest_agent))
            self._awaited.clear()
            self._watch_from_now()
            while session.is_open:
                await self._look_through(session)
                looked_at = time.monotonic()
                due_at = min(self._described_at + DESCRIBE_EVERY_S, self._facts_at + FACTS_EVERY_S)
                await self._until(max(due_at, self._failed_at + REST_S))
                await asyncio.sleep(looked_at + LEAST_S - time.monotonic())
            raise NoAnswerError("the connection broke")
        finally:
            await self._end(tasks)
            self._session = None
            session.close()

    def _begin_life(self, session: QmpSession) -> None:
        """Of a process; what was known of another one with this socket counts no more."""
        before = self._process
        self._process = Process(session.pid, self._root) if session.pid else None
        if before is not None and (self._process is None or before.pid != self._process.pid):
            self._forget_life()
        self._keep_at = 0.0  # nobody has told of changes in between
        self._is_identified = False

    def _forget_life(self) -> None:
        self._mover = self._confidential = self._keep_bytes = self._is_set_up = None
        self._made, self._running = Made(), Running()
        self._agent = self._guest_agent = None
        self.name, self.uuid, self.version, self._told_name = text_of(Path(self.path).stem), "", "", ""
        self._is_starting, self._leave_alone, self._refusal = True, NOT_YET, ""
        self._forget_words()

    def _is_another(self, session: QmpSession) -> bool:
        """Whether another process answers than before: a new life of the same VM."""
        return session.pid is not None and self._process is not None and session.pid != self._process.pid

    async def _identify(self, session: QmpSession) -> None:
        """Who it is, all at once: what is ordered of one guest is not for a moment another one's."""
        name = (await session.call("query-name", Name, DEADLINE_S)).name or ""
        uuid, version = await describe.uuid_of(session), await describe.version_of(session)
        if self.uuid and uuid != self.uuid:  # of a life whose process was not known
            self._forget_life()
        self._told_name, self.uuid, self.version = name, uuid, version
        self.name = name or self.name
        devices = await self._describe(session)
        if self._listens:
            await self._find_agents(session, devices)
        reports = await describe.reports_free_pages(session, self._balloon_path)
        self._made = replace(self._made, reports_free_pages=reports)
        await self._look_for_reset(session)
        self._is_identified = True
        self._facts_at = 0.0
        self._news()

    async def _look_for_reset(self, session: QmpSession) -> None:
        """Whether it was reset while nobody listened, by its balloon device: a reset clears what the next driver sets up. Raises
        HypervisorError.
        """
        if not self._balloon_path:
            return
        was_set_up = self._is_set_up or self._updated is not None  # a driver that has spoken had set it up
        self._is_set_up = await describe.is_set_up(session, self._balloon_path)
        if was_set_up and self._is_set_up is False and self._reset_at is None:
            self._begin_anew()

    async def _describe(self, session: QmpSession) -> list[tuple[str, str]]:
        """What it is made of now: its devices, with their types. Raises HypervisorError."""
        found = await describe.described(session)
        balloon_path = found.balloon_path
        if self._mover is None or balloon_path != self._balloon_path or not found.layout.is_like(self._mover.layout):
            self._balloon_path, self._mover = balloon_path, Mover(balloon_path, found.layout)
            self._keep_at = self._facts_at = 0.0
            get = {"path": balloon_path, "property": "guest-stats"}
            self._stats_head = line_of("qom-get", get, 0).removesuffix(_NUMBER)
            intervals = ({"path": balloon_path, "property": INTERVAL, "value": value} for value in (0, 1))
            self._kick_lines = b"".join(line_of("qom-set", one, KICK) for one in intervals)
            if balloon_path:
                await session.call("qom-set", Nothing, DEADLINE_S, path=balloon_path, property=INTERVAL, value=1)
        if self._confidential is None:  # asked once, as it cannot change; after an answer that was late, again
            self._confidential = await describe.is_confidential(session)
        self._made = replace(
            self._made,
            ceiling_bytes=self._mover.ceiling_bytes,
            mechanisms=self._mover.mechanisms,
            pins=found.pins | ({"confidential"} if self._confidential else set()),
            unknown_memory=self._mover.layout.unknown,
        )
        self._described_at = self._counts_as_asked(self._described_at, DESCRIBE_EVERY_S)
        self._rarely_answered()
        return found.devices

    def _rarely_answered(self) -> None:
        """Of one of which nothing moves nothing else is asked."""
        if not self._made.mechanisms:
            self._has_answered()

    @property
    def _silent_after_s(self) -> float:
        """The same, or when one that is asked rarely has let that pass."""
        return super()._silent_after_s + (0.0 if self._made.mechanisms else DESCRIBE_EVERY_S)

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
            self._beats.soon(self)
            self._news()

    async def _listen(self, session: QmpSession) -> None:
        async for name in session.events(*_EVENTS):
            if name == "BALLOON_CHANGE":
                self._keep_at = 0.0
            else:
                self._facts_at = self._described_at = 0.0
                self._wake.set()
            if name == "RESET":
                self._begin_anew()
            self._beats.soon(self)

    async def _look_through(self, session: QmpSession) -> None:
        """At what rarely changes, where that is due. What fails leaves the old knowledge, which grows old."""
        now = time.monotonic()
        if now < self._failed_at + REST_S:
            return  # whatever wakes it: a QEMU that refuses or talks nonsense is not asked without end
        try:
            if now >= self._described_at + DESCRIBE_EVERY_S:
                await self._describe(session)
            if now >= self._facts_at + FACTS_EVERY_S or not self._facts_at:
                await self._check(session)
        except HypervisorError as error:
            self._failed_at = time.monotonic()
            self._failed(error)

    async def _check(self, session: QmpSession) -> None:
        """Whether this guest can be ballooned at all (R13)."""
        status, migration = await session.calls(DEADLINE_S, Call("query-status", Status), Call("query-migrate", Migration))
        is_moving = is_migrating(migration.status, status.status)
        self._running = Running(state=status.status, is_migrating=is_moving, is_arriving=is_arriving(status.status))
        self._judge()
        self._leave_alone = self._leave_alone or self._refusal
        self._facts_at = self._counts_as_asked(self._facts_at, FACTS_EVERY_S)
        self._rarely_answered()

    def _failed(self, error: HypervisorError) -> None:
        """A question that was not answered as it should have been."""
        self._tell(str(error))
        now = time.monotonic()
        if isinstance(error, RefusedError):  # it answers
            self._answered_at = now
            self._refusal = f"its balloon cannot be read: {error}"
            self._leave_alone = self._leave_alone or self._refusal
            return
        if isinstance(error, NonsenseError):
            self._described_at = 0.0  # what it is made of may have changed
            self._wake.set()
        if now - self._answered_at > RECONNECT_S and self._session is not None:
            self._session.close()  # half a line may have been lost on the way: only a new session is in step again

    # On each beat

    def ask(self) -> bool:
        """As the beats say, where nobody says more than the driver."""
        session = self._session
        if self._is_on_time or session is None or not self._asks_driver():
            return False
        if not self._awaited:
            session.send(self._kick_lines)
        return True

    @property
    def _is_on_time(self) -> bool:
        """Whether what its driver was asked on the last beat is young enough on this one: then a look is one write."""
        return self._pace_s <= ON_TIME_S

    def _asks_driver(self) -> bool:
        """Whether it is looked at more often than its driver speaks by itself, and nobody says more."""
        return self._is_close() and bool(self._balloon_path) and self._voice in {Voice.BALLOON, Voice.NONE}

    def read(self) -> None:
        """As the beats say."""
        session, mover = self._session, self._mover
        if session is None or not session.is_open or mover is None:
            return
        if not mover.mechanisms:
            return  # nothing of it moves
        if not mover.is_plain:
            super().read()
            return
        now = time.monotonic()
        if self._awaited:
            if now - self._asked_at <= DEADLINE_S:
                return
            self._awaited.clear()
            self._failed(NoAnswerError(f"qom-get: no answer in {DEADLINE_S} s"))
        is_keep_due, is_disk_due = self._is_keep_due(now), self._is_disk_due(now)
        if not (is_keep_due or is_disk_due) and self._voice is Voice.AGENT:
            # It says more, and sooner; and QEMU carries its words, so that one answers. The driver is heard every now and then.
            self._has_answered()
            return
        self._round += 1
        last = -KINDS * self._round
        asked = {last - 1: self._stats_head}
        if is_keep_due:
            asked[last - 2] = _KEEP_HEAD
        if is_disk_due:
            asked[last - KINDS] = _DISK_HEAD
        self._asked_at, self._awaited = now, set(asked)
        lines = b"".join(b"%s%d}\n" % (head, number) for number, head in asked.items())
        session.send(lines + self._kick_lines if self._is_on_time and self._asks_driver() else lines)

    def _on_answer(self, number: int, answer: Raw, refusal: str | None) -> None:
        """Of what a beat asked."""
        if number not in self._awaited:
            return  # a kick's, or one that came too late
        self._awaited.discard(number)
        try:
            if number % KINDS == 0:
                self._hear_disk(None if refusal is not None else answer, self._asked_at)
            elif refusal is not None:
                raise RefusedError(refusal)
            elif -number % KINDS == KINDS - 1 and self._mover is not None:
                self._keep_bytes = self._mover.checked(_decoded("query-balloon", answer, _read_balloon))
                self._keep_at = self._counts_as_asked(self._keep_at, KEEP_EVERY_S)
            else:
                report = _decoded("qom-get", answer, _read_report)
                self._take(report.stats.known(), report.last_update, self._asked_at)
        except HypervisorError as error:
            self._refused_round = self._round
            self._failed(error)
            return
        if not self._awaited and self._refused_round != self._round:
            self._has_answered()

    async def _look_once(self) -> None:
        """The slow way, for guests of which a virtio-mem moves, or whose socket others use too."""
        async with self._talk() as session:
            try:
                await self._read(session)
            except HypervisorError as error:
                self._failed(error)
            else:
                self._has_answered()

    async def _read(self, session: QmpSession) -> None:
        mover, asked_at = self._mover, time.monotonic()
        if mover is None or not mover.mechanisms:
            return
        if not self._balloon_path:
            self._keep_bytes = await mover.keep_bytes(session)
            return
        get: dict[str, Any] = {"path": self._balloon_path, "property": "guest-stats"}
        is_keep_due = self._is_keep_due(asked_at)
        (report,) = await session.calls(DEADLINE_S, Call("qom-get", Report, get))
        if is_keep_due:
            self._keep_bytes = await mover.keep_bytes(session)
            self._keep_at = self._counts_as_asked(self._keep_at, KEEP_EVERY_S)
        self._take(report.stats.known(), report.last_update, asked_at)
        if self._is_disk_due(asked_at):
            try:
                disks = await session.call("query-blockstats", Raw, DEADLINE_S)
            except RefusedError:
                disks = None
            self._hear_disk(disks, asked_at)

    def _hear_disk(self, answer: Raw | None, asked_at: float) -> None:
        """What its disks have read; one whose QEMU does not say so, or nonsense, is ballooned all the same."""
        try:
            disks = _decoded("query-blockstats", answer, _read_disks) if answer is not None else []
            if disks:  # one without disks reads from elsewhere, and nobody counts that
                self._take_disk(_disk_of(disks), asked_at)
        except NonsenseError as error:
            self._tell(f"what its disks read is not known: {error}")

    def _has_answered(self) -> None:
        """All that it was asked in one look."""
        self._answered_at, self._trouble, self._refusal = time.monotonic(), "", ""

    def _is_keep_due(self, now: float) -> bool:
        """Whether to ask what it keeps: at each look while it moves, or where nobody tells of changes."""
        is_told = self._hears_events and self._made.mechanisms == (Mechanism.BALLOON,)
        if not is_told or self._pace_s <= MOVING_S:
            return True
        every_s = CLOSE_KEEP_EVERY_S if self._is_close() and self._voice is not Voice.AGENT else KEEP_EVERY_S
        return now - self._keep_at > every_s


_read_report: Final = msgspec.json.Decoder(Report).decode
_read_balloon: Final = msgspec.json.Decoder(Balloon).decode
_read_disks: Final = msgspec.json.Decoder(list[BlockDevice]).decode


def _disk_of(devices: list[BlockDevice]) -> Disk:
    """All of its disks together."""
    stats = [one.stats for one in devices]
    return Disk(sum(one.reads for one in stats), sum(one.read_bytes for one in stats), sum(one.read_ns for one in stats))


def _decoded(command: str, answer: Raw, read: Callable[[Raw], T]) -> T:
    try:
        return read(answer)
    except (msgspec.DecodeError, ValueError) as error:
        raise NonsenseError(f"{command}: {error}") from error
