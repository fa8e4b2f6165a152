"""R5: feedback beats estimate. A guest that suffers while its balloon grows gets memory back, and is left in peace.

Signs: it pages, out or in, or its balloon stands still on the way (the driver finds no page to reserve). Overdriver
(VEE'11) and TMO (ASPLOS'22) act on what guests feel, not on what was computed; TMO's Senpai gives back at once and
entirely what it took.
"""

from typing import Final

from msgspec.structs import replace

from ballonet.decide.memory import GuestMemory
from ballonet.model.limits import Limits
from ballonet.model.units import MIB

AFTER_S: Final = 3.0
"""So long after it was asked to give, trouble is taken for a consequence."""
PAGING_PER_S: Final = MIB
"""Above this rate of paging, in or out, it suffers: 256 pages a second."""
LAG_S: Final = 1.5
"""A balloon that has not moved for so long finds nothing to take: it moves 1 GiB a second when it can."""
COOL_S: Final = 4.0
LONGEST_COOL_S: Final = 240.0
FORGET_S: Final = 600.0
"""After so long without trouble the back-off starts anew."""


def judge(memory: GuestMemory, keep_bytes: int, limits: Limits, now: float) -> GuestMemory:
    """Whether a guest suffers from what it was asked for; then it is to be given back what was taken of late."""
    if now - memory.down_at > AFTER_S or now < memory.cool_until or not limits.has("R5"):
        return memory
    pages = max(memory.swap_out_per_s, memory.swap_in_per_s) > PAGING_PER_S and memory.sampled_at > memory.down_at
    asked = memory.asked_bytes
    # One that never moved is stuck (R7); one that moved and stopped has nothing left to give.
    has_given = memory.down_from_bytes - keep_bytes > MIB
    lags = has_given and asked is not None and asked < keep_bytes - MIB and now - memory.moved_at > LAG_S
    if not pages and not lags:
        return memory
    cool_s = COOL_S if now - memory.cool_until > FORGET_S else min(LONGEST_COOL_S, 2 * max(COOL_S / 2, memory.cool_s))
    back = max(keep_bytes, memory.down_from_bytes) if pages else keep_bytes
    return replace(memory, cool_until=now + cool_s, cool_s=cool_s, cool_bytes=back)
