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
        keep_bytes == old.keep_bytes
        and now - old.seen_at < STILL_S
        and not (old.parked_sign or old.is_astray or is_under_way(old, keep_bytes))
    ):
        return old  # at rest, as most guests are at most ticks
    has_moved = abs(keep_bytes - old.mark_bytes) >= MOVE_BYTES
    memory = replace(
        old,
        took_per_s=_took_per_s(old, keep_bytes, SPEED_SHARE * ceiling_bytes, now),
        seen_at=now,
        keep_bytes=keep_bytes,
        kept_bytes=keep_bytes if old.keep_bytes is None else old.keep_bytes,
        kept_at=max(old.seen_at, old.commanded_at),
        is_astray=_is_astray(old, keep_bytes),
        mark_bytes=keep_bytes if has_moved else old.mark_bytes,
        moved_at=now if has_moved else old.moved_at,
    )
    if memory.parked_sign:
        is_over = now >= memory.parked_until or _has_freed(memory, ceiling_bytes)
        return replace(memory, parked_sign=0, stuck_bytes=0, moved_at=now) if is_over else memory
    if not is_under_way(memory, keep_bytes):
        return replace(memory, backoff_s=0.0) if has_moved and memory.backoff_s else memory
    if now - memory.moved_at < STILL_S or not limits.has("R7"):
        return memory
    backoff_s = min(max(BACKOFF_S, 2 * memory.backoff_s), LONGEST_BACKOFF_S)
    sign = -1 if (memory.asked_bytes or 0) < keep_bytes else 1
    stuck_bytes = keep_bytes if sign < 0 else 0
    return replace(
        memory,
        parked_sign=sign,
        parked_until=now + backoff_s,
        backoff_s=backoff_s,
        stuck_bytes=stuck_bytes,
        stuck_used_bytes=memory.used_bytes,
    )


def _has_freed(memory: GuestMemory, ceiling_bytes: int) -> bool:
    """Whether a guest that could not give, since it used what it kept, uses less by a portion by now: then it can."""
    return memory.parked_sign < 0 and memory.stuck_used_bytes - memory.used_bytes > portion_bytes(ceiling_bytes)


def _took_per_s(old: GuestMemory, keep_bytes: int, assumed_per_s: float, now: float) -> float:
    """The speed of its balloon while it takes, over several looks: one may see a balloon that has just begun. One that has
    arrived had time to spare, so it was at least as fast: a balloon that is asked for little is not slow.
    """
    taken, dt = (old.keep_bytes or 0) - keep_bytes, now - old.seen_at
    if taken < MOVE_BYTES or not 0 < dt <= STILL_S or old.asked_bytes is None or old.asked_bytes > keep_bytes:
        return old.took_per_s
    if not is_under_way(old, keep_bytes):
        return max(old.took_per_s, taken / dt) if old.took_per_s or taken / dt > assumed_per_s else 0.0
    return old.took_per_s + (taken / dt - old.took_per_s) * SPEED_PART if old.took_per_s else taken / dt


def _is_astray(old: GuestMemory, keep_bytes: int) -> bool:
    if old.asked_bytes is None or old.keep_bytes is None:
        return False
    return abs(old.asked_bytes - keep_bytes) > abs(old.asked_bytes - old.keep_bytes) + REST_BYTES


def is_under_way(memory: GuestMemory, keep_bytes: int) -> bool:
    """Whether the guest was asked to keep something else than it keeps now."""
    return memory.asked_bytes is not None and abs(memory.asked_bytes - keep_bytes) > REST_BYTES


def asks_in_vain(memory: GuestMemory, keep_bytes: int) -> bool:
    """Whether a parked guest is still asked for what it could not do."""
    way = (memory.asked_bytes or 0) - keep_bytes
    return memory.parked_sign * way > 0 and is_under_way(memory, keep_bytes)


def commanded(memory: GuestMemory, keep_bytes: int, now: float) -> GuestMemory:
    """After a command: the clock of standing still starts anew only after a rest, or when the direction changes."""
    here = memory.keep_bytes or 0
    asked = memory.asked_bytes
    goes_on = asked is not None and is_under_way(memory, here) and (asked < here) == (keep_bytes < here)
    moved_at = memory.moved_at if goes_on else now
    if keep_bytes >= here:
        return replace(memory, asked_bytes=keep_bytes, commanded_at=now, moved_at=moved_at)
    is_new = now - memory.down_at > feedback.AFTER_S
    from_bytes = here if is_new else max(here, memory.down_from_bytes)
    return replace(memory, asked_bytes=keep_bytes, commanded_at=now, moved_at=moved_at, down_at=now, down_from_bytes=from_bytes)
