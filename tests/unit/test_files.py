"""Files of a simulated guest: what is missed at which size of the cache, what its disk and its kernel count, what is refused."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from ballonet.model.limits import Limits
from ballonet.model.settings import SettingsError, Size
from ballonet.model.tick import Tick
from ballonet.model.units import MIB
from ballonet.scenarios.files import FilePart, file_script
from ballonet.scenarios.scenario import load
from ballonet.sim.files import Files, curve
from ballonet.sim.run import order, run_arm
from ballonet.sim.world import SimWorld

SET_MIB = 240
COUNTED = {
    "uniform": {219: 65, 189: 176, 159: 254, 129: 337},
    "zipf": {219: 16, 189: 40, 159: 67, 129: 79, 99: 102, 69: 141, 39: 188},
    "hot-0.1": {219: 7, 189: 17, 159: 26, 129: 36, 99: 48, 69: 61, 39: 102},
}
"""MiB of a set of 240 MiB that are cached: reads a second that came to the disk, of 800; on Linux 6.1, classic LRU."""


@pytest.mark.parametrize("shape", COUNTED)
def test_misses_are_as_on_real_guests(shape: str) -> None:
    """Within 15 %, or two reads a second."""
    misses = curve(file_script(FilePart(set=Size(SET_MIB * MIB), reads=800, shape=shape), 1))
    for cached, counted in COUNTED[shape].items():
        assert 800 * misses(cached / SET_MIB) == pytest.approx(counted, rel=0.15, abs=2), cached
    assert misses(1.0) == 0
    assert misses(0.0) == pytest.approx(1.0, abs=0.02)
    falls = [misses(number / 100) for number in range(101)]
    assert falls == sorted(falls, reverse=True)


def read(part: FilePart, cache: int, seconds: int = 20, idle: int = 0) -> Files:
    files = Files((file_script(part, 1),), 1.0)
    files.begin(1000)
    files.fit(cache)
    for second in range(seconds):
        cache += (more := files.read(1.0, float(second), cache, idle, 100))
        idle -= more
    return files


def test_a_set_that_is_cached_reads_nothing() -> None:
    files = read(FilePart(set=Size(240 * MIB), reads=800), 300)
    assert (files.reads, files.refaults, files.is_busy(1.0)) == (0, 0, False)


def test_what_is_missed_comes_back_as_fast_as_it_is_read() -> None:
    """And is counted by host and guest alike: reads, bytes, refaults."""
    files = read(FilePart(set=Size(240 * MIB), reads=800), 120, seconds=30, idle=200)
    assert 120 < files.cached < 170
    assert files.read_bytes == pytest.approx(4096 * files.reads)
    assert files.refaults == pytest.approx(files.reads)
    assert files.cached - 120 == pytest.approx(files.reads * 4096 / MIB, rel=0.02)


def test_a_disk_does_no_more_than_it_can() -> None:
    """Who waits for one read does not begin the next; then the disk is full, and the work is lost."""
    part = FilePart(set=Size(240 * MIB), reads=4000)
    files = read(part, 20)
    assert files.reads / 20 <= 400
    wanted, done, _ = files.work(1.0)
    assert wanted == 4000
    assert done < 600


def test_a_stream_reads_the_same_at_every_size_and_again_nothing() -> None:
    sizes = [read(FilePart(stream=Size(8 * MIB)), cache) for cache in (50, 400)]
    assert [one.reads / 20 for one in sizes] == [64, 64]
    assert [one.refaults for one in sizes] == [0, 0]


def test_beside_a_stream_a_set_keeps_what_is_read_within_its_turn() -> None:
    """A third of a set by Zipf's law that is read 800 times a second, beside 8 MiB/s: 34 of 120 MiB on a real guest."""
    parts = (FilePart(set=Size(120 * MIB), reads=800, shape="zipf"), FilePart(stream=Size(8 * MIB)))
    files = Files(tuple(file_script(one, 1) for one in parts), 1.0)
    files.begin(1000)
    for second in range(300):
        files.read(1.0, float(second), 330, 0, 100)
    assert 25 < files.cached < 75


def test_mapped_files_bring_their_neighbours_and_faults() -> None:
    plain, mapped = (read(FilePart(set=Size(240 * MIB), reads=100, mapped=one), 120, 10, 200) for one in (False, True))
    assert mapped.cached - 120 > 4 * (plain.cached - 120)
    assert plain.faults == 0 < mapped.faults


def test_the_first_reading_is_no_refault() -> None:
    """What was never cached comes for the first time."""
    files = Files((file_script(FilePart(set=Size(100 * MIB), reads=400, at_s=5.0), 1),), 1.0)
    files.begin(1000)
    for second in range(20):
        files.read(1.0, float(second), 0, 0, 100)
    assert files.reads > 0
    assert files.refaults == 0


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('reads = 5\nset = "1GiB"\nshape = "odd"', "no shape 'odd'"),
        ('reads = 5\nset = "1GiB"\nshape = "hot-0"', "no shape 'hot-0'"),
        ("reads = 5", "reads of nothing"),
        ('set = "1GiB"', "nothing is read"),
        ('set = "1GiB"\nreads = -1', "must be at least 0"),
        ('set = "1GiB"\nreads = 1\nread_bytes = 7', "must be at least 4096"),
        ('set = "1GiB"\nreads = 1\niops = 0', "must be more than 0"),
        ('stream = "1MiB"\nat_s = 9\nuntil_s = 9', "is not after"),
        ('set = "1GiB"\nreads = 1\nraeds = 2', "do you mean `reads`?"),
        ("set = 5\nreads = 1", "write a size as text"),
        ('set = "1GiB"\nreads = inf', "is no amount"),
        ('set = "1GiB"\nreads = 1\nwait = inf', "is no amount"),
        ('set = "1GiB"\nreads = 1\nuntil_s = nan', "is no amount"),
    ],
)
def test_wrong_files_are_told_with_their_place(tmp_path: Path, lines: str, says: str) -> None:
    path = tmp_path / "one.toml"
    path.write_text(
        'name = "one"\nabout = ""\nduration_s = 10\n[host]\nmemory = "8 GiB"\n[[guests]]\nname = "g"\nmemory = "4 GiB"\n'
        f'[[guests.phases]]\nat_s = 0\nused = "1 GiB"\n[[guests.files]]\n{lines}\n'
    )
    with pytest.raises(SettingsError, match="files") as told:
        load(str(path))
    assert says in str(told.value)


def kept(without: frozenset[str]) -> dict[str, float]:
    """What each guest of `backup-night` kept, on average."""
    record = run_arm(order(load("backup-night"), limits=Limits(without=without)))
    return {name: sum(keep for at, keep in one.keeps if at > 20) / len(one.keeps) for name, one in record.guests.items()}


def test_a_stream_gets_no_memory_for_its_reads() -> None:
    """Its guest keeps no more than with R17 switched off, to 3 %."""
    assert kept(frozenset())["backup-0"] < 1.03 * kept(frozenset({"R17"}))["backup-0"]


def test_guaranteed_cache_is_kept_and_nobody_pages_where_all_fits() -> None:
    """Readers that are guaranteed what they use and their files, on a host that has just enough for all."""
    scenario = load("files")
    readers = replace(scenario.guests[0], guaranteed_bytes=Size(10 << 30))
    record = run_arm(order(replace(scenario, guests=(readers, *scenario.guests[1:])), host_share=0.66))
    summary = record.result(None).summary
    assert summary.swap_in_pages == 0
    assert summary.throughput_share_worst > 0.99


def test_files_larger_than_the_host_are_read_in_as_far_as_it_has_room(tmp_path: Path) -> None:
    """As after a boot: nothing of a scenario has to be made to fit by hand."""
    path = tmp_path / "one.toml"
    path.write_text(
        'name = "one"\nabout = ""\nduration_s = 20\n[host]\nmemory = "20 GiB"\n[[guests]]\nname = "g"\n'
        'count = 4\nmemory = "16 GiB"\n[[guests.phases]]\nat_s = 0\nused = "2 GiB"\n'
        '[[guests.files]]\nset = "12 GiB"\nreads = 50\n'
    )
    summary = run_arm(order(load(str(path)))).result(None).summary
    assert summary.budget_violations == 0
    assert summary.swap_in_pages == 0


def test_a_guest_with_an_agent_says_what_it_read_again() -> None:
    """As an agent would; its host counts the same."""
    scenario = load("files")
    readers = replace(scenario.guests[0], swap_known=True)
    told: list[tuple[int, int]] = []

    def look(_at: float, tick: Tick, _world: SimWorld) -> None:
        one = tick.snapshot.guests[0]
        if one.stats is not None:
            told.append((one.stats.refaults or 0, one.disk_reads or 0))

    run_arm(order(replace(scenario, guests=(readers, *scenario.guests[1:]), duration_s=60.0)), on_tick=look)
    assert told[-1][0] > 1000
    assert all(refaults <= reads for refaults, reads in told)
