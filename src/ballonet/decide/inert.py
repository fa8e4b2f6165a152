"""R13, the second line, which needs no list: a balloon that takes and leaves what its guest occupies where it was is inert.

QEMU discards what a balloon hands over (qemu_balloon_inhibit and ram_block_discard_disable in its source, VFIO, vDPA, locked,
huge and encrypted memory): then the guest loses memory and the host gains none. A balloon that works cannot do that: nobody
occupies more than it keeps, but for QEMU's own.
"""

from typing import Final

from msgspec.structs import replace

from ballonet.decide.memory import NO_DOUBT, GuestMemory
from ballonet.decide.pace import portion_bytes
from ballonet.model.units import MIB

OWN_BYTES: Final = 96 * MIB
"""What a QEMU has besides RAM and device memory, where only the process as a whole is measured: 30 to 90 MiB."""
LEAST_BYTES: Final = 32 * MIB
"""A balloon that has taken less than this, or than a portion of the ceiling, proves nothing."""
GAIN_SHARE: Final = 0.5
"""Of what was taken: when less of it came back to the host, the balloon is in doubt."""
DOUBT_S: Final = 2.0
"""How long it may be: a host sees freed pages at once (MADV_DONTNEED), a guest that fills others meanwhile within its limit."""
ALONE_S: Final = 3600.0
LONGEST_ALONE_S: Final = 86400.0
"""It is tried again after the first, then after twice as long, up to the second: devices are unplugged and pins let go."""


def is_proved(memory: GuestMemory, occupied_bytes: int, keep_bytes: int) -> bool:
    """Whether there is nothing to judge: it occupies no more than it keeps, as at the last look. So do most at most ticks."""
    return (
        occupied_bytes <= keep_bytes + OWN_BYTES
        and memory.proof.proof_keep_bytes == keep_bytes
        and memory.proof.proof_excess_bytes == 0
        and memory.proof.doubt_at == NO_DOUBT
    )


def judge(memory: GuestMemory, occupied_bytes: int | None, keep_bytes: int, ceiling_bytes: int, now: float) -> GuestMemory:
    """Whether what a guest's balloon took has come back to the host; if not, it is to be given back and left alone."""
    if occupied_bytes is None or now < memory.proof.inert_until:
        return memory
    excess = occupied_bytes - keep_bytes - OWN_BYTES
    excess = 0 if excess < 0 else excess  # written out: a thousand guests are judged in a millisecond
    taken = memory.proof.proof_keep_bytes - keep_bytes
    stayed = excess - memory.proof.proof_excess_bytes
    if taken <= 0 or (stayed <= LEAST_BYTES <= taken and stayed < GAIN_SHARE * taken):  # it gave, or what it took came back
        return _proved(memory, keep_bytes, excess)
    if stayed < GAIN_SHARE * taken:
        return memory if memory.proof.doubt_at == NO_DOUBT else replace(memory, proof=replace(memory.proof, doubt_at=NO_DOUBT))
    if taken < max(LEAST_BYTES, portion_bytes(ceiling_bytes)):
        return memory
    if memory.proof.doubt_at > now:
        return replace(memory, proof=replace(memory.proof, doubt_at=now))
    return _left_alone(memory, now) if now - memory.proof.doubt_at >= DOUBT_S else memory


def _proved(memory: GuestMemory, keep_bytes: int, excess: int) -> GuestMemory:
    """What is taken from here on is the next proof."""
    if (keep_bytes, excess, NO_DOUBT) == (memory.proof.proof_keep_bytes, memory.proof.proof_excess_bytes, memory.proof.doubt_at):
        return memory
    return replace(memory, proof=replace(memory.proof, proof_keep_bytes=keep_bytes, proof_excess_bytes=excess, doubt_at=NO_DOUBT))


def _left_alone(memory: GuestMemory, now: float) -> GuestMemory:
    alone_s = min(LONGEST_ALONE_S, max(ALONE_S, 2 * memory.proof.inert_s))
    return replace(
        memory,
        proof=replace(
            memory.proof,
            inert_until=now + alone_s,
            inert_s=alone_s,
            inert_keep_bytes=memory.proof.proof_keep_bytes,
            doubt_at=NO_DOUBT,
        ),
    )


def is_doubted(memory: GuestMemory, now: float) -> bool:
    """Whether no more is to be taken until it is known that what was taken came back."""
    return memory.proof.doubt_at <= now
