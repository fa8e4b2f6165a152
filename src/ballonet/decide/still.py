"""Guests at rest: while a guest says the very same and nothing of it moves, its seat of the last tick is taken again.

That costs a fifth of a new one, for most guests at most ticks, and changes no decision: tests/unit/test_still.py decides random
worlds with and without it.
"""

from collections.abc import Mapping
from copy import copy

from msgspec.structs import replace

from ballonet.decide import leak, stuck
from ballonet.decide.estimate import LEAST_SAMPLE_S
from ballonet.decide.memory import GuestMemory
from ballonet.decide.seat import Seat
from ballonet.model.limits import Limits
from ballonet.model.plan import Reason
from ballonet.model.snapshot import Guest


def is_still(taken: Seat, old: GuestMemory) -> bool:
    """Whether nothing of a guest moves, and this look at it taught nothing: while it says the same, it needs the same.

    Args:
        taken: its new seat.
        old: what was remembered of it before.
    """
    memory = taken.memory
    if memory.use.sampled_at - old.use.sampled_at < LEAST_SAMPLE_S:
        return False  # what it says now came too soon after what it said before, or is older: it has not been taken yet
    use = memory.use
    return (
        taken.may_give
        and taken.may_take
        and memory.reread.counts.at < 0  # else what its disk does not read counts too, as time passes
        and not (use.growth_per_s or taken.cache_layers)
        and use.slow_bytes == use.used_bytes == use.said_bytes
        and not (use.swapped_bytes or use.learned_bytes or use.swap_in_per_s or use.swap_out_per_s or use.stall_share)
        and not (taken.is_cooling or taken.is_distressed or taken.is_under_way or memory.motion.is_astray)
        and memory == replace(old, use=replace(old.use, sampled_at=use.sampled_at))
    )


def again(seats: Mapping[str, Seat], guest: Guest, now: float) -> Seat | None:
    """The seat of a guest that said the very same at the last tick; None = make a new one.

    Args:
        seats: that were kept at the last tick, by guest.
        guest: as it is now.
        now: on the clock of `step`.
    """
    last = seats.get(guest.name)
    if last is None or last.guest is not guest or now - last.memory.motion.seen_at >= stuck.STILL_S:
        return None
    use = replace(last.memory.use, sampled_at=now - (guest.stats_age_s or 0.0))
    memory = replace(last.memory, use=use)
    if leak.follow(memory, guest.ceiling_bytes, now) is not memory:
        return None  # it has rested for so long that its rise is over
    return _anew(last, memory)


def _anew(seat: Seat, memory: GuestMemory) -> Seat:
    seat = copy(seat)
    seat.memory, seat.reason, seat.numbers = memory, Reason.CALM, None
    seat.is_short, seat.is_over, seat.rationed_by = False, False, None
    return seat


def kept(seats: list[Seat], memories: Mapping[str, GuestMemory]) -> dict[str, Seat]:
    """Those that can be taken again: nothing of the guest moves, and nothing was asked of it just now."""
    return {one.guest.name: one for one in seats if one.is_still and memories[one.guest.name] is one.memory}


def valid(seats: dict[str, Seat], under: Limits | None, limits: Limits) -> dict[str, Seat]:
    """Those that hold under these limits: what was kept under others does not."""
    return seats if under is limits else {}
