"""From what guests need to the bounds of Hyper-V's own loop: minimum, maximum, buffer and priority (Set-VMMemory).

Hyper-V gives each guest its demand and a buffer on top while there is memory, and takes from who has most to spare when there is
not. It follows demand and never runs ahead of it: so who rises has a larger buffer while it does, and others the operator's.
Minimum and maximum are a ratchet while a guest runs: the one only falls, the other only rises, so both move in steps and never
without need (Microsoft, Set-VMMemory; Hyper-V Dynamic Memory Overview).
"""

from typing import Final

from ballonet.decide.seat import Seat
from ballonet.model.knobs import BUFFER_PERCENT, PRIORITY, Bounds
from ballonet.model.snapshot import NORMAL_SHARES, Guest
from ballonet.model.units import MIB

GRAIN_BYTES: Final = 128 * MIB
"""Hyper-V hot-adds to Linux in blocks of this; other sizes can fail (Microsoft, Best Practices for running Linux on Hyper-V)."""
RISING_PERCENT: Final = 150
"""The buffer of one that rises: the loop looks each second and moves at most an eighth of a guest, so it must want early."""
RISING_SHARE_PER_S: Final = 0.01
"""Of the ceiling: who grows faster rises. Others have the buffer that the operator gave them: what they have on top is not there
for those that rise, and less than that cost more than it gave (docs/decisions/0013).
"""
BUFFER_STEP_PERCENT: Final = 10
"""Less of a change is not sent: each is a job at the host, and an entry in its event log."""
NORMAL_PRIORITY: Final = 50
"""Hyper-V's default, for our normal shares."""
RATCHET_SHARE: Final = 0.125
"""Of a guest, in one step."""
NEAR_SHARE: Final = 0.9
"""Of its maximum, from which on a guest is near it."""


def is_rising(one: Seat) -> bool:
    """Whether a guest grows so fast that its buffer would be used up."""
    return one.memory.use.growth_per_s > RISING_SHARE_PER_S * one.guest.ceiling_bytes


def wish(one: Seat, old: Bounds, host_state: str) -> Bounds:
    """What Hyper-V's loop shall go by for a guest.

    Args:
        one: its place.
        old: what it goes by now.
        host_state: of this tick.
    """
    guest, (_, need) = one.guest, one.needs_bytes or (0, 0)
    before = guest.knobs_before if isinstance(guest.knobs_before, Bounds) else old
    return Bounds(
        minimum_bytes=_minimum(one, need, old) if host_state != "high" else old.minimum_bytes,
        maximum_bytes=_maximum(guest, need, old),
        buffer_percent=_buffer(one, before.buffer_percent),
        priority=_priority(guest, before),
    )


def is_worth(old: Bounds, new: Bounds) -> bool:
    """Whether a change is large enough to be sent."""
    is_ratchet = (new.minimum_bytes, new.maximum_bytes) != (old.minimum_bytes, old.maximum_bytes)
    return is_ratchet or new.priority != old.priority or abs(new.buffer_percent - old.buffer_percent) >= BUFFER_STEP_PERCENT


def _priority(guest: Guest, before: Bounds) -> int:
    """The operator's weight; where that is the normal one, what was set at the host."""
    if guest.shares == NORMAL_SHARES:
        return before.priority
    return _within(PRIORITY, NORMAL_PRIORITY * guest.shares / NORMAL_SHARES)


def _minimum(one: Seat, need: int, old: Bounds) -> int:
    """Falls only, while the host is short and the guest needs less: to its need, its floor or guarantee at the lowest."""
    least = max(one.floor_bytes, one.guest.guaranteed_bytes, need)
    step = old.minimum_bytes - int(RATCHET_SHARE * one.guest.ceiling_bytes)
    return min(old.minimum_bytes, _up(max(least, step)))


def _maximum(guest: Guest, need: int, old: Bounds) -> int:
    """Rises only, to what the operator lets it have, when it needs nearly all that it may have now."""
    most = guest.grows_to_bytes or 0
    if most <= old.maximum_bytes or need < NEAR_SHARE * old.maximum_bytes:
        return old.maximum_bytes
    step = max(GRAIN_BYTES, _up(int(RATCHET_SHARE * old.maximum_bytes)))
    return old.maximum_bytes + min(step, (most - old.maximum_bytes) // GRAIN_BYTES * GRAIN_BYTES)


def _buffer(one: Seat, before_percent: int) -> int:
    """The operator's; a larger one while the guest rises. A guarantee is kept by it too."""
    firm = 100 * (one.guest.guaranteed_bytes / max(1, one.memory.use.used_bytes) - 1)
    return _within(BUFFER_PERCENT, max(before_percent, firm, RISING_PERCENT if is_rising(one) else 0))


def _within(bounds: tuple[int, int], value: float) -> int:
    return max(bounds[0], min(bounds[1], round(value)))


def _up(size: int) -> int:
    return -(-size // GRAIN_BYTES) * GRAIN_BYTES
