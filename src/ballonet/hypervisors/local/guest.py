"""What every guest has that an adapter of this host watches: an agent where there is one, statistics and how old they are."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from ballonet.hypervisors.local.agent import AgentChannel, Message
from ballonet.hypervisors.local.alone import HEAR_S, RESETTING
from ballonet.hypervisors.local.process import Process
from ballonet.hypervisors.told import AGAIN_S
from ballonet.model.plan import Look
from ballonet.model.snapshot import GuestStats, Voice
from ballonet.model.units import PAGE_BYTES

log = logging.getLogger(__name__)

OLD_ANSWER_S: Final = 0.5
"""Statistics that were asked for within so long after a reset may be of the guest that was."""
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


class LocalGuest:
    """The part that does not depend on how the hypervisor is asked."""

    def __init__(self, name: str, news: Callable[[], None], **where: str) -> None:
        """Args:
        name: of the guest.
        news: to be called when the loop should not wait.
        where: what else the log says of it.
        """
        self.name = name
        self._news = news
        self._where = where
        self._agent: AgentChannel | None = None
        self._process: Process | None = None
        self._look = Look(1.0, 0)
        self._look_now = asyncio.Event()
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
        self._is_starting, self._leave_alone = False, ""
        self._trouble = ""
        self._met_at = time.monotonic()
        self._told: dict[str, float] = {}
        """When each of its troubles was told."""

    @property
    def _is_new(self) -> bool:
        """Whether its driver cannot have been heard yet."""
        return time.monotonic() - self._met_at < HEAR_S

    @property
    def pid(self) -> int | None:
        """Its process; None while it is not known."""
        return self._process.pid if self._process else None

    def watch(self, look: Look) -> None:
        """A closer look begins at once."""
        if self._agent is not None:
            self._agent.set_line(look.wake_below_bytes)
        if look.every_s < self._look.every_s:
            self._look_now.set()
        self._look = look

    async def make_ready(self, free_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        if self._agent is not None:
            await self._agent.make_ready(free_bytes, deadline_s)

    def _heard(self, now: float) -> tuple[GuestStats | None, float | None, Voice]:
        """What the guest said last, how old that is, and by which voice: the best that speaks."""
        if self._agent is not None and (stats := self._agent.stats) is not None:
            return stats, self._agent.age_s, Voice.AGENT
        if self._stats is None:
            return None, None, Voice.NONE
        return self._stats, now - self._stats_at, Voice.BALLOON

    @property
    def _ready_share(self) -> float | None:
        return self._agent.ready_share if self._agent else None

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
        self._stats = self._updated = self._reset_at = None
        self._silence, self._spoke_at, self._units = "", 0, SwapUnits()

    def _is_urgent(self) -> bool:
        available = self._stats.available_bytes if self._stats else None
        return available is not None and available < self._look.wake_below_bytes

    def _on_message(self, message: Message) -> None:
        """What an agent says of itself counts at once, when it matters."""
        if message.why != "report" or message.available_bytes < self._look.wake_below_bytes:
            self._look_now.set()
            self._news()

    def _tell(self, trouble: str) -> None:
        """Says a trouble once, and once an hour while it comes again, be it well in between."""
        now, self._trouble = time.monotonic(), trouble
        self._told = {what: at for what, at in self._told.items() if now - at < AGAIN_S}
        if trouble not in self._told:
            self._told[trouble] = now
            extra: dict[str, Any] = {"guest": self.name, **self._where, "trouble": trouble}
            log.warning("guest in trouble", extra=extra)

    async def _rest(self) -> None:
        """Until the next look is due, or wanted now."""
        loop, every_s = asyncio.get_running_loop(), self._look.every_s
        # On the beat that all guests of this pace share: one waking of the process for all of them, not one for each.
        due = loop.call_at((loop.time() // every_s + 1) * every_s, self._look_now.set)
        try:
            await self._look_now.wait()
        finally:
            due.cancel()
        self._look_now.clear()
