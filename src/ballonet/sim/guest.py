"""A simulated guest: memory, swap, page cache, workload, balloon driver. Faults replace parts of it (see `beasts`)."""

import math
from collections.abc import Callable
from typing import Final

from ballonet.model.snapshot import GuestStats
from ballonet.model.units import MIB
from ballonet.report.record import LATENCY_BUCKETS_S, Work
from ballonet.scenarios.course import Course
from ballonet.scenarios.scenario import COLD_BYTES, GuestScript
from ballonet.sim.balloon import GuestRam
from ballonet.sim.files import Files
from ballonet.sim.ledger import EXTENT_BYTES, Ledger
from ballonet.sim.speeds import Speeds

PAGES: Final = EXTENT_BYTES // 4096
SLOT_S: Final = 0.1
"""Of work, as in lab/image/workload.py."""
COLLECTION_S: Final = 10.0
"""A garbage collector walks its whole heap so often."""
READ_BACK_S: Final = 0.5
"""A step while nothing but that happens."""
RESTART_S: Final = 5.0
"""What an OOM kill costs before the service runs again."""
BOOT_S: Final = 15.0
"""From the first instruction, or from a reset, until a guest's balloon driver speaks."""
WARM_UP_S: Final = 60.0
WARM_UP_PER_S: Final = 256 * MIB
"""How fast a service takes its memory again, for WARM_UP_S after it started: it reads it from somewhere."""
BOOT_BYTES: Final = 110 * MIB
BOOT_SHARE: Final = 0.03
"""What a Linux guest touches as it boots: Debian 12 in guests of 0.5 to 8 GiB took 136 to 348 MiB."""
ANONYMOUS_OF_MAPPED: Final = 5
"""Where its files are mapped, one of this many pages that a kernel gives up is a program's (61 swap-ins to 321 reads)."""
COLD_TOUCHES: Final = 0.01
"""Of all touches: those of cold memory, as in lab/image/workload.py."""
SMALL_BYTES: Final = 512 * MIB
"""A scenario's pace is for a guest of this size; a larger one touches more pages a second, by its size."""


class SimGuest:
    """One guest. Its fields are its behaviour: a fault sets them."""

    unreachable: int = 0
    """Extents that its balloon cannot get below, whatever the guest says (a hidden floor, a stuck driver)."""
    take_factor: float = 1.0
    give_factor: float = 1.0
    """Of the driver's speeds; 0 = it does not move."""
    is_hung: bool = False
    is_silent: bool = False
    is_gone: bool = False
    has_no_driver: bool = False
    is_starting: bool = False
    """It boots or reboots, and has no driver yet."""
    untouched: int = 0
    """Extents that it is still to touch as it boots."""
    touched: int = 0
    """Those that it has touched meanwhile."""
    is_restless: bool = False
    """Something changes in it all the time."""
    began_at: float = -math.inf
    """When it last started or rebooted."""
    shown_keep: int | None = None
    """What its hypervisor says that it keeps, in extents, while that is not so; None = the truth."""
    host_swapped: int = 0
    """Extents of it that lie in the host's swap, and that it does not touch."""
    cpu_share: float = 1.0
    """Of a core: what the host leaves it."""
    size: int = 0
    """Extents that its software has, those in swap included."""
    cache: int = 0
    """Extents of page cache among those in use."""
    swapped: float = 0.0
    """Extents that are paged out."""
    swap_in_pages: float = 0.0
    swap_out_pages: float = 0.0
    major_faults: float = 0.0
    taken: float = 0.0
    """Bytes that its balloon took in the last step."""
    paged: float = 0.0
    """Pages that it paged in the last step."""
    out_share: float = 0.0
    """Of its memory: what the host has paged out behind its back, because more was lent than there is."""
    now: float = 0.0
    restarts_at: float = -math.inf
    """After an OOM kill."""
    stalled_until: float = -math.inf
    """It waits for its own memory to be paged out."""
    version: int = 0
    """Changes with each step in which something changed."""
    calm_until: float = -math.inf
    """Nothing changes in it before, unless it is asked for something."""

    def __init__(self, owner: int, script: GuestScript, ledger: Ledger, speeds: Speeds, start_s: float) -> None:
        """Args:
        owner: its number in the ledger.
        script: what it does, sizes scaled.
        ledger: of its host.
        speeds: of its balloon and its swap.
        start_s: when the scenario's time 0 is, on the simulation's clock.
        """
        self.script, self.speeds, self.start_s = script, speeds, start_s
        self.course: Course = script.course()
        self.memory = GuestRam(owner, script.memory_bytes, ledger)
        self.work = Work()
        self.pace = script.pace * max(1.0, script.memory_bytes / SMALL_BYTES)
        self.asked = self.memory.total
        """What its driver was asked to keep, in extents."""
        self.leave_alone = "its memory is huge pages" if script.huge else ""
        """Why its balloon must not be moved; moved all the same, it dies."""
        self.says: Callable[[GuestStats], GuestStats] = lambda stats: stats
        """What it makes of the truth."""
        self.on_stir: Callable[[SimGuest], None] = lambda _guest: None
        """Told when it is asked for something."""
        self._credit = 0.0
        self._counts_from_s = start_s
        self._files = script.cache_bytes // EXTENT_BYTES
        """Extents of files that it lives on."""
        self.files = Files(script.files, max(1.0, script.memory_bytes / SMALL_BYTES))
        """Those that it reads again and again."""
        if script.starts_s is not None:
            self.is_gone = True
            return
        self._grow(math.ceil(self.course.used_bytes(0.0) / EXTENT_BYTES))
        self._read(self._files)

    def warm(self, keep_bytes: int) -> None:
        """Has run for days with `keep_bytes`: page cache fills what it does not use."""
        self.asked = keep_bytes // EXTENT_BYTES
        self._take(self.memory.total - self.asked, 0.0)
        self.read_in(self.memory.idle - COLD_BYTES // EXTENT_BYTES)
        self._read(self.memory.idle - COLD_BYTES // EXTENT_BYTES)

    def read_in(self, most: int) -> None:
        """What it reads from the beginning on has been read in once, up to this much."""
        if not self.is_gone:
            self._read(self.files.begin(max(0, min(most, self.memory.idle))))

    def boot(self, now: float) -> None:
        """Its process starts: nothing of its memory is touched yet, and it has no driver for a while."""
        self.is_gone, self.now = False, now
        self.asked = self.memory.total
        self._begin(now)

    def reboot(self, now: float) -> None:
        """It boots anew in the same process: its balloon is gone, and its hypervisor goes on saying what it kept."""
        self.shown_keep = self.memory.keep
        self.memory.reset()
        self.size, self.cache, self.swapped, self.host_swapped = 0, 0, 0.0, 0
        self.files.fit(0)
        self._begin(now)

    def _begin(self, now: float) -> None:
        self.is_starting = self.has_no_driver = True
        self.began_at = now
        self.restarts_at = now + BOOT_S
        self._counts_from_s = max(self._counts_from_s, now + BOOT_S)  # nobody asks anything of it before
        total = self.memory.total
        self.untouched = total if self.script.touches_all else min(total, int(BOOT_BYTES // EXTENT_BYTES + BOOT_SHARE * total))
        if not self.script.touch_per_s:
            self._touch(self.untouched)
        self.version += 1

    def _touch(self, extents: int) -> None:
        """Of what it touches as it boots: that is occupied from then on, whatever it uses of it."""
        touched = min(self.untouched, max(1, extents))
        self.untouched -= touched
        self.touched += self.memory.use(touched)
        if not self.untouched:
            self.memory.release(self.touched)
            self.touched = 0

    def up(self) -> None:
        """Its driver speaks."""
        self.is_starting = self.has_no_driver = False
        self.shown_keep = None
        self.version += 1
        self.on_stir(self)

    def reads_files(self, extents: int) -> None:
        """From now on it has read this much of its files, as far as they fit."""
        if extents > self._files:
            self._read(extents - self._files)
        else:  # files are gone, and what lay in the page cache of them
            dropped = min(self.cache, self._files - extents)
            self.cache -= dropped
            self.memory.release(dropped)
        self._files = extents
        self.on_stir(self)

    def _read(self, extents: int) -> None:
        """Files come into the page cache, as far as they fit."""
        self.cache += self.memory.use(min(extents, self.memory.idle))

    # Time

    def advance(self, now: float) -> None:
        """Lets time pass until `now`; sets `calm_until` when nothing will change from then on."""
        dt = now - self.now
        if dt <= 0:
            return
        self.now = now
        self.taken = self.paged = 0.0
        if self.is_hung:
            if now > self.start_s:
                self.work.wanted += self.pace * min(dt, now - self.start_s)
            self.calm_until = math.inf
        elif self.is_resting():
            self._work(dt, 0.0)
            at = now - self.start_s
            self.calm_until = self.start_s + min(self.course.rests_until(at), self.files.rests_until(at))
        else:
            self.version += 1
            self._live(dt)

    def rested(self, now: float) -> None:
        """Has been calm until `now`: counts the work of that time."""
        before = self.now
        dt, self.now = now - before, now
        self.calm_until = -math.inf
        if dt > 0 and self.is_hung:
            self.work.wanted += self.pace * max(0.0, now - max(before, self.start_s))
        elif dt > 0:
            self._work(dt, 0.0)

    def ask(self, extents: int) -> None:
        """Its driver is asked to keep this many extents."""
        wanted = max(1, min(self.memory.total, extents))
        if wanted != self.asked:
            self.asked = wanted
            self.on_stir(self)

    def is_resting(self) -> bool:
        """Whether nothing will change in it until it is asked for something, or its need changes."""
        at = self.now - self.start_s
        return (
            self.swapped == 0
            and not self.is_restless
            and not self.untouched
            and not self._misses_files()
            and not self.files.is_busy(at)
            and not self._is_moving()
            and not self.out_share
            and self.course.rests_until(at) > at
            and self._is_settled(at)
        )

    @property
    def longest_step_s(self) -> float:
        """Until it should be looked at again: who only reads back what it paged out changes slowly."""
        at = self.now - self.start_s
        is_slow = (
            not self.is_restless
            and not self.untouched
            and not self._is_moving()
            and self._is_settled(at)
            and self.course.rests_until(at) > at + READ_BACK_S
        )
        return READ_BACK_S if is_slow else 0.0

    def _is_moving(self) -> bool:
        """Whether its balloon is on a way that it can go."""
        way = self.memory.keep - self.asked
        if not way or self.has_no_driver:
            return False
        return self.take_factor > 0 and self.memory.keep > self.unreachable if way > 0 else self.give_factor > 0

    def _is_settled(self, at: float) -> bool:
        return self.size == self._goal(at) and self.now >= max(self.restarts_at, self.stalled_until)

    def _goal(self, at: float) -> int:
        goal = math.ceil(self.course.used_bytes(max(0.0, at)) / EXTENT_BYTES)
        # The kernel never sees a heap shrink by itself: what was garbage stays in use.
        return max(goal, self.size) if self.script.jvm else goal

    def _live(self, dt: float) -> None:
        self._inflate_or_deflate(dt)
        if self.untouched:
            self._touch(int(self.script.touch_per_s * dt / EXTENT_BYTES))
        goal = self._goal(self.now - self.start_s)
        if self.now >= self.restarts_at:
            if goal > self.size:
                is_new = self.now - self.restarts_at < WARM_UP_S
                most = math.ceil(WARM_UP_PER_S * dt / EXTENT_BYTES) if is_new else goal
                self._grow(min(most, goal - self.size))
            elif goal < self.size:
                self._shrink(self.size - goal)
        self._read_again(dt)
        if self.files:
            self.files.fit(self.cache)
            at = self.now - self.start_s
            self._read(self.files.read(dt, at, self.cache, self.memory.idle, self.size))
        self._work(dt, self._page_in(dt) + self._file_misses())

    # Files

    def _file_misses(self) -> float:
        """Of its touches: those of files that are not in its page cache."""
        worth = self.script.cache_worth
        return worth * (1 - min(1.0, self.cache / self._files)) if worth and self._files else 0.0

    @property
    def spare_extents(self) -> int:
        """What it can fill and miss nothing: idle memory, and page cache that it does not live on."""
        lives_on = (self._files if self.script.cache_worth else 0) + math.ceil(self.files.cached)
        return self.memory.idle + max(0, self.cache - lives_on)

    def _misses_files(self) -> bool:
        return self._file_misses() > 0 and self.memory.idle > 0

    def _read_again(self, dt: float) -> None:
        """What is missed comes into the page cache, as fast as the disk reads and as far as there is room."""
        if misses := self._file_misses():
            pages = min(self.pace * misses, self.speeds.swap_in_pages_per_s) * dt
            self._read(min(math.ceil(pages / PAGES), self._files - self.cache))

    # Memory

    def _grow(self, wanted: int) -> None:
        """The software takes memory: what is idle, then page cache, then what others of its pages leave when paged out.

        The kernel sends out all that is asked for at once; a program that allocates waits until the disk has it. In the lab
        guests stood still long after their need had gone.
        """
        got = self.memory.use(wanted)
        dropped = min(self.cache, wanted - got)
        self.cache -= dropped
        got += dropped
        if got < wanted and self.script.has_swap:
            self._page_out(wanted - got)
            wait_s = (wanted - got) * PAGES / self.speeds.swap_out_pages_per_s
            self.stalled_until = max(self.now, self.stalled_until) + wait_s
            got = wanted
        elif got < wanted and self.memory.keep > 0:
            self._oom()
            return
        self.size += got

    def _oom(self) -> None:
        self.work.oom_kills += self.now > self.start_s
        self.restarts_at = self.now + RESTART_S
        self.memory.release(len(self.memory.used) - self.cache)
        self.size, self.swapped = 0, 0.0

    def _shrink(self, count: int) -> None:
        share = self.swapped / self.size if self.size else 0.0
        from_swap = min(self.swapped, count * share)
        kept = len(self.memory.used) - self.cache
        self.swapped -= from_swap
        self.size -= count
        if self.swapped < 1:
            self.swapped = 0.0
        self.memory.release(max(0, kept - (self.size - int(self.swapped))))

    def _page_out(self, count: int) -> None:
        self.swapped += count
        self.swap_out_pages += count * PAGES
        self.paged += count * PAGES

    def _page_in(self, dt: float) -> float:
        """Touches hit what is paged out. Gives the share of touches that wait for the disk."""
        if not self.swapped or not self.size or self.now < self.stalled_until:
            return 0.0
        share = self._miss_share()
        walked = self.size * PAGES / COLLECTION_S if self.script.jvm else 0.0
        faults = min(self.pace * share + walked * min(1.0, self.swapped / self.size), self.speeds.swap_in_pages_per_s) * dt
        self.swap_in_pages += faults
        self.major_faults += faults
        self.paged += faults
        if self.now > self.start_s:
            self.work.swap_in_pages += int(faults)
        room = self.memory.idle + self.cache
        back = min(self.swapped, faults / PAGES)
        whole = min(int(self.swapped) - int(self.swapped - back), room)
        dropped = whole - self.memory.use(whole)
        self.cache -= dropped
        if room:
            self.swapped -= back
            if self.swapped < 1 / PAGES:
                self.swapped = 0.0
        else:  # each page that comes in drives another one out
            self.swap_out_pages += faults
        return share

    @property
    def waits_share(self) -> float:
        """Of its time: what it waits for memory that is paged out; all of it while it stands still."""
        if self.now < self.stalled_until:
            return 1.0
        return self._miss_share() * self.pace / self.speeds.swap_in_pages_per_s if self.swapped and self.size else 0.0

    def _miss_share(self) -> float:
        """Of its touches: those that hit what is paged out. A kernel sends out cold pages first."""
        cold = self.script.cold_share * self.size
        cold_out = min(self.swapped, cold)
        hot_miss = (self.swapped - cold_out) / max(1.0, self.size - cold)
        cold_miss = cold_out / cold if cold else 0.0
        rarely = COLD_TOUCHES if cold else 0.0
        return min(1.0, (1 - rarely) * hot_miss + rarely * cold_miss)

    # The balloon

    def _inflate_or_deflate(self, dt: float) -> None:
        way = self.memory.keep - self.asked
        if not way or self.has_no_driver:
            self._credit = 0.0
            return
        speed = self._speed(way)
        self._credit = min(self._credit + speed * dt / EXTENT_BYTES, abs(way))
        count = int(self._credit)
        self._credit -= count
        if way < 0:
            self.memory.restore(min(count, -way))
            return
        count = min(count, way, max(0, self.memory.keep - self.unreachable))
        self._take(count, dt)

    def _speed(self, way: int) -> float:
        if way < 0:
            return self.speeds.return_per_s * self.give_factor
        warm = bool(self.memory.free) or not self.memory.untouched
        return (self.speeds.take_touched_per_s if warm else self.speeds.take_untouched_per_s) * self.take_factor

    def _take(self, count: int, dt: float) -> None:
        """The driver allocates: free memory, then the kernel drops cache for it, then pages out."""
        memory = self.memory
        if self.leave_alone and count:
            self._oom()
            return
        lacking = max(0, count - memory.idle)
        dropped = min(lacking, self.cache)
        if self.files.is_mapped and self.script.has_swap:  # pages of mappings look as used as those of programs
            dropped -= dropped // ANONYMOUS_OF_MAPPED
        self.cache -= dropped
        memory.release(dropped)
        if self.script.has_swap and lacking > dropped:
            out = int(min(lacking - dropped, self.speeds.swap_out_pages_per_s * dt / PAGES, self.size - int(self.swapped)))
            self._page_out(out)
            memory.release(out)
        found = memory.reserve(count)
        self.taken = len(found) * EXTENT_BYTES
        memory.surrender(found)

    # Work

    def _work(self, dt: float, faulting: float) -> None:
        dt = min(dt, self.now - self._counts_from_s)
        if dt <= 0:
            return
        speeds = self.speeds
        most = self.pace / speeds.busy_share * self.cpu_share * (1 - speeds.moving_cost_share if self.taken else 1.0)
        # One thread: a touch costs its own time, and that of the disk when it faults.
        # What the guest pages itself and what the host pages of it wait for a disk alike.
        per_touch = 1 / most + (faulting + self.out_share) / speeds.swap_in_pages_per_s
        stands_s = min(dt, max(0.0, max(self.restarts_at, self.stalled_until) - (self.now - dt)))
        done = min(self.pace, 1 / per_touch) * (1 - stands_s / dt)
        wanted, read, late = self.files.work(self.now - self.start_s) if self.files else (0.0, 0.0, 0.0)
        self.work.wanted += (self.pace + wanted) * dt
        self.work.done += (done + read * (1 - stands_s / dt)) * dt
        late_s = SLOT_S * max(late, self.pace * per_touch) if done else RESTART_S
        index = next((i for i, edge in enumerate(LATENCY_BUCKETS_S) if late_s <= edge), len(LATENCY_BUCKETS_S) - 1)
        self.work.latencies[index] += dt / SLOT_S

    # What it says

    def stats(self) -> GuestStats:
        """What its driver says now."""
        keep = self.memory.keep * EXTENT_BYTES
        free = self.memory.idle * EXTENT_BYTES
        cache = self.cache * EXTENT_BYTES
        swap: dict[str, int] = {}
        if self.script.swap_known:
            size = self.script.memory_bytes if self.script.has_swap else 0
            swap = {"swap_total_bytes": size, "swap_free_bytes": max(0, size - int(self.swapped) * EXTENT_BYTES)}
            if self.files:
                swap |= {"refaults": int(self.files.refaults), "activations": int(self.files.activations), "mglru": 0}
        return self.says(
            GuestStats(
                total_bytes=self.memory.total * EXTENT_BYTES if self.script.fixed_total else keep,
                free_bytes=free,
                available_bytes=free + cache,
                cache_bytes=cache,
                swap_in_bytes=int(self.swap_in_pages) * 4096,
                swap_out_bytes=int(self.swap_out_pages) * 4096,
                major_faults=int(self.major_faults + self.files.faults),
                **swap,
            )
        )

    @property
    def keep_bytes(self) -> int:
        """What is not in its balloon."""
        return self.memory.keep * EXTENT_BYTES

    @property
    def swapped_out(self) -> int:
        """Extents of it that the host has paged out."""
        return min(self.host_swapped, self.memory.resident)

    @property
    def resident_bytes(self) -> int:
        """What it has of the host's ordinary memory; an extent where all of it lies in huge pages."""
        return EXTENT_BYTES if self.script.huge else (self.memory.resident - self.swapped_out) * EXTENT_BYTES

    @property
    def need_bytes(self) -> float:
        """What it truly needs now."""
        return self.course.used_bytes(max(0.0, self.now - self.start_s))
