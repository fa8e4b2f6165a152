"""How closely to look at each guest next: as often as it could run out of memory in between."""

from typing import Final

from ballonet.decide.seat import Seat
from ballonet.decide.stuck import is_under_way
from ballonet.model.plan import Look

FASTEST_SHARE_PER_S: Final = 0.12
"""Of the ceiling: how fast a guest that looks idle may begin to grow. 1.8 GiB/s of 16 GiB were seen (HyperAlloc,
EuroSys'25, raw data of the clang runs)."""
LOOKS_TO_EXHAUSTION: Final = 4
"""So many looks before a guest at that speed has used up what it has."""
CLOSEST_S: Final = 0.15
FALL_SHARE: Final = 0.04
"""Of the ceiling: when a guest's available memory has fallen by so much, or by a quarter of what it had, the loop wakes."""
LEAST_FALL_SHARE: Final = 0.004
"""Less than this is noise: 2 MiB of 512."""


def look(seat: Seat, interval_s: float) -> Look:
    """When to look at a guest again, and below which available memory to wake the loop at once."""
    ceiling = seat.guest.ceiling_bytes
    headroom = max(0, seat.keep_bytes - seat.memory.used_bytes)
    speed = max(FASTEST_SHARE_PER_S * ceiling, seat.memory.growth_per_s)
    every_s = headroom / speed / LOOKS_TO_EXHAUSTION
    if seat.is_distressed or is_under_way(seat.memory, seat.keep_bytes):
        every_s = 0.0
    fall = max(LEAST_FALL_SHARE * ceiling, min(FALL_SHARE * ceiling, headroom / 4))
    return Look(min(interval_s, max(CLOSEST_S, every_s)), max(0, headroom - int(fall)))
