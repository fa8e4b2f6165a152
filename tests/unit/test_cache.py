"""R17, function by function, and its verdicts where the truth is known: guests of 512 MiB that give some 2 % of their cache at a
time, and read sets of 240 MiB.
"""

import math
import random
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from ballonet.decide import cache, cache_needs
from ballonet.decide.memory import GuestMemory
from ballonet.decide.seat import Layer, Seat
from ballonet.model.limits import Limits
from ballonet.model.settings import Size
from ballonet.model.snapshot import Guest, GuestStats, Voice
from ballonet.model.units import MIB
from ballonet.scenarios.files import FilePart, file_script
from ballonet.sim.files import Files

CEILING = 512 * MIB
USED = 110 * MIB
STEP = int(0.025 * CEILING)


@dataclass
class World:
    """One guest with files, asked for a step whenever it may be, as a host with use for memory would."""

    part: FilePart
    seed: int = 1
    has_agent: bool = False
    noise: float = 1.0
    claims: int = 0
    """Refaults a second that its agent invents."""
    at: float = 0.0
    memory: GuestMemory = field(default_factory=GuestMemory)
    available_mib: float = 400.0
    """What its balloon leaves it beyond what its programs have."""
    cache_mib: float = 400.0
    counted: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    invented: float = 0.0
    late: bool = False
    """Its disk is asked as a real guest's is: each second while it moves, else each 10 s."""
    least_mib: float = 400.0
    judged_at: float = 0.0
    """When it was first seen to read something again."""

    def __post_init__(self) -> None:
        self.files = Files((file_script(self.part, 1),), 1.0)
        self.files.begin(int(self.cache_mib))
        self.available_mib = self.cache_mib
        self.asked: tuple[float, list[float], int] = (-5.0, [0.0] * 4, 0)
        self.random = random.Random(self.seed)  # noqa: S311 a seed that repeats

    def guest(self) -> Guest:
        keep = int(self.available_mib * MIB)
        at, counted, kept = self.asked
        if not self.late or (self.at - at >= 1 and keep != kept) or self.at - at >= 10:
            self.asked = at, counted, kept = self.at, list(self.counted), keep
        reads, size, wait, _ = map(int, counted)
        refaults = int(self.counted[3])
        cached = int(self.cache_mib * MIB)
        free = int((self.available_mib - self.cache_mib) * MIB) + 2 * MIB
        stats = GuestStats(total_bytes=CEILING, free_bytes=free, available_bytes=cached + free)
        if self.has_agent or self.claims:
            stats = replace(stats, refaults=refaults + int(self.invented), mglru=0)
        return Guest(
            name="g",
            ceiling_bytes=CEILING,
            keep_bytes=USED + cached + free,
            stats=stats,
            stats_age_s=0.1,
            voice=Voice.AGENT,
            disk_reads=reads,
            disk_read_bytes=size,
            disk_read_ns=wait,
            disk_age_s=self.at - at,
        )

    def second(self) -> None:
        """One passes: reads vary by chance, and a look."""
        self.at += 1.0
        before = (self.files.reads, self.files.read_bytes, self.files.wait_ns, self.files.refaults)
        self.cache_mib = min(self.cache_mib, self.available_mib)
        self.files.fit(int(self.cache_mib))
        idle = int(self.available_mib - self.cache_mib)
        self.cache_mib += self.files.read(1.0, self.at, int(self.cache_mib), idle, USED // MIB)
        now = (self.files.reads, self.files.read_bytes, self.files.wait_ns, self.files.refaults)
        mean = now[0] - before[0]
        chance = max(0.0, 1 + self.noise * self.random.gauss(0, 1) / math.sqrt(mean)) if mean else 1.0
        self.counted = [old + chance * (b - a) for old, a, b in zip(self.counted, before, now, strict=True)]
        self.invented += self.claims
        self.memory = cache.follow(self.memory, self.guest(), self.at)
        self.judged_at = self.judged_at or (self.at if self.memory.reread.worth_bytes else 0.0)
        self.least_mib = min(self.least_mib, self.available_mib)

    def give(self, seconds: int, least_mib: float = 120.0) -> None:
        """For so long, a step whenever one may be asked; what is worth something is given back at once, and fills by and by."""
        for _ in range(seconds):
            one = self.memory.reread
            worth_mib = one.worth_bytes / MIB
            most = cache.askable_bytes(self.memory, CEILING, self.at)
            assert most is None or most >= 0
            spare_mib = self.available_mib - max(least_mib, worth_mib)
            if spare_mib < 0:
                self.available_mib = max(self.available_mib, worth_mib)
            elif spare_mib > 1:
                free_mib = self.available_mib - self.cache_mib
                self.available_mib -= min(spare_mib, free_mib + (most or 0) / MIB)
            self.second()


HOT = {
    "uniform": FilePart(set=Size(240 * MIB), reads=800),
    "zipf": FilePart(set=Size(240 * MIB), reads=800, shape="zipf"),
    "postgres": FilePart(set=Size(210 * MIB), reads=150, shape="uniform", read_bytes=8192),
    "mapped": FilePart(set=Size(240 * MIB), reads=800, mapped=True),
}
COLD = {
    "stream": FilePart(stream=Size(8 * MIB)),
    "cold": FilePart(set=Size(240 * MIB), reads=0.0001),
    "small": FilePart(set=Size(60 * MIB), reads=800),
}


@pytest.mark.parametrize("seed", range(1, 13))
@pytest.mark.parametrize("agent", [False, True], ids=["host", "agent"])
@pytest.mark.parametrize("name", HOT)
def test_what_is_read_again_is_kept(name: str, agent: bool, seed: int) -> None:
    """It is seen within some steps, and no more than a tenth of the set is lost for that."""
    world = World(HOT[name], seed, agent)
    world.give(600)
    size = HOT[name].set / MIB
    assert world.judged_at, "never seen"
    assert world.least_mib > 0.85 * size
    # Of a set by Zipf's law the last part is read so rarely that it is worth little.
    assert world.memory.reread.worth_bytes / MIB > (0.8 if HOT[name].shape == "zipf" else 0.88) * size


@pytest.mark.parametrize("seed", range(1, 13))
@pytest.mark.parametrize("agent", [False, True], ids=["host", "agent"])
@pytest.mark.parametrize("name", COLD)
def test_what_is_not_read_again_is_given(name: str, agent: bool, seed: int) -> None:
    """All of it, a step at a time."""
    world = World(COLD[name], seed, agent)
    world.give(300)
    assert not world.memory.reread.worth_bytes
    assert world.least_mib < 125


def test_an_agent_that_claims_what_no_disk_has_read_gets_nothing() -> None:
    """The smaller of both words counts."""
    world = World(COLD["cold"], claims=3000)
    world.give(300)
    assert not world.memory.reread.worth_bytes
    assert world.least_mib < 125


def test_by_its_word_alone_a_guest_gets_half() -> None:
    """Where nobody counts its reads."""
    memory = GuestMemory(reread=replace(GuestMemory().reread, worth_bytes=100 * MIB, price=0.01))
    seats = [Seat(Guest(name="g", ceiling_bytes=CEILING, disk_reads=reads), memory) for reads in (None, 7)]
    for one in seats:
        cache_needs.add(one, 0, 0, Limits())
    assert [one.cache_bytes // MIB for one in seats] == [50, 100]


def test_a_full_disk_says_nothing() -> None:
    """It shows no more misses whatever is taken: that is no word for taking more."""
    part = FilePart(set=Size(380 * MIB), reads=5000, iops=400)
    world = World(part)
    world.available_mib = 200.0
    for _ in range(20):
        world.second()
    before = world.memory.reread
    world.available_mib -= 3 * STEP / MIB
    for _ in range(30):
        world.second()
    after = world.memory.reread
    assert after.level_bytes == before.level_bytes > after.cache_bytes


def test_a_count_that_begins_anew_is_no_fall() -> None:
    """A guest that was started anew has read nothing yet."""
    world = World(HOT["uniform"])
    world.give(120)
    known = world.memory.reread
    world.counted = [0.0, 0.0, 0.0, 0.0]
    world.second()
    assert world.memory.reread.worth_bytes == known.worth_bytes
    assert world.memory.reread.level_bytes == -1


def test_what_was_worth_something_fades_and_is_tried_again_later_and_later() -> None:
    """By half in half an hour, not before it may be tried; each try that finds it doubles the time."""
    one = replace(GuestMemory().reread, worth_bytes=100 * MIB, hold_until=50.0)
    assert cache._faded(one, 10.0, 40.0).worth_bytes == 100 * MIB
    assert cache._faded(one, 1800.0, 4000.0).worth_bytes == pytest.approx(50 * MIB, rel=0.01)
    world = World(HOT["uniform"])
    world.give(100)
    first = world.memory.reread.backoff_s
    world.give(400)
    assert world.memory.reread.backoff_s > first >= cache.BACKOFF_S


def seat(name: str, need_mib: int, cache_mib: int, price: float, shares: int = 1000) -> Seat:
    guest = Guest(name=name, ceiling_bytes=CEILING, shares=shares)
    need = need_mib * MIB
    one = Seat(guest, GuestMemory(), need_now_bytes=need, need_soon_bytes=need, need_lasting_bytes=need)
    one.cache_layers = (Layer(price, cache_mib * MIB),)
    one.need_soon_bytes += one.cache_bytes
    one.need_lasting_bytes += one.cache_bytes
    return one


def test_caches_go_by_price_before_any_margin() -> None:
    """The cheapest first; those of about the same price alike; an operator's last; and never a byte of need."""
    cheap, dear, said = (seat(name, 100, 100, price) for name, price in (("a", 0.001), ("b", 0.01), ("c", cache_needs.ORDERED)))
    gone = cache_needs.give_up([cheap, dear, said], 10_000 * MIB, 150 * MIB)
    assert gone == 150 * MIB
    assert [one.cache_bytes // MIB for one in (cheap, dear, said)] == [0, 50, 100]
    assert cheap.need_soon_bytes == cheap.need_now_bytes == 100 * MIB
    assert cache_needs.give_up([cheap, dear, said], 10_000 * MIB, 1 << 40) == 150 * MIB
    twins = [seat("a", 100, 100, 0.01), seat("b", 100, 100, 0.015)]
    cache_needs.give_up(twins, 10_000 * MIB, 100 * MIB)
    assert [one.cache_bytes // MIB for one in twins] == [50, 50]


def test_a_reader_gets_its_share_and_no_more_while_others_lack() -> None:
    """However dear its cache is: what is beyond its share goes before any other's."""
    greedy, other = seat("greedy", 50, 400, 9.0), seat("b", 100, 50, 0.001)
    cache_needs.give_up([greedy, other], 400 * MIB, 200 * MIB)
    assert greedy.cache_bytes // MIB == 200
    assert other.cache_bytes // MIB == 50


def test_r17_is_what_keeps_it() -> None:
    """Switched off, nothing of a guest's cache is needed."""
    memory = GuestMemory(reread=replace(GuestMemory().reread, worth_bytes=100 * MIB))
    one = Seat(Guest(name="g", ceiling_bytes=CEILING, disk_reads=1), memory)
    cache_needs.add(one, 0, 0, Limits(without=frozenset({"R17"})))
    assert one.cache_bytes == 0


@pytest.mark.parametrize("seed", range(1, 4))
def test_voices_that_come_and_go_are_no_reads(seed: int) -> None:
    """An agent's swap counters and refaults are there and not there: nothing is taken for reads, nothing is forgotten."""
    world = World(COLD["cold"], seed)
    world.give(60)
    level = world.memory.reread.level_bytes
    for second in range(40):
        guest = world.guest()
        stats = guest.stats
        assert stats is not None
        if second % 7 < 3:
            stats = replace(stats, swap_in_bytes=3 << 30, refaults=400_000, activations=300_000)
        world.memory = cache.follow(world.memory, replace(guest, stats=stats), world.at + second)
    assert not world.memory.reread.worth_bytes
    assert world.memory.reread.level_bytes == level


def test_another_count_is_no_rise() -> None:
    """The host stops to count, and the agent's refaults stand in: that begins anew."""
    world = World(HOT["uniform"], has_agent=True)
    world.give(120)
    known = world.memory.reread.worth_bytes
    guest = replace(world.guest(), disk_reads=None)
    stats = replace(guest.stats, refaults=10**9)  # type: ignore[type-var]
    world.memory = cache.follow(world.memory, replace(guest, stats=stats), world.at + 1)
    assert world.memory.reread.level_bytes == -1
    assert world.memory.reread.worth_bytes == known


def test_what_it_swaps_in_is_not_read_again() -> None:
    """Reads of a swap file on the same disk are no files."""
    world = World(COLD["cold"])
    world.give(30)
    before = world.memory.reread
    for second in range(1, 20):
        guest = world.guest()
        stats = replace(guest.stats, swap_in_bytes=4096 * 300 * second)  # type: ignore[type-var]
        told = replace(guest, stats=stats, disk_reads=(guest.disk_reads or 0) + 300 * second)
        world.memory = cache.follow(world.memory, told, world.at + second)
    assert world.memory.reread.worth_bytes == before.worth_bytes == 0
    assert world.memory.reread.level_per_s < 5


def test_cache_that_the_host_has_not_seen_is_none() -> None:
    """A guest's word on it is bounded by what it occupies (R9), and news that are old say nothing."""
    stats = GuestStats(total_bytes=CEILING, free_bytes=0, available_bytes=400 * MIB)
    guest = Guest(name="g", ceiling_bytes=CEILING, stats=stats, stats_age_s=0.1, disk_reads=1, resident_bytes=200 * MIB)
    assert cache.follow(GuestMemory(), guest, 5.0).reread.cache_bytes == 88 * MIB
    assert cache.follow(GuestMemory(), replace(guest, stats_age_s=9.0), 5.0) == GuestMemory()


@pytest.mark.parametrize("phase", range(10))
def test_a_disk_that_is_asked_rarely_is_asked_before_the_next_step(phase: int) -> None:
    """Nothing more is asked of a guest until what came of the last step is counted."""
    world = World(HOT["uniform"], late=True)
    world.asked = (-float(phase), [0.0] * 4, 0)
    world.give(400)
    assert world.least_mib > 0.88 * 240


def test_a_disk_that_is_counted_no_more_is_nobody_s() -> None:
    """As before anybody counted: its guest gives as it always did."""
    world = World(HOT["uniform"])
    world.give(30)
    assert cache.askable_bytes(world.memory, CEILING, world.at) is not None
    assert cache.askable_bytes(world.memory, CEILING, world.at + 100) is None


def test_waits_that_nobody_tells_are_the_usual() -> None:
    """A count without them is worth as much."""
    world = World(HOT["uniform"])
    plain = world.guest
    world.guest = lambda: replace(plain(), disk_read_ns=None)  # type: ignore[method-assign]
    world.give(400)
    assert world.memory.reread.worth_bytes > 0.88 * 240 * MIB


def test_counters_that_a_guest_forges_are_no_reads() -> None:
    """What it says may fall, come and go: nothing becomes negative, and nothing is worth what no disk has read."""
    for name in ("swap_in_bytes", "refaults"):
        world = World(COLD["cold"])
        world.give(30)
        for second in range(60):
            guest = world.guest()
            stats = replace(guest.stats, **{name: (4_096_000_000_000, None, 0)[second % 3]})  # type: ignore[type-var]
            world.available_mib -= 1
            world.memory = cache.follow(world.memory, replace(guest, stats=stats), world.at + second)
            assert world.memory.reread.level_per_s >= 0
            assert cache.askable_bytes(world.memory, CEILING, world.at + second) is not None
        assert not world.memory.reread.worth_bytes


def test_a_cache_that_never_stands_still_is_not_spared_for_that() -> None:
    """It cannot be judged, so it gives as it always did."""
    world = World(COLD["cold"])
    world.give(20)
    for second in range(400):
        world.available_mib += (6, -6)[second % 2]
        world.cache_mib = world.available_mib
        world.second()
    assert cache.askable_bytes(world.memory, CEILING, world.at) is None


def needy(guaranteed: int = 0, said: int = 0) -> Seat:
    """One that uses 100 MiB, of whose cache 200 MiB were seen to be read again."""
    memory = GuestMemory(reread=replace(GuestMemory().reread, worth_bytes=200 * MIB, price=0.01))
    guest = Guest(name="g", ceiling_bytes=CEILING, disk_reads=1, guaranteed_bytes=guaranteed, cache_bytes=said)
    return Seat(
        guest, memory, need_now_bytes=100 * MIB, need_soon_bytes=120 * MIB, need_lasting_bytes=120 * MIB, keep_bytes=CEILING
    )


def test_what_an_operator_said_keeps_its_price_when_the_disk_shows_more() -> None:
    """Cache lies in layers: each goes at its own price."""
    one = needy(said=150 * MIB)
    cache_needs.add(one, 120 * MIB, 120 * MIB, Limits())
    assert [(layer.price, layer.bytes // MIB) for layer in one.cache_layers] == [(0.01, 50), (cache_needs.ORDERED, 150)]
    stranger = seat("s", 100, 200, 0.02)
    cache_needs.give_up([one, stranger], 10_000 * MIB, 100 * MIB)
    assert one.cache_bytes >= 150 * MIB


def test_a_floor_and_cache_are_not_counted_twice() -> None:
    """What a floor raises a need to is room for its cache."""
    one = needy()
    one.need_soon_bytes = one.need_lasting_bytes = 300 * MIB
    cache_needs.add(one, 120 * MIB, 120 * MIB, Limits())
    assert one.need_lasting_bytes == 320 * MIB
    assert one.cache_bytes == 20 * MIB


def test_guaranteed_cache_is_no_cache_to_give_up() -> None:
    """It is needed as what its guest uses is."""
    one = needy(guaranteed=250 * MIB)
    cache_needs.add(one, 120 * MIB, 120 * MIB, Limits())
    assert one.need_now_bytes == 250 * MIB
    cache_needs.give_up([one], 10_000 * MIB, 1 << 40)
    assert one.need_lasting_bytes >= one.need_soon_bytes >= 250 * MIB


def test_who_cannot_give_gives_up_nothing() -> None:
    """And needs never fall below the least."""
    for may_give in (False, True):
        one = needy()
        cache_needs.add(one, 120 * MIB, 120 * MIB, Limits())
        one.may_give = may_give
        one.need_lasting_bytes = one.need_soon_bytes = 150 * MIB
        cache_needs.bound(one)
        gone = cache_needs.give_up([one], 10_000 * MIB, 1 << 40)
        assert gone == (50 * MIB if may_give else 0)
        assert one.need_lasting_bytes >= one.need_now_bytes


def test_what_nobody_counts_has_no_price() -> None:
    """A guest's word alone stands behind all that is counted."""
    one = needy()
    one.guest = replace(one.guest, disk_reads=None)
    cache_needs.add(one, 120 * MIB, 120 * MIB, Limits())
    assert [layer.price for layer in one.cache_layers] == [cache_needs.TRIED]


@pytest.mark.parametrize(("part", "tries"), [("uniform", True), ("stream", False)])
def test_a_reader_that_begins_without_room_is_given_a_step_to_try(part: str, tries: bool) -> None:
    """It never loses any cache, so nothing is seen of it otherwise; what is read from end to end is read in large pieces."""
    world = World({**HOT, **COLD}[part], cache_mib=150.0)
    world.available_mib = 150.0
    tried = False
    for _ in range(60):
        world.second()
        tried = tried or world.memory.reread.tries_bytes > 0
    assert tried is tries


def test_a_guest_that_pages_is_given_none_for_that() -> None:
    """What it brings back from swap comes in small pieces too, and is no cache."""
    world = World(HOT["uniform"], cache_mib=150.0)
    world.available_mib = 150.0
    memory, tried = GuestMemory(), False
    for second in range(60):
        world.second()
        one = world.guest()
        assert one.stats is not None
        stats = replace(one.stats, swap_in_bytes=second << 20, swap_out_bytes=0)
        memory = cache.follow(memory, replace(one, stats=stats), world.at)
        tried = tried or memory.reread.tries_bytes > 0
    assert not tried
