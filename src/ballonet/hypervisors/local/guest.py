"""One guest of this host, whatever its hypervisor is asked by: how often it is looked at, how old is what is known of it, what
it is left alone for, who speaks in it, and what of that the loop sees.

A source is a subclass that says how to connect, what the guest is made of (`Made`), how it runs (`Running`), how its statistics
are asked for and read, and how it is moved.
"""

import abc
import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ballonet.hypervisors.contract import HypervisorError, NoAnswerError, RefusedError
from ballonet.hypervisors.local.agent import AgentChannel, Message
from ballonet.hypervisors.local.alone import HEAR_S, RESETTING, is_booting, why_alone
from ballonet.hypervisors.local.beats import Beats
from ballonet.hypervisors.local.process import Occupied, Process
from ballonet.hypervisors.tended import tended
from ballonet.hypervisors.told import AGAIN_S
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest, GuestStats, Mechanism, Voice
from ballonet.model.units import PAGE_BYTES

log = logging.getLogger(__name__)

DISK_EVERY_S: Final = 1.0
"""How often its disks' counters are asked for while it reads, or was moved lately."""
DISK_REST_S: Final = 10.0
"""The same of one that neither reads nor moves."""
DUE_PART: Final = 0.9
"""Of these times: looks come on beats, and not a moment before one."""
DISK_AFTER_S: Final = 30.0
"""Lately: what a guest lost to its balloon it reads again within that, if it lives on it."""
OLD_ANSWER_S: Final = 0.5
"""Statistics that were asked for within this time after a reset may be of the guest that was."""
SILENT_S: Final = 3.0
"""After this long without a word of its hypervisor a guest is left alone."""
DEADLINE_S: Final = 1.0
"""For one question to a hypervisor of this host."""
REST_S: Final = 0.5
"""Between a look at what rarely changes that failed and the next one."""
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0)
"""Before the next try to connect, by how often it failed."""
NOT_YET: Final = "its hypervisor has not told yet how it runs; wait, or see whether it answers"
SAYS_NOTHING: Final = "its balloon driver answers without statistics (Windows: is the service BLNSVR running?)"


def _is_news(stats: GuestStats) -> bool:
    """Whether a report says what a guest uses: its total, and what is available or at least free."""
    return stats.total_bytes is not None and (stats.available_bytes is not None or stats.free_bytes is not None)


class SwapUnits:
    """Whether a guest's driver counts what it swaps in bytes (virtio 1.2, 5.5.6.3) or, as some of Windows' do, in pages."""

    def __init__(self) -> None:
        self._counts_pages = False
        """Learned once: bytes are whole pages always, so one number that is not is a number of pages."""

    def in_bytes(self, stats: GuestStats) -> GuestStats:
        """The same with its swap counters in bytes."""
        swapped = (stats.swap_in_bytes or 0, stats.swap_out_bytes or 0)
        self._counts_pages = self._counts_pages or any(count % PAGE_BYTES for count in swapped)
        if not self._counts_pages:
            return stats
        into, out = (None if count is None else count * PAGE_BYTES for count in (stats.swap_in_bytes, stats.swap_out_bytes))
        return replace(stats, swap_in_bytes=into, swap_out_bytes=out)


class Made(Struct, frozen=True, kw_only=True):
    """What a guest is made of, by its hypervisor's word. It changes when devices are plugged in or out."""

    ceiling_bytes: int = 0
    """The most that it has; 0 = not known yet."""
    mechanisms: tuple[Mechanism, ...] = ()
    pins: frozenset[str] = frozenset()
    """What pins its memory, by names of `alone.WHY`."""
    unknown_memory: str = ""
    """How its memory is made up, where that is not modelled."""
    reports_free_pages: bool | None = None

    @property
    def has_balloon(self) -> bool:
        """Whether it has a balloon device."""
        return Mechanism.BALLOON in self.mechanisms


class Running(Struct, frozen=True, kw_only=True):
    """How it runs, by its hypervisor's word."""

    state: str = "running"
    is_migrating: bool = False
    is_arriving: bool = False
    """It has yet to begin: it may take all of its memory."""
    job: str = ""
    """What its hypervisor does with it that takes its time, in words; empty = nothing."""


class Disk(Struct, frozen=True):
    """What its virtual disks have read since it was started, by its hypervisor's count."""

    reads: int
    read_bytes: int
    read_ns: int


class Speaks(Protocol):
    """Something in a guest that says how it is."""

    async def run(self) -> None:
        """Hears it until cancelled."""
        ...


class LocalGuest(abc.ABC):
    """The part that does not depend on how the hypervisor is asked."""

    uuid = ""
    version = ""
    """What runs it, with its version."""
    tags: tuple[str, ...] = ()

    def __init__(self, name: str, news: Callable[[], None], beats: Beats | None = None, **where: str) -> None:
        """Args:
        name: of the guest.
        news: to be called when the loop should not wait.
        beats: of its adapter; None = it has its own.
        where: what else the log says of it.
        """
        self.name = name
        self._news = news
        self._beats = beats or Beats()
        self._where = where
        self._made, self._running = Made(), Running()
        self._keep_bytes: int | None = None
        self._answered_at = time.monotonic()
        """When its hypervisor said something of it last."""
        self._agent: AgentChannel | None = None
        self._process: Process | None = None
        self._look, self._pace_s = Look(1.0, 0), 1.0
        self._is_watched = False
        self._wake = asyncio.Event()
        """Something of it has changed that is not looked at on each beat."""
        self._looking: asyncio.Task[None] | None = None
        self._stats: GuestStats | None = None
        self._stats_at = 0.0
        self._updated: tuple[int, GuestStats] | None = None
        self._silence = ""
        """Why its driver is no source of news, in words."""
        self._units = SwapUnits()
        self._spoke_at = 0
        """When its driver says that it spoke last, by QEMU's clock."""
        self._reset_at: float | None = None
        """When it was reset; None = its driver has spoken since."""
        self._is_starting, self._leave_alone = True, NOT_YET
        """Until it is known how it runs: it may take all of its memory, and is not moved."""
        self._trouble = ""
        self._met_at = time.monotonic()
        self._facts_at = 0.0
        self._phase = random.random()  # noqa: S311 it only spreads
        self._disk: Disk | None = None
        self._disk_at = 0.0
        """When that was asked for."""
        self._disk_asked_at = 0.0
        self._disk_busy_at = -DISK_AFTER_S
        """When it last read, or was found moved."""
        self._disk_keep: int | None = None
        """What it kept when its disks were asked for last."""
        self._told: dict[str, float] = {}
        """When each of its troubles was told."""

    # What a source says

    @abc.abstractmethod
    async def _live(self) -> None:
        """Connects and looks after it until the connection breaks, which raises HypervisorError."""

    @abc.abstractmethod
    async def _look_once(self) -> None:
        """Asks what its balloon keeps and its driver says, and takes the answers. Raises HypervisorError."""

    @abc.abstractmethod
    async def _move(self, keep_bytes: int, deadline_s: float) -> None:
        """Asks for `keep_bytes`, which it may keep. Raises HypervisorError."""

    @abc.abstractmethod
    def _silent(self, silent_s: float) -> str:
        """Why it is left alone after `silent_s` without a word, in words, with what to look at."""

    # What others ask

    @property
    def _is_new(self) -> bool:
        """Whether its driver cannot have been heard yet."""
        return time.monotonic() - self._met_at < HEAR_S

    @property
    def _silent_after_s(self) -> float:
        """Seconds without a word of its hypervisor after which it is called silent."""
        return SILENT_S

    @property
    def is_silent(self) -> bool:
        """Whether its hypervisor has said nothing of it for long."""
        return time.monotonic() - self._answered_at > self._silent_after_s

    @property
    def pid(self) -> int | None:
        """Its process; None while it is not known."""
        return self._process.pid if self._process else None

    def reading(self) -> Guest | None:
        """What is known now; None until its hypervisor has said what it is made of."""
        made = self._made
        if not made.ceiling_bytes:
            return None
        now = time.monotonic()
        silent_s = now - self._answered_at
        stats, stats_age_s, voice = self._heard(now)
        disk = self._disk
        occupied = self._process.occupied(made.ceiling_bytes) if self._process else Occupied(None)
        leave_alone = self._silent(silent_s) if silent_s > self._silent_after_s else self._leave_alone
        return Guest(
            name=self.name,
            ceiling_bytes=made.ceiling_bytes,
            mechanisms=made.mechanisms,
            keep_bytes=self._keep_bytes,
            keep_age_s=silent_s,
            resident_bytes=occupied.resident_bytes,
            swapped_bytes=occupied.swapped_bytes,
            huge_bytes=occupied.huge_bytes,
            disk_reads=disk.reads if disk else None,
            disk_read_bytes=disk.read_bytes if disk else None,
            disk_read_ns=disk.read_ns if disk else None,
            disk_age_s=now - self._disk_at if disk else 0.0,
            stats=stats,
            stats_age_s=stats_age_s,
            voice=voice,
            ready_share=self._agent.ready_share if self._agent else None,
            can_balloon=not leave_alone,
            is_migrating=self._running.is_migrating,
            is_starting=self._is_starting,
            silence=self._silence,
            leave_alone=leave_alone,
            tags=self.tags,
            uuid=self.uuid,
            hypervisor=self.version,
            reports_free_pages=made.reports_free_pages,
        )

    def watch(self, look: Look) -> None:
        """As the contract says."""
        if self._agent is not None:
            self._agent.set_line(look.wake_below_bytes)
        if look.every_s != self._look.every_s:
            self._pace_s = look.every_s
            if self._is_watched:
                self._beats.join(self, self._pace_s)
        self._look = look

    async def make_ready(self, free_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        if self._agent is not None:
            await self._agent.make_ready(free_bytes, deadline_s)

    async def set_keep(self, keep_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        ceiling = self._made.ceiling_bytes
        if not ceiling:
            raise NoAnswerError(f"{self.name}: no connection ({self._trouble})")
        if not 0 < keep_bytes <= ceiling:
            raise RefusedError(f"{self.name}: {keep_bytes} bytes is not within 1 and its ceiling of {ceiling}")
        try:
            async with asyncio.timeout(deadline_s):  # waiting for a turn at its socket counts too
                await self._move(keep_bytes, deadline_s)
        except TimeoutError as error:
            raise NoAnswerError(f"{self.name}: no answer in {deadline_s:g} s") from error
        self._beats.soon(self)

    # Its own life

    async def run(self) -> None:
        """Connects, looks after it, and connects again, until cancelled."""
        failures = 0
        while True:
            began_at = time.monotonic()
            try:
                await self._live()
            except HypervisorError as error:
                failures = 0 if self._answered_at > began_at else failures + 1
                self._tell(str(error))
            except Exception:  # whatever is said of one guest, the others are looked after
                failures += 1
                log.exception("guest failed", extra={"guest": self.name, **self._where})
            finally:
                self._watch_no_more()
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])

    def _watch_from_now(self) -> None:
        """Its beats begin."""
        self._is_watched = True
        self._beats.join(self, self._pace_s)

    def _watch_no_more(self) -> None:
        self._is_watched = False
        self._beats.leave(self)
        if self._looking is not None:
            self._looking.cancel()

    async def _until(self, due_at: float) -> None:
        """Waits until then, or until something has changed."""
        timer = asyncio.get_running_loop().call_later(max(0.0, due_at - time.monotonic()), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        self._wake.clear()

    def _begin_voices(self, voices: Iterable[Speaks | None]) -> list[asyncio.Task[None]]:
        return [tended(f"{type(voice).__name__} of {self.name}", voice.run) for voice in voices if voice is not None]

    @staticmethod
    async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # On each beat

    def ask(self) -> bool:
        """Has its driver say its statistics anew, where that goes without waiting."""
        return False

    def read(self) -> None:
        """Begins a look, unless one goes on."""
        self._begin_look()

    def _begin_look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_and_tell(), name=f"look at {self.name}")

    async def _look_and_tell(self) -> None:
        try:
            await self._look_once()
        except HypervisorError as error:
            self._tell(str(error))
        except Exception:  # whatever is said of one guest, the others are looked after
            log.exception("guest failed", extra={"guest": self.name, **self._where})

    def _is_close(self) -> bool:
        """Whether it is looked at more often than its driver speaks by itself."""
        return self._pace_s < 1.0

    # What its disks read

    def _is_disk_due(self, now: float) -> bool:
        """Whether to ask for its disks' counters. Begins to count anew where it is."""
        if self._keep_bytes != self._disk_keep:
            self._disk_keep, self._disk_busy_at = self._keep_bytes, now
        is_busy = now - self._disk_busy_at < DISK_AFTER_S
        if now - self._disk_asked_at < (DISK_EVERY_S if is_busy else DISK_REST_S) * DUE_PART:
            return False
        self._disk_asked_at = now
        return True

    def _take_disk(self, disk: Disk, asked_at: float) -> None:
        if self._disk is not None and disk.reads != self._disk.reads:
            self._disk_busy_at = asked_at
        self._disk, self._disk_at = disk, asked_at

    # What it is left alone for

    def _judge(self) -> None:
        """Whether it can be ballooned at all (R13), by what is known of it."""
        made, running = self._made, self._running
        facts = self._process.facts() if self._process else None
        has_driver = self._updated is not None or bool(self._silence) or not made.has_balloon
        is_resetting = self._reset_at is not None
        self._is_starting = (
            is_resetting or running.is_arriving or (made.has_balloon and is_booting(has_driver=has_driver, facts=facts))
        )
        self._leave_alone = running.job or why_alone(
            has_balloon=bool(made.mechanisms),
            has_driver=has_driver,
            is_moving=running.is_migrating,
            run_state=running.state,
            ceiling_bytes=made.ceiling_bytes,
            facts=facts,
            pins=made.pins,
            is_resetting=is_resetting,
            unknown_memory=made.unknown_memory,
            is_new=self._is_new,
        )

    def _counts_as_asked(self, last_at: float, every_s: float) -> float:
        """When what was asked just now counts as asked. The first time a while ago, by this guest's own part of the period:
        guests that a daemon met at the same moment are not asked for all of it at the same moments ever after.
        """
        return time.monotonic() - (0.0 if last_at else self._phase * every_s)

    # What its driver says

    def _heard(self, now: float) -> tuple[GuestStats | None, float | None, Voice]:
        """What the guest said last, how old that is, and by which voice: the best that speaks."""
        if self._agent is not None and (stats := self._agent.stats) is not None:
            return stats, self._agent.age_s, Voice.AGENT
        if self._stats is None:
            return None, None, Voice.NONE
        return self._stats, now - self._stats_at, Voice.BALLOON

    @property
    def _voice(self) -> Voice:
        """The best that speaks."""
        return self._heard(0.0)[2]

    def _take(self, stats: GuestStats, updated: int, asked_at: float) -> None:
        """What its driver says, at `updated` by QEMU's clock; 0 = it has never spoken."""
        if updated <= 0:
            return
        has_come_up = self._has_come_up(updated, asked_at)
        if self._note(stats, updated, asked_at) or has_come_up:
            self._facts_at = 0.0  # there is a driver after all
            self._wake.set()
        if self._is_urgent():
            self._news()

    def _begin_anew(self) -> None:
        """It reboots: its balloon is gone, whatever QEMU says, until its driver speaks."""
        self._reset_at = time.monotonic()
        self._is_starting, self._leave_alone = True, RESETTING
        self._news()

    def _has_come_up(self, updated: int, asked_at: float) -> bool:
        """Whether its driver has spoken for the first time since a reset; one that says nothing of memory is there too."""
        has_spoken, self._spoke_at = updated != self._spoke_at, updated
        if not has_spoken or self._reset_at is None or asked_at - self._reset_at <= OLD_ANSWER_S:
            return False
        self._reset_at = None
        return True

    def _note(self, stats: GuestStats, updated: int, asked_at: float) -> bool:
        """Takes a balloon driver's statistics. Whether they are the first.

        A report without total and available is no news: the old numbers stay, and grow old. Nothing is younger than when it was
        first seen, on a clock that only rises: `updated`, when QEMU says they came, is of a clock that can be set, and counts
        whole seconds.
        """
        now, is_first = time.monotonic(), self._stats is None
        if not _is_news(stats):
            self._silence = SAYS_NOTHING
            return False
        self._silence = ""
        if self._updated != (updated, stats):
            # At the first look nobody knows how long they have stood there, but by that clock.
            since = now - max(0.0, time.time() - updated - 1.0) if is_first else asked_at
            self._stats_at = since
            self._updated = (updated, stats)
        self._stats = self._units.in_bytes(stats)
        return is_first

    def _forget_words(self) -> None:
        """Another guest has taken its place: nothing that this one's driver said, or was learned of it, counts for that."""
        self._disk, self._disk_asked_at = None, 0.0
        self._stats = self._updated = self._reset_at = None
        self._silence, self._spoke_at, self._units = "", 0, SwapUnits()

    def _is_urgent(self) -> bool:
        available = self._stats.available_bytes if self._stats else None
        return available is not None and available < self._look.wake_below_bytes

    def _on_message(self, message: Message) -> None:
        """What an agent says of itself counts at once, when it matters."""
        if message.why != "report" or message.available_bytes < self._look.wake_below_bytes:
            self._beats.soon(self)
            self._news()

    def _tell(self, trouble: str) -> None:
        """Says a trouble once, and once an hour while it comes again, be it well in between."""
        now, self._trouble = time.monotonic(), trouble
        self._told = {what: at for what, at in self._told.items() if now - at < AGAIN_S}
        if trouble not in self._told:
            self._told[trouble] = now
            extra: dict[str, Any] = {"guest": self.name, **self._where, "trouble": trouble}
            log.warning("guest in trouble", extra=extra)
