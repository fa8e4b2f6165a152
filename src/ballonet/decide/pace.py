"""R11: how much at once. As many donors as the host can bear, and as much of each as its balloon moves in two seconds."""

import math
from typing import Final

from ballonet.decide.seat import Seat
from ballonet.decide.table import Table
from ballonet.model.units import MIB

STEP_S: Final = 2.0
SPEED_SHARE: Final = 0.06
"""Of the ceiling, a second, while nobody has measured a balloon: 0.86 GiB/s of touched memory on real KVM (HyperAlloc,
EuroSys'25, raw data), of 16 GiB."""
UNREADY_PART: Final = 0.25
"""Of that, from a guest that could make nothing free when it was asked."""
LEAST_STEP_BYTES: Final = 48 * MIB
PORTION_SHARE: Final = 1 / 40
"""Of the ceiling: less than this is not asked of a donor. Many small moves cost the guests more CPU than the memory is
worth: with 1,320 of them in 70 s ten guests under TCG lost 15 % of their work without one page swapped in."""
DEAD_BAND_SHARE: Final = 1 / 800
"""Of the ceiling, at least 1 MiB: a smaller change is not worth a command (R12)."""
MOST_PORTION_BYTES: Final = 1024 * MIB
MOST_DEAD_BAND_BYTES: Final = 64 * MIB
"""Of the largest: what is little to a guest of 4 TiB may be all that its neighbours lack."""
EASY_SHARE: Final = 0.10
HARD_SHARE: Final = 0.60
"""Pressure (PSI some) of the host's CPU, disk or memory: below the first any number of balloons may grow at once, from
the second on only one. A reclaim loads all three: STREAM next to a moving balloon lost 14 % (HyperAlloc, EuroSys'25)."""
REACH_S: Final = 0.8
"""What arrives within this time is as good as there: little more than what the needs look ahead (TIGHT_HORIZON_S)."""


def take_per_s(seat: Seat) -> float:
    """How fast a guest's balloon takes, as measured, bytes a second."""
    return seat.memory.motion.took_per_s or SPEED_SHARE * seat.guest.ceiling_bytes


def dead_band_bytes(seat: Seat) -> int:
    """A change of a guest's balloon that is not worth a command."""
    return max(MIB, min(MOST_DEAD_BAND_BYTES, int(DEAD_BAND_SHARE * seat.guest.ceiling_bytes)))


def portion_bytes(ceiling_bytes: int) -> int:
    """A change that is worth a command in quiet times."""
    return min(MOST_PORTION_BYTES, int(PORTION_SHARE * ceiling_bytes))


def step_bytes(seat: Seat) -> int:
    """The most that a donor is asked for at once. However slow its balloon, it is enough for a command: what others count on and
    is never sent kept hosts short while large guests had memory to spare.
    """
    ready = seat.guest.ready_share
    part = 1.0 if ready is None else max(UNREADY_PART, ready)
    return max(LEAST_STEP_BYTES, dead_band_bytes(seat) + MIB, int(part * STEP_S * take_per_s(seat)))


def donors_at_once(table: Table, candidates: int) -> int:
    """How many balloons may grow at the same time."""
    if not table.limits.has("R11") or table.pressure_share <= EASY_SHARE:
        return candidates
    room = max(0.0, (HARD_SHARE - table.pressure_share) / (HARD_SHARE - EASY_SHARE))
    return max(1, math.ceil(candidates * room))
