"""What this host has shown recently: how fast its guests rise, alone and all together. Sizes margins (R2) and reserve (R3).

By the minute, over the last hours: a quantile of that forgets the one boot storm, and remembers a peak that comes each hour.
"""

import math
from collections.abc import Sequence
from typing import Final, TypeVar

from msgspec import Struct

from ballonet.decide.pace import PORTION_SHARE, take_per_s
from ballonet.decide.seat import Seat

MINUTE_S: Final = 60.0
MINUTES: Final = 240
QUANTILE: Final = 0.99
"""Of the minutes: all count until there are a hundred; of four hours the two worst do not."""
SEE_S: Final = 0.78
"""From a rise to the first command to a donor: a look of at most 0.3 s, a tick, and the next look that confirms it."""
RISE_BOUNDS: Final = (0.03, 0.12)
"""What is believed of one guest's rise, of its ceiling a second: a slower one is no rise, a faster one is its claim (R9)."""


class Spike(Struct, frozen=True, order=True, gc=False):
    """The joint growth of all guests, and how long it lasts until donors give."""

    bytes: float = 0.0
    """What is to be free for it."""
    growth_per_s: float = 0.0
    horizon_s: float = 0.0


class Shown(Struct, frozen=True, omit_defaults=True):
    """The largest of each minute, and what follows from them."""

    minute: int = -1
    """The one that runs, on the clock of decisions."""
    spikes: tuple[Spike, ...] = ()
    """By the minute, the newest last."""
    rises: tuple[float, ...] = ()
    """The fastest rise of one guest, of its ceiling a second, likewise."""
    spike: Spike = Spike()
    """The quantile of `spikes`."""
    rise_share_per_s: float = 0.0
    """The quantile of `rises`; 0 = none has been seen."""


T = TypeVar("T", Spike, float)


def note(shown: Shown, seats: Sequence[Seat], now: float) -> Shown:
    """What is known after this tick; the same value when it taught nothing."""
    minute, growing = int(now // MINUTE_S), [seat for seat in seats if seat.memory.use.growth_per_s]
    spike, rise = _spike(growing, seats), _rise(growing)
    if minute != shown.minute:
        spikes, rises = (*shown.spikes, spike)[-MINUTES:], (*shown.rises, rise)[-MINUTES:]
    elif spike <= shown.spikes[-1] and rise <= shown.rises[-1]:
        return shown
    else:
        spikes = (*shown.spikes[:-1], max(spike, shown.spikes[-1]))
        rises = (*shown.rises[:-1], max(rise, shown.rises[-1]))
    return Shown(minute, spikes, rises, _quantile(spikes), _quantile(rises))


def _spike(growing: Sequence[Seat], seats: Sequence[Seat]) -> Spike:
    if not growing:
        return Spike()
    growth_per_s = sum(seat.memory.use.growth_per_s for seat in growing)
    ceilings = sum(seat.guest.ceiling_bytes for seat in seats)
    horizon_s = SEE_S + PORTION_SHARE * ceilings / sum(map(take_per_s, seats))
    return Spike(growth_per_s * horizon_s, growth_per_s, horizon_s)


def _rise(growing: Sequence[Seat]) -> float:
    least, most = RISE_BOUNDS
    rise = max((seat.memory.use.growth_per_s / seat.guest.ceiling_bytes for seat in growing), default=0.0)
    return min(rise, most) if rise >= least else 0.0


def _quantile(values: Sequence[T]) -> T:
    return sorted(values)[math.ceil(QUANTILE * len(values)) - 1]
