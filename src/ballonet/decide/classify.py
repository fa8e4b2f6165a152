"""Who sits at the table: which guest may give, which may take, and what each needs at the least.

R8 old news is no news; R13 leave alone what cannot be ballooned; R7 parked guests are counted at what they hold.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from ballonet.decide import estimate, feedback, stuck
from ballonet.decide.floor import floor_bytes, has_swap
from ballonet.decide.memory import GuestMemory
from ballonet.decide.seat import Seat
from ballonet.model.limits import Limits
from ballonet.model.plan import Reason
from ballonet.model.snapshot import Guest, Mode

OLD_INTERVALS: Final = 3
"""Statistics older than so many intervals are old (R8): one may be late, three are not."""


def seat(old: GuestMemory, guest: Guest, limits: Limits, now: float, rise_share_per_s: float = 0.0) -> Seat:
    """A guest's place at this tick's table, with all that was and is known of it, and how fast its like rises here."""
    memory = estimate.remember(old, guest, limits, now)
    keep = guest.keep_bytes
    if keep is None:
        held = max(guest.ceiling_bytes, guest.resident_bytes or 0)
        return _alone(Seat(guest, memory, keep_bytes=guest.ceiling_bytes, held_bytes=held), Reason.UNKNOWN, {})
    memory = feedback.judge(stuck.judge(memory, keep, limits, now), keep, guest.ceiling_bytes, limits, now)
    taken = Seat(guest, memory, keep_bytes=keep, held_bytes=_held_bytes(memory, guest, keep))
    taken.floor_bytes = floor_bytes(guest) if limits.has("R6") else 1
    _need(taken, limits, now, rise_share_per_s)
    taken.needs_bytes = taken.tight_bytes, taken.low_bytes
    _permit(taken, limits, now)
    if not taken.may_give:
        _bound(taken, max)
    if not taken.may_take:
        _bound(taken, min)
    taken.is_still = _is_still(taken)
    return taken


def seat_again(last: Seat, guest: Guest, now: float) -> Seat | None:
    """The place of a guest that said the very same at the last tick, and of which nothing moves; None = look again.

    A fifth of the cost of `seat`, for most guests at most ticks.
    """
    memory = last.memory
    if not last.is_still or last.guest is not guest or now - memory.seen_at >= stuck.STILL_S:
        return None
    return last.again(replace(memory, sampled_at=now - (guest.stats_age_s or 0.0)))


def _is_still(taken: Seat) -> bool:
    memory = taken.memory
    return (
        taken.may_give
        and taken.may_take
        and not memory.growth_per_s
        and memory.slow_bytes == memory.used_bytes
        and not (
            memory.swapped_bytes or memory.learned_bytes or memory.swap_in_per_s or memory.swap_out_per_s or memory.stall_share
        )
        and not (taken.is_cooling or taken.is_distressed or memory.is_astray)
        and not stuck.is_under_way(memory, taken.keep_bytes)
    )


def raw_seat(memory: GuestMemory, guest: Guest, limits: Limits, now: float) -> Seat:
    """A place at the table of a peer's policy: what the guest is and whom to leave alone, none of our own estimates."""
    keep = guest.keep_bytes
    if keep is None:
        return _alone(Seat(guest, memory, keep_bytes=guest.ceiling_bytes, held_bytes=guest.ceiling_bytes), Reason.UNKNOWN, {})
    if keep != memory.keep_bytes:
        memory = replace(memory, keep_bytes=keep, moved_at=now)
    held = max(keep, guest.resident_bytes or 0)
    taken = Seat(guest, memory, keep_bytes=keep, held_bytes=held, wish_bytes=keep, floor_bytes=floor_bytes(guest))
    taken.say(keep, Reason.PEER, peer="its policy", what="no word on it until the next round, it has", goal_bytes=keep)
    _permit(taken, limits, 0.0)
    return taken


def _bound(taken: Seat, by: Callable[[int, int], int]) -> None:
    """Who cannot move needs what it keeps, or no more."""
    keep = taken.keep_bytes
    taken.low_bytes, taken.near_bytes, taken.tight_bytes = (
        by(need, keep) for need in (taken.low_bytes, taken.near_bytes, taken.tight_bytes)
    )


def _held_bytes(memory: GuestMemory, guest: Guest, keep_bytes: int) -> int:
    """R4: what the guest may take without asking. Freed memory counts when the host sees it (R9)."""
    asked = memory.asked_bytes or 0
    return max(keep_bytes, guest.resident_bytes or 0, 0 if memory.parked_sign else asked)


def _need(taken: Seat, limits: Limits, now: float, rise_share_per_s: float) -> None:
    memory, ceiling = taken.memory, taken.guest.ceiling_bytes
    tight, near, low = estimate.needs(memory, ceiling, rise_share_per_s)
    least = taken.floor_bytes
    if memory.parked_sign < 0:
        # A balloon that could not grow has left its guest nothing to spare, whatever the guest's statistics say.
        least = max(least, memory.stuck_bytes + int(estimate.TIGHT_SHARE * ceiling))
    if feedback.is_cooling(memory, ceiling, now):
        taken.is_cooling = True
        least = max(least, memory.cool_bytes)
    least = least if least < ceiling else ceiling
    # Written out, not with min and max: a thousand guests are decided in 10 ms.
    tight = ceiling if tight > ceiling else tight if tight > least else least
    near = ceiling if near > ceiling else near if near > tight else tight
    low = ceiling if low > ceiling else low if low > tight else tight
    taken.tight_bytes, taken.near_bytes, taken.low_bytes = tight, near, low
    if now < memory.distress_until and limits.has("R1"):
        taken.is_distressed = not estimate.has_room_for_swapped(
            memory.used_bytes, memory.swapped_bytes, taken.keep_bytes, ceiling
        )
    # Who cannot page out must not be squeezed below what it uses, whoever is short (R6).
    if limits.has("R6") and not has_swap(taken.guest, memory.used_bytes):
        used = int(memory.used_bytes + estimate.TIGHT_SHARE * ceiling / 2)
        used = used if used < taken.keep_bytes else taken.keep_bytes
        if used > taken.floor_bytes:
            taken.floor_bytes = used if used < ceiling else ceiling


def _permit(taken: Seat, limits: Limits, now: float) -> None:
    guest, memory = taken.guest, taken.memory
    if limits.has("R13") and (guest.leave_alone or guest.is_migrating or not guest.can_balloon):
        why = guest.leave_alone or ("it is being migrated" if guest.is_migrating else "its balloon cannot be moved")
        _alone(taken, Reason.ALONE, {"why": why})
    elif guest.mode is Mode.OBSERVE:
        _alone(taken, Reason.OBSERVED, {"mode": guest.mode.value})
    elif memory.parked_sign:
        taken.may_give, taken.may_take = memory.parked_sign > 0, memory.parked_sign < 0
        taken.reason, taken.numbers = Reason.PARKED, {"wait_s": max(0.0, memory.parked_until - now)}
    elif limits.has("R8") and (guest.stats_age_s is None or guest.stats_age_s > OLD_INTERVALS * limits.interval_s):
        taken.may_give = taken.may_take = False
        taken.reason, taken.numbers = Reason.STALE, {"stats_age_s": guest.stats_age_s}


def _alone(taken: Seat, reason: Reason, numbers: dict[str, object]) -> Seat:
    taken.may_give = taken.may_take = False
    taken.reason, taken.numbers = reason, numbers
    return taken
