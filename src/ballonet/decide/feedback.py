"""R5: feedback beats estimate. A guest that suffers while its balloon grows gets memory back, and is left in peace.

The sign is paging: out, or in without room for what is out. A balloon that stands still on its way is R7's (`stuck.py`):
two rules at one sign would ask again sooner than the one that backs off. Overdriver (VEE'11) and TMO (ASPLOS'22) act on
what guests feel, not on what was computed; TMO's Senpai gives back at once and entirely what it took.
"""

from typing import Final

from msgspec.structs import replace

from ballonet.decide.estimate import MARGIN_SHARE, has_room_for_swapped
from ballonet.decide.memory import GuestMemory, Peace
from ballonet.model.limits import Limits
from ballonet.model.units import MIB

AFTER_S: Final = 3.0
"""Trouble within this time after a guest was asked to give is taken for a consequence."""
PAGING_PER_S: Final = MIB
"""Above this rate of paging, in or out, it suffers: 256 pages a second."""
STALL_SHARE: Final = 0.1
"""Of the time with all of its tasks waiting for memory (PSI full, from its agent): above it suffers, whatever it pages."""
COOL_S: Final = 4.0
LONGEST_COOL_S: Final = 240.0
FORGET_S: Final = 600.0
"""After this long without trouble the back-off starts anew."""


def judge(memory: GuestMemory, keep_bytes: int, ceiling_bytes: int, limits: Limits, now: float) -> GuestMemory:
    """Whether a guest suffers from what it was asked for; then it is to be given back what was taken recently."""
    use, peace = memory.use, memory.peace
    if now - peace.down_at > AFTER_S or now < peace.cool_until or not limits.has("R5"):
        return memory
    has_room = has_room_for_swapped(use.used_bytes, use.swapped_bytes, use.swap_in_per_s, keep_bytes, ceiling_bytes)
    paging_per_s = max(use.swap_out_per_s, 0.0 if has_room else use.swap_in_per_s)
    is_ample = keep_bytes - use.used_bytes > 2 * MARGIN_SHARE * ceiling_bytes
    suffers = paging_per_s > PAGING_PER_S or (use.stall_share > STALL_SHARE and not (has_room and is_ample))
    if not (suffers and use.sampled_at > peace.down_at):
        return memory
    cool_s = COOL_S if now - peace.cool_until > FORGET_S else min(LONGEST_COOL_S, 2 * max(COOL_S / 2, peace.cool_s))
    back = max(keep_bytes, min(peace.down_from_bytes, _missed_bytes(memory, keep_bytes, ceiling_bytes)))
    return replace(
        memory,
        peace=replace(memory.peace, cool_until=now + cool_s, cool_s=cool_s, cool_bytes=back, cool_used_bytes=use.used_bytes),
    )


def _missed_bytes(memory: GuestMemory, keep_bytes: int, ceiling_bytes: int) -> int:
    """The most that explains why a guest pages: what it uses and has paged out, and twice its margin. All that was taken, when it
    pages though by its own word it has room: that word is wrong.
    """
    margin = int(2 * MARGIN_SHARE * ceiling_bytes)
    has_room = keep_bytes - memory.use.used_bytes > margin
    return ceiling_bytes if has_room else memory.use.used_bytes + memory.use.swapped_bytes + margin


def is_cooling(memory: GuestMemory, ceiling_bytes: int, now: float) -> bool:
    """Whether a guest is left in peace: until its time is over, or it has freed memory of its own accord."""
    return now < memory.peace.cool_until and memory.use.used_bytes > memory.peace.cool_used_bytes - MARGIN_SHARE * ceiling_bytes


def asked(memory: GuestMemory, keep_bytes: int, now: float) -> Peace:
    """After a command to give, of a guest that kept `keep_bytes`: what it kept before recent commands is not forgotten."""
    is_new = now - memory.peace.down_at > AFTER_S
    from_bytes = keep_bytes if is_new else max(keep_bytes, memory.peace.down_from_bytes)
    return replace(memory.peace, down_at=now, down_from_bytes=from_bytes)
