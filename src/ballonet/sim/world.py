"""The simulated host and its guests: lets time pass, and is what `sense` reads."""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from ballonet.model.snapshot import Budget, Host
from ballonet.model.units import GIB
from ballonet.scenarios.course import Course
from ballonet.scenarios.scenario import GuestScript, HostPart
from ballonet.sense.host import Around
from ballonet.sim.guest import BOOT_S, SimGuest
from ballonet.sim.ledger import EXTENT_BYTES, HOST, Ledger
from ballonet.sim.speeds import Speeds

STEP_S: Final = 0.1
"""While something moves."""
LONGEST_STEP_S: Final = 1.0
CORE_BYTES: Final = 8 * GIB
"""Of the host's memory for each of its cores: 120 GiB and 16 cores, as hosts are sold."""
BALLOON_PER_CORE_S: Final = 0.86 * GIB
"""Balloons that take this much in a second keep a core busy (HyperAlloc, EuroSys'25, raw data: one balloon at its fastest)."""
LEAST_CPU_SHARE: Final = 0.5
"""A fair scheduler leaves guests at least half of the cores, however many balloons move."""
READ_IN_SHARE: Final = 0.95
"""Of what a host has free at the start: files that are read in fill no more."""
SCARCE_SHARE: Final = 0.01
"""Of the host's memory: with less available its own tasks begin to wait."""
PRESSURE_FADE_S: Final = 10.0


class SimWorld:
    """A host with guests. Also the HostSense of the daemon's loop."""

    def __init__(
        self,
        part: HostPart,
        budget_bytes: int,
        scripts: Iterable[GuestScript],
        speeds: Speeds,
        start_s: float,
        scale: int = 1,
        limits: Iterable[tuple[str, int, tuple[str, ...]]] = (),
    ) -> None:
        """Args:
        part: the host's own use.
        budget_bytes: its memory for guests.
        scripts: of the guests, sizes scaled.
        speeds: of all guests.
        start_s: when the scenario's time 0 is.
        scale: by which sizes are divided.
        limits: around some guests: name, bytes (not scaled), names of guests.
        """
        self.ledger = Ledger(budget_bytes)
        self._limits = [(name, size // scale, guests) for name, size, guests in limits]
        self.guests = [
            # Huge pages come from a pool of their own.
            SimGuest(number, script, Ledger(script.memory_bytes) if script.huge else self.ledger, speeds, start_s)
            for number, script in enumerate(scripts)
        ]
        self.by_name = {guest.script.name: guest for guest in self.guests}
        self.now = 0.0
        self.start_s = start_s
        self.on_step: Callable[[float, float], None] = lambda _now, _dt: None
        """Told of each step: when it ended, and how long it was."""
        self.deeds: list[tuple[float, Callable[[], None]]] = []
        """What faults do and when, in order."""
        self.stirring: dict[SimGuest, None] = dict.fromkeys(self.guests)
        """Those in which something changes, in order."""
        self.stirred: tuple[SimGuest, ...] = ()
        """Those in which something changed in the last step."""
        self._resting: list[tuple[float, int]] = []
        """The others, by when their calm ends; with entries of such that were stirred before."""
        self._out_share = 0.0
        for guest in self.guests:
            guest.on_stir = self.stir
        self.deeds.append((start_s, lambda: None))  # at time 0 everybody looks up
        for guest in self.guests:
            self.deeds += self._lives(guest)
        self._own = Course((phase.at_s, phase.used // scale, phase.per_s // scale) for phase in part.own) if part.own else None
        self._wobble = (part.wobble // scale // EXTENT_BYTES, part.wobble_s)
        self._own_extents: list[int] = []
        self._busy_share, self._disk_share = part.busy_share, part.disk_share
        self._huge_bytes = part.huge // scale
        self.is_effortless = False
        """Balloons move without a cost: for the yardstick."""
        self.cpu_share = 1.0
        """Of the host's cores: what balloons leave."""
        self._io, self._cpu, self._memory = part.disk_share, part.busy_share, 0.0
        self.host_own(0.0)

    def begin(self, keeps: Mapping[str, int]) -> None:
        """Before time begins to pass: guests have run for days with `keeps`, by name, or, where that is empty, have just read in
        what they read again and again, as far as the host has room for it.
        """
        for name, keep_bytes in keeps.items():
            self.by_name[name].warm(keep_bytes)
        readers = [] if keeps else [guest for guest in self.guests if guest.files]
        wanted = sum(guest.files.live_extents(0.0) for guest in readers)
        room = self.ledger.total - self.used_bytes // EXTENT_BYTES
        share = min(1.0, max(0.0, READ_IN_SHARE * room / wanted)) if wanted else 0.0
        for guest in readers:
            guest.read_in(int(share * guest.files.live_extents(0.0)))

    def _lives(self, guest: SimGuest) -> Iterator[tuple[float, Callable[[], None]]]:
        """When a guest starts, is up, reads files and stops, and what that does."""
        script = guest.script
        if script.starts_s is not None:
            yield from self._boots(script.starts_s, partial(self._start, guest), guest)
        if script.stops_s is not None:
            yield self.start_s + script.stops_s, partial(self.stop, guest)
        for at_s, size in script.caches:
            yield self.start_s + at_s, partial(guest.reads_files, size // EXTENT_BYTES)

    def _boots(self, at_s: float, begin: Callable[[], None], guest: SimGuest) -> Iterator[tuple[float, Callable[[], None]]]:
        yield self.start_s + at_s, begin
        yield self.start_s + at_s + BOOT_S, guest.up

    def _start(self, guest: SimGuest) -> None:
        guest.boot(self.now)
        self.stirring[guest] = None

    def reboot(self, guest: SimGuest) -> None:
        """A guest boots anew; its driver speaks again after a while."""
        guest.reboot(self.now)
        self.stir(guest)
        self.deeds.append((self.now + BOOT_S, guest.up))
        self.deeds.sort(key=lambda deed: deed[0])

    def stop(self, guest: SimGuest) -> None:
        """A guest ends."""
        guest.is_gone = True
        guest.memory.vanish()

    def advance(self, now: float) -> None:
        """Lets time pass until `now`, in steps in which nothing but the ordinary happens."""
        while self.now < now - 1e-9:
            until = min(now, self.next_step())
            self._step(until)

    def next_step(self) -> float:
        """When something happens next, as far as guests know."""
        due = self._resting[0][0] if self._resting else math.inf
        if self.stirring:
            due = min(due, self.now + min(guest.longest_step_s for guest in self.stirring))
        if self.deeds:
            due = min(due, self.deeds[0][0])
        if self._own is not None or self._wobble[0]:
            due = min(due, self.now + LONGEST_STEP_S)
        return min(max(due, self.now + STEP_S), self.now + LONGEST_STEP_S)

    def stir(self, guest: SimGuest) -> None:
        """A calm guest has something to do."""
        if guest not in self.stirring and not guest.is_gone:
            guest.rested(self.now)
            self.stirring[guest] = None

    def settle(self) -> None:
        """Counts the work of calm guests until now."""
        for guest in self.guests:
            self.stir(guest)

    def read(
        self, _pids: Mapping[str, int] = MappingProxyType({}), _resident: Mapping[str, int] = MappingProxyType({})
    ) -> Around:
        """The host now, as its /proc would say."""
        return Around(self.host())

    def host(self) -> Host:
        """The host now."""
        total = self.ledger.total * EXTENT_BYTES
        return Host(
            total_bytes=total,
            available_bytes=max(0, total - self.used_bytes),
            huge_bytes=self._huge_bytes,
            budgets=tuple(self._budgets()),
            pressure_some_avg10_share=round(self._memory, 4),
            cpu_some_avg10_share=round(self._cpu, 4),
            io_some_avg10_share=round(self._io, 4),
        )

    def _budgets(self) -> Iterator[Budget]:
        for name, limit, names in self._limits:
            guests = [self.by_name[one] for one in names if not self.by_name[one].is_gone]
            if guests:
                taken = sum(guest.resident_bytes for guest in guests)
                inside = tuple(guest.script.name for guest in guests)
                yield Budget(name=name, limit_bytes=limit, available_bytes=max(0, limit - taken), guests=inside)

    def exceeded(self) -> int:
        """How many limits around some guests are exceeded by more than a balloon moves at once."""
        return sum(
            sum(self.by_name[one].resident_bytes for one in names if not self.by_name[one].is_gone) > limit + 2 * EXTENT_BYTES
            for _, limit, names in self._limits
        )

    @property
    def guests_bytes(self) -> int:
        """What all guests occupy of the host's memory."""
        swapped = sum(guest.swapped_out for guest in self.guests if guest.host_swapped)
        return (self.ledger.lent - len(self._own_extents) - swapped) * EXTENT_BYTES

    @property
    def own_bytes(self) -> int:
        """What the host occupies itself."""
        return len(self._own_extents) * EXTENT_BYTES

    @property
    def used_bytes(self) -> int:
        """What guests and host occupy."""
        return self.guests_bytes + self.own_bytes

    def check(self) -> None:
        """Every extent has one owner, on the host and in each guest. Raises LedgerError."""
        self.ledger.check()
        for guest in self.guests:
            if not guest.is_gone:
                guest.memory.check()

    def _step(self, until: float) -> None:
        dt = until - self.now
        self._wake(until)
        self.now = until
        if self.deeds and self.deeds[0][0] <= until:
            self._do(until)
        lent = self.used_bytes // EXTENT_BYTES
        out_share = max(0, lent - self.ledger.total) / max(1, lent - len(self._own_extents))
        if out_share != self._out_share:
            self.settle()
            self._out_share = out_share
        self.stirred = tuple(self.stirring)
        for guest in self.stirred:
            if guest.is_gone:
                del self.stirring[guest]
                continue
            guest.out_share, guest.cpu_share = out_share, self.cpu_share
            guest.advance(until)
            if guest.calm_until > until:
                del self.stirring[guest]
                heapq.heappush(self._resting, (guest.calm_until, guest.memory.owner))
        self.host_own(until - self.start_s)
        self._press(dt)
        self.on_step(until, dt)

    def _wake(self, until: float) -> None:
        """Whose calm ends before `until`."""
        while self._resting and self._resting[0][0] < until:
            at, owner = heapq.heappop(self._resting)
            if self.guests[owner].calm_until == at:  # else it was stirred meanwhile
                self.stir(self.guests[owner])

    def _do(self, until: float) -> None:
        """The deeds that are due, to guests that know what time it is."""
        self.settle()
        while self.deeds and self.deeds[0][0] <= until:
            self.deeds.pop(0)[1]()
        for guest in self.guests:
            guest.version += 1

    def host_own(self, at: float) -> None:
        """The host's own use follows its course."""
        wanted = 0 if self._own is None else int(self._own.used_bytes(at)) // EXTENT_BYTES
        swing, period_s = self._wobble
        if swing and at > 0:
            wanted += swing if int(at / period_s) % 2 else -swing
        more = max(0, wanted) - len(self._own_extents)
        if more > 0:
            self._own_extents += self.ledger.lend(HOST, more)
        elif more < 0:
            self.ledger.take_back(HOST, self._own_extents[more:])
            del self._own_extents[more:]

    def _press(self, dt: float) -> None:
        total = max(1, self.ledger.total * EXTENT_BYTES)
        taken = 0.0 if self.is_effortless else sum(guest.taken for guest in self.stirred) / dt
        paged = sum(guest.paged / guest.speeds.swap_in_pages_per_s for guest in self.stirred) / dt
        free_share = 1 - self.ledger.lent / max(1, self.ledger.total)
        fade = 1 - math.exp(-dt / PRESSURE_FADE_S)
        busy_share = min(1.0, self._busy_share + taken / BALLOON_PER_CORE_S / max(1.0, total / CORE_BYTES))
        self._cpu += (busy_share - self._cpu) * fade
        self.cpu_share = max(LEAST_CPU_SHARE, 1.0 - busy_share)
        self._io += (min(1.0, self._disk_share + paged / max(1, len(self.guests))) - self._io) * fade
        self._memory += (min(1.0, max(0.0, 1 - free_share / SCARCE_SHARE)) - self._memory) * fade
