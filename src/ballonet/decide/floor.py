"""R6: floors. No guest is asked to go below its floor, whatever else lacks memory."""

import functools
from typing import Final

from ballonet.model.snapshot import Guest
from ballonet.model.units import MIB

_STEPS: Final = ((128, 8, 2), (512, 40, 4), (2048, 104, 8), (8192, 232, 16))
"""Below this many MiB of memory: this many MiB, and one part in this many of the memory."""


@functools.lru_cache(maxsize=4096)
def default_floor_bytes(ceiling_bytes: int) -> int:
    """The floor of a guest whose operator set none: what Linux's hv_balloon keeps (compute_balloon_floor,
    drivers/hv/hv_balloon.c, Linux 6.1). 512 MiB -> 168 MiB, 16 GiB -> 1000 MiB.
    """
    size_mib = ceiling_bytes / MIB
    for below_mib, base_mib, part in _STEPS:
        if size_mib < below_mib:
            return int((base_mib + size_mib / part) * MIB)
    return int((488 + size_mib / 32) * MIB)


def floor_bytes(guest: Guest) -> int:
    """A guest's floor: the operator's, else the default one; never above its ceiling."""
    floor = default_floor_bytes(guest.ceiling_bytes) if guest.floor_bytes is None else guest.floor_bytes
    return min(floor, guest.ceiling_bytes)


def has_swap(guest: Guest, needed_bytes: int) -> bool:
    """Whether the guest can page out `needed_bytes` at all. Who does not say has none: balloon drivers do not say."""
    stats = guest.stats
    return stats is not None and stats.swap_free_bytes is not None and stats.swap_free_bytes >= needed_bytes
