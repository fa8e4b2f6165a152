"""Seats at rest that are taken again change no decision."""

import random

import pytest
from msgspec.structs import replace

from ballonet.decide import still
from ballonet.decide.step import START, step
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, GuestStats, Host, Snapshot
from ballonet.model.units import GIB, MIB

LIMITS = Limits()


def guest(name: str, source: random.Random, old: Guest | None = None) -> Guest:
    """The very same reading again, most often; else one in which something moved."""
    if old is not None and source.random() < 0.97:
        return old
    ceiling = old.ceiling_bytes if old else source.choice((2, 4, 8)) * GIB
    keep = min(ceiling, max(GIB, (old.keep_bytes or ceiling) + source.choice((0, 0, -64, 64)) * MIB)) if old else ceiling
    used = int(keep * source.uniform(0.2, 0.7)) >> 20 << 20
    stats = GuestStats(total_bytes=keep, available_bytes=keep - used, free_bytes=keep - used)
    age_s = source.choice((0.0, 0.3, 1.0))
    reads = None if int(name[1:]) % 2 else (old.disk_reads or 0 if old else 0) + source.choice((0, 0, 50, 5000))  # of some
    return Guest(
        name=name,
        ceiling_bytes=ceiling,
        keep_bytes=keep,
        resident_bytes=used,
        disk_reads=reads,
        stats=stats,
        stats_age_s=age_s,
    )


@pytest.mark.parametrize("seed", range(30))
def test_no_decision_is_changed(seed: int) -> None:
    """Random worlds, most guests at rest at most ticks, decided with and without what was kept: the same decisions, looks and
    memories.
    """
    source = random.Random(seed)  # noqa: S311 a seed that reproduces
    guests = {f"g{number}": guest(f"g{number}", source) for number in range(12)}
    with_cache = without = START
    reused, now = 0, 0.0
    total = int(sum(one.ceiling_bytes for one in guests.values()) * source.uniform(0.8, 1.2))
    for _ in range(150):
        now += source.choice((0.1, 0.2, 1.0, 1.0))
        guests = {name: guest(name, source, old) for name, old in guests.items()}
        free = total - sum(one.resident_bytes or 0 for one in guests.values())
        snapshot = Snapshot(host=Host(total_bytes=total, available_bytes=max(0, free)), guests=tuple(guests.values()))
        reused += sum(still.again(with_cache.seats, one, now) is not None for one in snapshot.guests)
        with_cache, one = step(with_cache, snapshot, LIMITS, now)
        without, other = step(replace(without, seats={}), snapshot, LIMITS, now)
        assert one == other
        assert with_cache.guests == without.guests
    assert reused > 0


def test_other_limits_make_every_seat_anew() -> None:
    """What was kept holds under the limits that it was made under."""
    kept = {"a": None}
    assert still.valid(kept, LIMITS, LIMITS) is kept  # type: ignore[arg-type]  # any seats
    assert still.valid(kept, LIMITS, Limits()) == {}  # type: ignore[arg-type]
    assert still.valid(kept, None, LIMITS) == {}  # type: ignore[arg-type]
