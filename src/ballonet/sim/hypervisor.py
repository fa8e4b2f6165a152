"""The simulated guests behind the contract, as an adapter would show them: late, and by what they say."""

import asyncio

from ballonet.hypervisors.contract import Capabilities, GuestGoneError, NoAnswerError, RefusedError
from ballonet.hypervisors.remote.guests import RemoteGuests
from ballonet.model.knobs import Steering
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest, GuestStats, Mechanism, Voice
from ballonet.sim.guest import SimGuest
from ballonet.sim.ledger import EXTENT_BYTES
from ballonet.sim.world import SimWorld

SILENT_S = 3.0
"""After which an adapter says that a guest does not answer."""


class SimHypervisor(RemoteGuests):
    """An adapter whose guests are simulated. Time passes in a task of its own, on the running loop's clock."""

    def __init__(self, world: SimWorld) -> None:
        self.world = world
        self._eyes = {guest.script.name: _Eye(guest) for guest in world.guests}
        self._unread: dict[str, _Eye] = {}
        """Guests in which something changed since they were read."""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """As the contract says."""
        return Capabilities(name="sim", steering=Steering.TARGET, mechanisms=frozenset({Mechanism.BALLOON}))

    @property
    def news(self) -> asyncio.Event:
        """As the contract says."""
        return self._news

    async def open(self) -> None:
        """Time begins to pass."""
        self._task = asyncio.create_task(self._pass())

    async def close(self) -> None:
        """Time stands still."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def guests(self) -> tuple[Guest, ...]:
        """As the contract says."""
        self._catch_up()
        now = self.world.now
        return tuple(eye.reading(now) for eye in self._eyes.values() if not eye.guest.is_gone)

    def watch(self, name: str, look: Look) -> None:
        """As the contract says."""
        if (eye := self._eyes.get(name)) is not None:
            eye.look = look

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        guest = self.world.by_name.get(name)
        if guest is None or guest.is_gone:
            raise GuestGoneError(f"{name}: no such guest")
        if not 0 < keep_bytes <= guest.script.memory_bytes:
            raise RefusedError(f"{name}: {keep_bytes} bytes is not within 1 and its ceiling of {guest.script.memory_bytes}")
        if guest.is_hung:
            await asyncio.sleep(deadline_s)
            raise NoAnswerError(f"{name}: no answer in {deadline_s} s")
        self._catch_up()
        guest.ask(round(keep_bytes / EXTENT_BYTES))

    def _catch_up(self) -> None:
        self.world.advance(asyncio.get_running_loop().time())

    async def _pass(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = self.world.next_step()
            await asyncio.sleep(max(0.0, due - clock()))
            self._catch_up()
            self._look_up()

    def _look_up(self) -> None:
        """Reads the guests in which something changed, as it is time to, and wakes the loop when one is urgent."""
        now = self.world.now
        for guest in self.world.stirred:
            self._unread[guest.script.name] = self._eyes[guest.script.name]
        for name, eye in tuple(self._unread.items()):
            if eye.poll(now) and eye.is_urgent():
                self._news.set()
            if eye.knows_all:
                del self._unread[name]


class _Eye:
    """What the adapter knows of one guest."""

    def __init__(self, guest: SimGuest) -> None:
        self.guest = guest
        self.look = Look(1.0, 0)
        self._stats: GuestStats | None = None
        self._read_version = -1
        self._asked: tuple[float, int, GuestStats] | None = None
        """When it was asked last, and what it is about to answer."""
        self._sampled_at = -1e9
        self._silence = ""
        self._answered_at = 0.0
        self._reading: tuple[int, float, Guest] | None = None

    def reading(self, now: float) -> Guest:
        """As an adapter hands it out."""
        guest = self.guest
        self.poll(now)
        age_s = round(now - self._sampled_at, 6)
        known = self._reading
        if known is not None and known[0] == guest.version and known[1] == age_s and not (guest.is_hung or guest.is_starting):
            return known[2]
        silent_s = now - self._answered_at
        alone = (
            guest.leave_alone or ("it is still booting" if guest.is_starting else "no balloon driver")
            if guest.has_no_driver or guest.leave_alone
            else "it does not answer"
            if silent_s > SILENT_S
            else ""
        )
        disk = self._disk()
        found = Guest(
            name=guest.script.name,
            ceiling_bytes=guest.script.memory_bytes,
            keep_bytes=(guest.memory.keep if guest.shown_keep is None else guest.shown_keep) * EXTENT_BYTES,
            keep_age_s=silent_s,
            resident_bytes=guest.resident_bytes,
            swapped_bytes=guest.swapped_out * EXTENT_BYTES,
            huge_bytes=guest.script.memory_bytes if guest.script.huge else 0,
            is_starting=guest.is_starting,
            silence=self._silence,
            disk_reads=disk[0],
            disk_read_bytes=disk[1],
            disk_read_ns=disk[2],
            stats=self._stats,
            voice=Voice.BALLOON if self._stats is not None else Voice.NONE,
            stats_age_s=age_s if self._stats is not None else None,
            can_balloon=not alone,
            leave_alone=alone,
        )
        self._reading = (guest.version, age_s, found)
        return found

    def _disk(self) -> tuple[int, int, int] | tuple[None, None, None]:
        """What its host counts of its disk, where it has files: reads, bytes, what they waited."""
        files = self.guest.files
        return (int(files.reads), int(files.read_bytes), int(files.wait_ns)) if files else (None, None, None)

    def poll(self, now: float) -> bool:
        """Takes the answer that has come, and asks anew when it is time. Gives whether there is news."""
        guest = self.guest
        if guest.is_hung or guest.has_no_driver:
            return False
        self._answered_at = now
        has_news = self._hear(now)
        if guest.is_silent:
            return has_news
        if self.knows_all and self._asked is None and not self._silence:
            self._sampled_at = now - guest.speeds.answer_s  # it would say the same again
        elif self._asked is None and now - self._sampled_at >= self.look.every_s - 1e-6:
            self._asked = (now, guest.version, guest.stats())
        return has_news

    def _hear(self, now: float) -> bool:
        """An answer is of the moment in which it was asked for, and takes its time."""
        if self._asked is None or now - self._asked[0] < self.guest.speeds.answer_s - 1e-6:
            return False
        sampled_at, self._read_version, stats = self._asked
        self._asked = None
        self._silence = "" if stats.total_bytes is not None else "its balloon driver answers without statistics"
        if self._silence:
            return False
        self._sampled_at, self._stats = sampled_at, stats
        return True

    @property
    def knows_all(self) -> bool:
        """Whether nothing has changed since the last answer."""
        return self._read_version == self.guest.version

    def is_urgent(self) -> bool:
        """Whether the loop should wake for what was read last."""
        return not self._silence and self._stats is not None and (self._stats.available_bytes or 0) < self.look.wake_below_bytes
