"""R3: the reserve, host memory that is always already free, since one spiking guest outruns one donor's balloon."""

import math
from collections.abc import Iterable
from typing import Final

from ballonet.decide.estimate import HORIZON_S
from ballonet.decide.seat import Seat
from ballonet.model.limits import Limits
from ballonet.model.units import GIB

_SCALE: Final = ((4 * GIB, 0.06), (8 * GIB, 0.04), (16 * GIB, 0.02), (math.inf, 0.01))
"""The sliding scale of ESXi's Mem.MinFreePct: 6 % of the first 4 GiB, 4 % to 12, 2 % to 28, 1 % above
("Understanding Memory Management in VMware vSphere 5", VMware, 2011). 120 GiB -> 1.8 GiB."""
SPIKE_FADE_S: Final = 120.0
LARGEST_SHARE: Final = 0.15
"""Of the host, whatever was seen: three coinciding spikes of 4.3 GiB on 120 GiB take 10 %."""


def least_bytes(total_bytes: int) -> int:
    """What the sliding scale keeps free of a host."""
    left, kept = float(total_bytes), 0.0
    for width, share in _SCALE:
        kept += min(left, width) * share
        left -= min(left, width)
        if left <= 0:
            break
    return int(kept)


def spike_bytes(old_bytes: float, seats: Iterable[Seat], elapsed_s: float) -> float:
    """The largest joint growth within one horizon that this host has shown; fades."""
    growth_per_s = sum(seat.memory.growth_per_s for seat in seats)
    return max(growth_per_s * HORIZON_S, old_bytes * math.exp(-max(0.0, elapsed_s) / SPIKE_FADE_S))


def reserve_bytes(total_bytes: int, spike: float, limits: Limits) -> int:
    """What is to stay unpromised: the operator's figure, else the larger of the scale and the spikes seen."""
    if not limits.has("R3"):
        return 0
    if limits.reserve_bytes is not None:
        return limits.reserve_bytes
    return int(max(least_bytes(total_bytes), min(spike, LARGEST_SHARE * total_bytes)))
