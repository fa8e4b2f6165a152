"""From what guests need to the bounds of Hyper-V's own loop: minimum, maximum, buffer and priority (Set-VMMemory).

Hyper-V gives each guest its demand and a buffer on top while there is memory, and takes from who has most to spare when there is
not. So the buffer is what ballonet's margin is there. Minimum and maximum are a ratchet while a guest runs: the one only falls,
the other only rises, so both move in steps and never without need (Microsoft, Set-VMMemory; Hyper-V Dynamic Memory Overview).
"""

from collections.abc import Mapping
from typing import Final

from ballonet.model.knobs import BUFFER_PERCENT, PRIORITY, Bounds, Knobs
from ballonet.model.plan import Decision, Plan
from ballonet.model.snapshot import NORMAL_SHARES, Guest, Snapshot
from ballonet.model.units import MIB

GRAIN_BYTES: Final = 128 * MIB
"""Hyper-V hot-adds to Linux in blocks of this; other sizes can fail (Microsoft, Best Practices for running Linux on Hyper-V)."""
MOST_BUFFER_PERCENT: Final = 100
"""More for one guest is too little for the others: simulated hosts were worse for it (docs/decisions/0013)."""
BUFFER_STEP_PERCENT: Final = 10
"""Less of a change is not sent: each is a job at the host, and an entry in its event log."""
NORMAL_PRIORITY: Final = 50
"""Hyper-V's default, for our normal shares."""
RATCHET_SHARE: Final = 0.125
"""Of a guest, in one step."""
NEAR_SHARE: Final = 0.9
"""Of its maximum, from which on a guest is near it."""


def changes(
    plan: Plan, snapshot: Snapshot, knobs: Mapping[str, Knobs], originals: Mapping[str, Knobs]
) -> list[tuple[str, Bounds]]:
    """What is worth to be set, who gives first. Nobody who is only watched, left alone, or of whom nothing new is known."""
    found = []
    for guest, one in zip(snapshot.guests, plan.guests, strict=True):
        old = knobs.get(guest.name)
        if not isinstance(old, Bounds) or not one.is_steered(guest):
            continue
        before = originals.get(guest.name, old)
        wish = _wish(guest, one, old, before if isinstance(before, Bounds) else old, is_short=plan.host_state != "high")
        if is_worth(old, wish):
            found.append((wish.buffer_percent - old.buffer_percent, guest.name, wish))
    return [(name, wish) for _, name, wish in sorted(found, key=lambda each: each[:2])]


def is_worth(old: Bounds, new: Bounds) -> bool:
    """Whether a change is large enough to be sent."""
    is_ratchet = (new.minimum_bytes, new.maximum_bytes) != (old.minimum_bytes, old.maximum_bytes)
    return is_ratchet or new.priority != old.priority or abs(new.buffer_percent - old.buffer_percent) >= BUFFER_STEP_PERCENT


def _wish(guest: Guest, one: Decision, old: Bounds, before: Bounds, *, is_short: bool) -> Bounds:
    return Bounds(
        minimum_bytes=_minimum(guest, one, old) if is_short else old.minimum_bytes,
        maximum_bytes=_maximum(guest, one, old),
        buffer_percent=_buffer(guest, one, before.buffer_percent),
        priority=_priority(guest, before),
    )


def _priority(guest: Guest, before: Bounds) -> int:
    """The operator's weight; what somebody set at the host where it is the normal one."""
    if guest.shares == NORMAL_SHARES:
        return before.priority
    return _within(PRIORITY, NORMAL_PRIORITY * guest.shares / NORMAL_SHARES)


def _minimum(guest: Guest, one: Decision, old: Bounds) -> int:
    """Falls only, while the host is short and the guest needs less: to its need, its floor or guarantee at the lowest."""
    least = max(one.floor_bytes, guest.guaranteed_bytes, one.need_bytes or 0)
    step = old.minimum_bytes - int(RATCHET_SHARE * guest.ceiling_bytes)
    return min(old.minimum_bytes, _up(max(least, step)))


def _maximum(guest: Guest, one: Decision, old: Bounds) -> int:
    """Rises only, to what the operator lets it have, when it needs nearly all that it may have now."""
    most = guest.grows_to_bytes or 0
    if most <= old.maximum_bytes or (one.need_bytes or 0) < NEAR_SHARE * old.maximum_bytes:
        return old.maximum_bytes
    step = max(GRAIN_BYTES, _up(int(RATCHET_SHARE * old.maximum_bytes)))
    return old.maximum_bytes + min(step, (most - old.maximum_bytes) // GRAIN_BYTES * GRAIN_BYTES)


def _buffer(guest: Guest, one: Decision, before_percent: int) -> int:
    """So much that demand and buffer are what it needs; never less than the operator's. A guarantee is kept by it too."""
    used = max(1, one.used_bytes or 1)
    need, firm = (100 * (size / used - 1) for size in (one.need_bytes or 0, guest.guaranteed_bytes))
    return _within(BUFFER_PERCENT, max(before_percent, firm, min(MOST_BUFFER_PERCENT, need)))


def _within(bounds: tuple[int, int], value: float) -> int:
    return max(bounds[0], min(bounds[1], round(value)))


def _up(size: int) -> int:
    return -(-size // GRAIN_BYTES) * GRAIN_BYTES
