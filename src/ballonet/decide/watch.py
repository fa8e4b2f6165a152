"""How closely to look at each guest next: as often as it could run out of memory in between."""

import itertools
from typing import Final

from ballonet.decide.seat import Seat
from ballonet.model.plan import Look

FASTEST_SHARE_PER_S: Final = 0.12
"""Of the ceiling: how fast a guest that looks idle may begin to grow. 1.8 GiB/s of 16 GiB were seen (HyperAlloc,
EuroSys'25, raw data of the clang runs)."""
LOOKS_TO_EXHAUSTION: Final = 4
"""How many looks are due before a guest at that speed has used up what it has."""
CLOSEST_S: Final = 0.15
RISING_S: Final = 0.1
"""The same while a guest grows: what it takes between two looks it must have had before. In `density-50`, 24 seeds, this took a
quarter of all pages swapped in away.
"""
RISEN_S: Final = 10.0
"""How long after its last rise a guest counts as one that grows: the next one is likelier."""
PACES_S: Final = (0.1, 0.15, 0.25, 0.5, 1.0)
"""Guests that are looked at equally often share the beats on which that is done, so there are few paces. The nearest counts."""
FALL_SHARE: Final = 0.04
"""Of the ceiling: when a guest's available memory has fallen by this, or by a quarter of what it had, the loop wakes."""
LEAST_FALL_SHARE: Final = 0.004
"""Less than this is noise: 2 MiB of 512."""


def look(seat: Seat, interval_s: float) -> Look:
    """When to look at a guest again, and below which available memory to wake the loop at once."""
    ceiling, memory = seat.guest.ceiling_bytes, seat.memory
    headroom = seat.keep_bytes - memory.use.used_bytes
    if headroom < 0:
        headroom = 0
    fastest, growth = FASTEST_SHARE_PER_S * ceiling, memory.use.growth_per_s
    every_s = headroom / (growth if growth > fastest else fastest) / LOOKS_TO_EXHAUSTION
    if every_s < CLOSEST_S or seat.is_distressed or seat.is_under_way:
        every_s = RISING_S if memory.use.sampled_at - memory.use.rose_at < RISEN_S else CLOSEST_S
    else:
        every_s = _pace_s(every_s)
    fall, least, most = headroom / 4, LEAST_FALL_SHARE * ceiling, FALL_SHARE * ceiling
    stats = seat.guest.stats
    said = None if stats is None else stats.available_bytes
    # What it says itself, where that is less: a guest whose word is not believed (R9) would wake the loop at each look.
    begin = headroom if said is None or said > headroom else said
    line = begin - int(least if fall < least else fall if fall < most else most)
    return Look(every_s if every_s < interval_s else interval_s, line if line > 0 else 0)


def _pace_s(every_s: float) -> float:
    """The pace of the grid that is nearest, by ratio."""
    for pace_s, next_s in itertools.pairwise(PACES_S):
        if every_s * every_s < pace_s * next_s:
            return pace_s
    return PACES_S[-1] if every_s < 2 * PACES_S[-1] else every_s
