"""Files that a simulated guest reads again and again: what of them is not in its page cache comes from its disk.

How often a read misses at which size of the cache was measured on Linux 6.1 guests of 512 MiB with sets of 240 MiB under balloons
from 512 to 220 MiB (4 KiB reads, classic LRU); benchmarks/calibrate.py holds the curves against those counts.
"""

import bisect
import functools
import math
from collections.abc import Callable, Iterable
from typing import Final

from ballonet.model.units import PAGE_BYTES
from ballonet.scenarios.files import FileScript, hot_share
from ballonet.sim.ledger import EXTENT_BYTES

ZIPF: Final = 0.99
"""Exponent of the popularity of pages, as YCSB draws it (SoCC'10)."""
HOT_READS: Final = 0.9
"""Of the reads of a set with a hot part: those of that part."""
HOT_FALL: Final = 1.86
"""How a hot part is lost as the cache comes near its size: fitted to 1.6 and 2.9 times that."""
WORSE_THAN_LRU: Final = 0.95
"""How much more a kernel's two lists miss of a set by Zipf's law that is nearly all cached: fitted to seven sizes."""
READ_AROUND: Final = 8
"""Pages that come with one that a mapping misses: 8 to 17 were measured."""
HIT_S: Final = 0.00025
"""What a read of the page cache costs its reader, its own work included, as one of 800 a second does."""
STREAM_BYTES: Final = 128 << 10
"""Of a request of a stream: a kernel's read-ahead."""
WHOLE: Final = 1e-6
"""A set that lacks less is cached."""
_POINTS: Final = 64
_BUCKETS: Final = 256

Curve = Callable[[float], float]
"""Of the part of a set that is cached (0 to 1): the part of its reads that miss."""


def uniform(cached: float) -> float:
    """All pages alike."""
    return max(0.0, 1.0 - cached)


def hot(share: float) -> Curve:
    """Nine reads of ten fall on this share of the set."""

    def misses(cached: float) -> float:
        if cached >= 1:
            return 0.0
        return (1 - HOT_READS) * uniform(cached) + HOT_READS * math.exp(-HOT_FALL * cached / share)

    return misses


@functools.lru_cache(maxsize=32)
def _zipf_buckets(pages: int) -> list[tuple[float, float]]:
    """Pages by how popular they are: (how many, how often one of them is read, of all reads)."""
    edges = sorted({min(pages, int(pages ** (number / _BUCKETS)) + 1) for number in range(_BUCKETS + 1)})
    weights = [(high - low, sum_of(low, high)) for low, high in zip([0, *edges[:-1]], edges, strict=True) if high > low]
    whole = sum(weight for _, weight in weights)
    return [(count, weight / whole / count) for count, weight in weights]


def sum_of(low: int, high: int) -> float:
    """The weights of the pages after `low` up to `high`, by the midpoint rule."""
    if high - low == 1:
        return float(high**-ZIPF)
    power = 1 - ZIPF
    return float((high + 0.5) ** power - (low + 0.5) ** power) / power


def characteristic(buckets: Iterable[tuple[float, float]], reads: float) -> tuple[float, float]:
    """What stays cached when each page lies for `reads` reads, and what of the reads misses then (Che, Tung, Wang 2002)."""
    held = missed = 0.0
    for count, popularity in buckets:
        stays = -math.expm1(-popularity * reads)
        held += count * stays
        missed += count * popularity * (1 - stays)
    return held, missed


@functools.lru_cache(maxsize=32)
def zipf(pages: int) -> Curve:
    """Pages by Zipf's law: LRU by Che's approximation, and what a kernel's two lists do worse."""
    buckets = _zipf_buckets(pages)
    points = []
    for number in range(1, _POINTS):
        reads = pages * 10 ** (-3 + 5.5 * number / _POINTS)
        held, missed = characteristic(buckets, reads)
        points.append((held / pages, missed))
    points = [(0.0, 1.0), *points, (1.0, 0.0)]

    def misses(cached: float) -> float:
        if cached >= 1:
            return 0.0
        index = max(1, bisect.bisect_left(points, (cached, 0.0)))
        (low, more), (high, less) = points[index - 1], points[min(index, len(points) - 1)]
        lru = more + (less - more) * (cached - low) / max(1e-9, high - low)
        return min(1.0, lru * (1 + WORSE_THAN_LRU * cached * cached))

    return misses


def curve(script: FileScript) -> Curve:
    """The curve of a set."""
    if (share := hot_share(script.shape)) is not None:
        return hot(share)
    return zipf(max(2, script.set_bytes // script.read_bytes)) if script.shape == "zipf" else uniform


class Files:
    """The sets of one guest, what of them is cached, and what its disk has done. Sizes in extents."""

    def __init__(self, scripts: tuple[FileScript, ...], readers: float) -> None:
        """Args:
        scripts: of its sets.
        readers: how many times those of a guest of 512 MiB.
        """
        self._sets = [FileSet(script, readers) for script in scripts]
        self._iops = readers * min((one.iops for one in scripts), default=1.0)
        self._wait_s = max((one.wait_s for one in scripts), default=0.0)
        self._request_s = max(self._wait_s, readers / self._iops)
        """What a reader waits for each miss while its disk is full."""
        self._owed = 0.0
        self.is_mapped = any(one.is_mapped for one in scripts)
        self.reads = self.read_bytes = self.wait_ns = 0.0
        """Of the disk, as a host counts them."""
        self.refaults = self.activations = self.faults = 0.0
        """Pages, as the guest's kernel counts them: read again after they were dropped; such that would still be there if the
        cache had all of the memory; and of mapped files.
        """

    def __bool__(self) -> bool:
        return bool(self._sets)

    @property
    def cached(self) -> float:
        """What of all sets is cached."""
        return sum(one.cached for one in self._sets)

    def live_extents(self, at: float) -> float:
        """All that is read again and again at that time."""
        return sum(one.size for one in self._sets if one.is_read(at))

    def is_busy(self, at: float) -> bool:
        """Whether the disk has something to do."""
        return any(one.is_read(at) and (one.stream or one.miss_share > 0) for one in self._sets)

    def rests_until(self, at: float) -> float:
        """When the next set begins or ends to be read."""
        times = [when for one in self._sets for when in (one.script.at_s, one.script.until_s) if when > at]
        return min(times, default=math.inf)

    def begin(self, idle: int) -> int:
        """All that is read from the beginning on has been read in once, as far as it fits; says how much."""
        before = idle
        for one in self._sets:
            if one.script.at_s <= 0:
                one.cached = one.seen = min(one.size, idle)
                idle -= math.ceil(one.cached)
        return before - max(0, idle)

    def fit(self, cache: int) -> None:
        """The cache has shrunk: streams' pages went first, then those that are read most rarely."""
        over = self.cached - cache
        for one in sorted(self._sets, key=lambda one: one.density):
            if over <= 0:
                return
            lost = min(over, one.cached)
            one.cached -= lost
            over -= lost

    def read(self, dt: float, at: float, cache: int, idle: int, anonymous: int) -> int:
        """Lets `dt` seconds pass; says how much more the cache has then.

        Args:
            dt: seconds.
            at: of the scenario's time.
            cache: all that is cached, streams' pages among it.
            idle: what it may grow by.
            anonymous: what its programs have.
        """
        active = [one for one in self._sets if one.is_read(at)]
        streams = sum(one.stream for one in active)
        asked = [one.misses_per_s(self._request_s) for one in active]
        requests = streams * EXTENT_BYTES / STREAM_BYTES
        room = max(0.0, self._iops - requests)
        part = min(1.0, room / max(1e-9, sum(asked)))
        load = min(1.0, (requests + part * sum(asked)) / self._iops)
        wait_s = self._wait_s + (self._request_s - self._wait_s) * load**2
        more = min(streams, self._iops * STREAM_BYTES / EXTENT_BYTES) * dt
        self._count(min(requests, self._iops) * dt, STREAM_BYTES, wait_s)
        spare = cache - self.cached + idle  # streams' pages make room for what is read again
        for one, misses in zip(active, asked, strict=True):
            served = part * misses * dt
            self._count(served, one.script.read_bytes, wait_s)
            pages = served * one.script.read_bytes / PAGE_BYTES * (READ_AROUND if one.script.is_mapped else 1)
            self._count_again(one, pages, anonymous)
            if streams and not idle and cache:
                one.turn_over(cache / streams, dt)
            filled = min(pages * PAGE_BYTES / EXTENT_BYTES, one.size - one.cached, max(0.0, spare))
            one.cached += filled
            one.seen = max(one.seen, one.cached)
            spare -= filled
            more += filled
            one.served_share = part
        self._owed = min(self._owed + more, idle)
        whole = int(self._owed)
        self._owed -= whole
        return whole

    def _count(self, requests: float, size: int, wait_s: float) -> None:
        self.reads += requests
        self.read_bytes += requests * size
        self.wait_ns += requests * wait_s * 1e9

    def _count_again(self, one: "FileSet", pages: float, anonymous: int) -> None:
        again = pages * max(0.0, one.seen - one.cached) / max(1.0, one.size - one.cached)
        self.refaults += again
        if one.size - one.cached < one.cached + anonymous:
            self.activations += again
        if one.script.is_mapped:
            self.faults += pages / READ_AROUND

    def work(self, at: float) -> tuple[float, float, float]:
        """Reads a second that are asked for, and done; and how late the slowest slot is, of the time that it has."""
        wanted = done = late = 0.0
        for one in self._sets:
            if one.is_read(at) and one.script.reads_per_s:
                each_s = HIT_S + one.miss_share * self._request_s
                wanted += one.wanted
                done += min(one.wanted, one.readers / each_s) * (one.served_share if one.miss_share else 1.0)
                late = max(late, one.script.reads_per_s * each_s)
        return wanted, done, late


class FileSet:
    """One of them."""

    def __init__(self, script: FileScript, readers: float) -> None:
        self.script, self.readers = script, readers
        self.size = script.set_bytes / EXTENT_BYTES
        self.stream = script.stream_per_s / EXTENT_BYTES
        self.wanted = readers * script.reads_per_s
        self.density = self.wanted / max(1.0, self.size)
        self._curve = curve(script)
        self._pages = max(1, script.set_bytes // script.read_bytes)
        self.cached = 0.0
        self.seen = 0.0
        """The most of it that was cached: what came then can come again."""
        self.served_share = 1.0
        """Of its misses: those that the disk has time for."""

    def is_read(self, at: float) -> bool:
        """Whether anybody reads it at that time."""
        return self.script.at_s <= max(0.0, at) < self.script.until_s

    @property
    def miss_share(self) -> float:
        """Of its reads."""
        return self._curve(self.cached / self.size) if self.size and self.cached < self.size - WHOLE else 0.0

    def misses_per_s(self, request_s: float) -> float:
        """What comes to the disk: who waits for one read does not begin the next."""
        share = self.miss_share
        return min(self.wanted, self.readers / (HIT_S + share * request_s)) * share

    def turn_over(self, lies_s: float, dt: float) -> None:
        """A stream turns the cache over in `lies_s`: what nobody reads again within that goes with it."""
        reads = self.wanted * lies_s
        if self.script.shape == "zipf":
            stays = characteristic(_zipf_buckets(self._pages), reads)[0] / self._pages
        elif (share := hot_share(self.script.shape)) is not None:
            part = self._pages * share
            stays = share * -math.expm1(-HOT_READS * reads / part) - (1 - share) * math.expm1(
                -(1 - HOT_READS) * reads / self._pages
            )
        else:
            stays = -math.expm1(-reads / self._pages)
        if (most := stays * self.size) < self.cached:
            self.cached = max(most, self.cached * (1 - min(1.0, dt / lies_s)))
