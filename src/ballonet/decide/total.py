"""Whether a guest's MemTotal follows its balloon, and what it kept at the moment of which it speaks.

Linux takes each page of a balloon off MemTotal (drivers/virtio/virtio_balloon.c, adjust_managed_page_count), but not with
deflate-on-oom; Windows and vmmemctl never do. There, a balloon that grows looks like a program that does, until one knows.
"""

from typing import Final

from msgspec.structs import replace

from ballonet.decide.memory import GuestMemory
from ballonet.model.snapshot import Guest
from ballonet.model.units import MIB

REST_BYTES: Final = 2 * MIB
"""A balloon that is this near to what was asked is at rest: drivers move in steps of 1 MiB."""
FIXED_BYTES: Final = 16 * MIB
"""MemTotal that has not moved when the balloon has moved by this will not."""
DOUBT: Final = 0.25
"""Where MemTotal is fixed: of what its balloon moved between two statistics, that may be of another moment than they are."""


def with_total(old: GuestMemory, keep_bytes: int, total_bytes: int) -> GuestMemory:
    """What a fresh MemTotal shows. It is younger than what the guest kept at the last tick."""
    if not old.use.total_bytes:
        # More than it keeps can only be where the balloon is not counted.
        follows = False if total_bytes > keep_bytes + REST_BYTES else None
        return replace(old, use=replace(old.use, total_bytes=total_bytes, total_keep_bytes=keep_bytes, total_follows=follows))
    if not -REST_BYTES <= total_bytes - old.use.total_bytes <= REST_BYTES:
        return replace(old, use=replace(old.use, total_bytes=total_bytes, total_keep_bytes=keep_bytes, total_follows=True))
    before = old.motion.keep_bytes
    if before is None or old.use.total_follows is False or -FIXED_BYTES <= before - old.use.total_keep_bytes <= FIXED_BYTES:
        return old
    return replace(old, use=replace(old.use, total_follows=False))


def unseen_bytes(old: GuestMemory, keep_bytes: int, total_bytes: int) -> int:
    """What the guest keeps beyond MemTotal; negative where MemTotal is fixed.

    While a balloon moves the two are of different moments, so the last value at rest stands: an error of a tenth of a second
    would be 100 MiB.
    """
    unseen, before, asked = old.use.unseen_bytes, old.motion.keep_bytes, old.motion.asked_bytes
    if unseen is None:
        return keep_bytes - total_bytes
    is_resting = before is None or -REST_BYTES < keep_bytes - before < REST_BYTES
    is_there = asked is None or -REST_BYTES < keep_bytes - asked < REST_BYTES
    return keep_bytes - total_bytes if is_resting and is_there else unseen


def kept_then(old: GuestMemory, guest: Guest, keep_bytes: int, now: float) -> int:
    """What it kept when its statistics were taken, as if its balloon moved evenly between ticks, and not before a command."""
    if old.motion.keep_bytes is None or old.motion.keep_bytes == keep_bytes == old.motion.kept_bytes:
        return keep_bytes
    at, until, since = now - (guest.stats_age_s or 0.0), now - guest.keep_age_s, max(old.motion.seen_at, old.motion.commanded_at)
    if at >= since:
        return _between(old.motion.keep_bytes, keep_bytes, (at - since) / max(1e-3, until - since))
    return _between(
        old.motion.kept_bytes,
        old.motion.keep_bytes,
        (at - old.motion.kept_at) / max(1e-3, old.motion.seen_at - old.motion.kept_at),
    )


def doubt_bytes(old: GuestMemory, keep_bytes: int) -> float:
    """Of what a guest seems to have taken since it spoke last: what may have been its balloon."""
    if old.use.total_follows:
        return 0.0
    return abs(keep_bytes - old.use.spoke_keep_bytes) * (1.0 if old.use.total_follows is None else DOUBT)


def _between(first: int, last: int, part: float) -> int:
    return int(first + (last - first) * max(0.0, min(1.0, part)))
