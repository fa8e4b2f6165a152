"""R13, the second line, which needs no list: a balloon that takes and leaves what its guest occupies where it was is inert.

QEMU discards what a balloon hands over (qemu_balloon_inhibit and ram_block_discard_disable in its source, VFIO, vDPA, locked,
huge and encrypted memory): then the guest loses memory and the host gains none. A balloon that works cannot do that: nobody
occupies more than it keeps, but for QEMU's own.
"""

from typing import Final

from msgspec.structs import replace

from ballonet.decide.memory import GuestMemory
from ballonet.decide.pace import PORTION_SHARE
from ballonet.model.snapshot import Guest
from ballonet.model.units import MIB

LEAST_BYTES: Final = 32 * MIB
"""A balloon that has taken less than this, or than a portion of the ceiling, proves nothing."""
GAIN_SHARE: Final = 0.5
"""Of what was taken: when less of it came back to the host, the balloon is in doubt."""
DOUBT_S: Final = 2.0
"""How long it may be: a host sees freed pages at once (MADV_DONTNEED), a guest that fills others meanwhile within its limit."""
ALONE_S: Final = 3600.0
LONGEST_ALONE_S: Final = 86400.0
"""It is tried again after the first, then after twice as long, up to the second: devices are unplugged and pins let go."""


def judge(memory: GuestMemory, guest: Guest, keep_bytes: int, now: float) -> GuestMemory:
    """Whether what a guest's balloon took has come back to the host; if not, it is to be given back and left alone."""
    occupied = guest.occupied_bytes
    if occupied is None or now < memory.inert_until:
        return memory
    excess = occupied - keep_bytes if occupied > keep_bytes else 0
    taken = memory.proof_keep_bytes - keep_bytes
    if taken <= 0:
        if taken == 0 and excess == memory.proof_excess_bytes:
            return memory
        return replace(memory, proof_keep_bytes=keep_bytes, proof_excess_bytes=excess, doubt_at=1e18)
    kept_back = excess - memory.proof_excess_bytes
    if kept_back < GAIN_SHARE * taken:
        if kept_back <= LEAST_BYTES and taken >= LEAST_BYTES:  # it works
            return replace(memory, proof_keep_bytes=keep_bytes, proof_excess_bytes=excess, doubt_at=1e18)
        return memory if memory.doubt_at > now else replace(memory, doubt_at=1e18)
    if taken < max(LEAST_BYTES, PORTION_SHARE * guest.ceiling_bytes):
        return memory
    if memory.doubt_at > now:
        return replace(memory, doubt_at=now)
    if now - memory.doubt_at < DOUBT_S:
        return memory
    alone_s = min(LONGEST_ALONE_S, max(ALONE_S, 2 * memory.inert_s))
    return replace(memory, inert_until=now + alone_s, inert_s=alone_s, inert_keep_bytes=memory.proof_keep_bytes, doubt_at=1e18)


def is_doubted(memory: GuestMemory, now: float) -> bool:
    """Whether no more is to be taken until it is known that what was taken came back."""
    return memory.doubt_at <= now
