"""R7: guests whose balloon does not move are parked. Nobody else's memory may swing because of one guest.

Squeezed (Xen) calls a domain stuck after 5 s without progress, and judges it anew on every run; a driver that cannot
reach a value retries five times a second for ever (virtio_balloon.c, fill_balloon), so the value is pulled back.
"""

from typing import Final

from msgspec.structs import replace

from ballonet.decide import feedback
from ballonet.decide.memory import GuestMemory
from ballonet.decide.pace import SPEED_SHARE, portion_bytes
from ballonet.decide.total import REST_BYTES
from ballonet.model.limits import Limits
from ballonet.model.units import MIB

STILL_S: Final = 5.0
MOVE_BYTES: Final = MIB
"""Drivers move 1 MiB a request."""
SPEED_PART: Final = 0.3
"""Of a new measure of speed in the average."""
BACKOFF_S: Final = 10.0
LONGEST_BACKOFF_S: Final = 300.0


def judge(old: GuestMemory, keep_bytes: int, ceiling_bytes: int, limits: Limits, now: float) -> GuestMemory:
    """Whether a guest moves as asked: notes its moves, parks it when it stands still, and lets it try again."""
    if (
        keep_bytes == old.motion.keep_bytes
        and now - old.motion.seen_at < STILL_S
        and not (old.motion.parked_sign or old.motion.is_astray or is_under_way(old, keep_bytes))
    ):
        return old  # at rest, as most guests are at most ticks
    has_moved = abs(keep_bytes - old.motion.mark_bytes) >= MOVE_BYTES
    motion = replace(
        old.motion,
        took_per_s=_took_per_s(old, keep_bytes, SPEED_SHARE * ceiling_bytes, now),
        seen_at=now,
        keep_bytes=keep_bytes,
        kept_bytes=keep_bytes if old.motion.keep_bytes is None else old.motion.keep_bytes,
        kept_at=max(old.motion.seen_at, old.motion.commanded_at),
        is_astray=_is_astray(old, keep_bytes),
        mark_bytes=keep_bytes if has_moved else old.motion.mark_bytes,
        moved_at=now if has_moved else old.motion.moved_at,
    )
    memory = replace(old, motion=motion)
    if memory.motion.parked_sign:
        is_over = now >= memory.motion.parked_until or _has_freed(memory, ceiling_bytes)
        return replace(memory, motion=replace(motion, parked_sign=0, stuck_bytes=0, moved_at=now)) if is_over else memory
    if not is_under_way(memory, keep_bytes):
        return replace(memory, motion=replace(motion, backoff_s=0.0)) if has_moved and motion.backoff_s else memory
    if now - memory.motion.moved_at < STILL_S or not limits.has("R7"):
        return memory
    backoff_s = min(max(BACKOFF_S, 2 * memory.motion.backoff_s), LONGEST_BACKOFF_S)
    sign = -1 if (memory.motion.asked_bytes or 0) < keep_bytes else 1
    stuck_bytes = keep_bytes if sign < 0 else 0
    parked = replace(
        motion,
        parked_sign=sign,
        parked_until=now + backoff_s,
        backoff_s=backoff_s,
        stuck_bytes=stuck_bytes,
        stuck_used_bytes=memory.use.used_bytes,
    )
    return replace(memory, motion=parked)


def _has_freed(memory: GuestMemory, ceiling_bytes: int) -> bool:
    """Whether a guest that could not give, since it used what it kept, uses less by a portion by now: then it can."""
    return memory.motion.parked_sign < 0 and memory.motion.stuck_used_bytes - memory.use.used_bytes > portion_bytes(ceiling_bytes)


def _took_per_s(old: GuestMemory, keep_bytes: int, assumed_per_s: float, now: float) -> float:
    """The speed of its balloon while it takes, over several looks: one may see a balloon that has just begun. One that has
    arrived had time to spare, so it was at least as fast: a balloon that is asked for little is not slow.
    """
    taken, dt = (old.motion.keep_bytes or 0) - keep_bytes, now - old.motion.seen_at
    if taken < MOVE_BYTES or not 0 < dt <= STILL_S or old.motion.asked_bytes is None or old.motion.asked_bytes > keep_bytes:
        return old.motion.took_per_s
    if not is_under_way(old, keep_bytes):
        return max(old.motion.took_per_s, taken / dt) if old.motion.took_per_s or taken / dt > assumed_per_s else 0.0
    return old.motion.took_per_s + (taken / dt - old.motion.took_per_s) * SPEED_PART if old.motion.took_per_s else taken / dt


def _is_astray(old: GuestMemory, keep_bytes: int) -> bool:
    if old.motion.asked_bytes is None or old.motion.keep_bytes is None:
        return False
    return abs(old.motion.asked_bytes - keep_bytes) > abs(old.motion.asked_bytes - old.motion.keep_bytes) + REST_BYTES


def is_under_way(memory: GuestMemory, keep_bytes: int) -> bool:
    """Whether the guest was asked to keep something else than it keeps now."""
    return memory.motion.asked_bytes is not None and abs(memory.motion.asked_bytes - keep_bytes) > REST_BYTES


def asks_in_vain(memory: GuestMemory, keep_bytes: int) -> bool:
    """Whether a parked guest is still asked for what it could not do."""
    way = (memory.motion.asked_bytes or 0) - keep_bytes
    return memory.motion.parked_sign * way > 0 and is_under_way(memory, keep_bytes)


def commanded(memory: GuestMemory, keep_bytes: int, now: float) -> GuestMemory:
    """After a command: the clock of standing still starts anew only after a rest, or when the direction changes."""
    here = memory.motion.keep_bytes or 0
    asked = memory.motion.asked_bytes
    goes_on = asked is not None and is_under_way(memory, here) and (asked < here) == (keep_bytes < here)
    moved_at = memory.motion.moved_at if goes_on else now
    motion = replace(memory.motion, asked_bytes=keep_bytes, commanded_at=now, moved_at=moved_at)
    return replace(memory, motion=motion, peace=memory.peace if keep_bytes >= here else feedback.asked(memory, here, now))
