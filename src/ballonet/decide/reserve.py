"""R3: the reserve, host memory that is always already free, since one spiking guest outruns one donor's balloon."""

import math
from typing import Final

from ballonet.decide.shown import Spike
from ballonet.model.limits import Limits
from ballonet.model.plan import Reserve, ReserveReason
from ballonet.model.units import GIB

_SCALE: Final = ((4 * GIB, 0.06), (8 * GIB, 0.04), (16 * GIB, 0.02), (math.inf, 0.01))
"""The sliding scale of ESXi's Mem.MinFreePct: 6 % of the first 4 GiB, 4 % to 12, 2 % to 28, 1 % above
("Understanding Memory Management in VMware vSphere 5", VMware, 2011). 120 GiB -> 1.8 GiB."""
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


def reserve(total_bytes: int, spike: Spike, limits: Limits) -> Reserve:
    """What is to stay unpromised: the operator's figure, else the larger of the scale and the spikes seen; and why."""
    if not limits.has("R3"):
        return Reserve(0, ReserveReason.OFF, {})
    if limits.reserve_bytes is not None:
        return Reserve(limits.reserve_bytes, ReserveReason.OPERATOR, {})
    scale, most = least_bytes(total_bytes), int(LARGEST_SHARE * total_bytes)
    numbers: dict[str, float] = {"scale_bytes": scale, "spike_bytes": int(spike.bytes), "most_bytes": most}
    if spike.bytes <= scale:
        return Reserve(scale, ReserveReason.SCALE, numbers)
    numbers |= {"growth_bytes": int(spike.growth_per_s), "horizon_s": spike.horizon_s}
    if spike.bytes <= most:
        return Reserve(int(spike.bytes), ReserveReason.SPIKES, numbers)
    return Reserve(max(scale, most), ReserveReason.BOUNDED, numbers)
