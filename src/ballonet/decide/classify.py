"""Who sits at the table: which guest may give, which may take, and what each needs at least.

R8 old news is no news; R13 leave alone what cannot be ballooned; R7 parked guests are counted at what they hold.
"""

import math
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from ballonet.decide import cache, cache_needs, estimate, feedback, inert, still, stuck
from ballonet.decide.floor import floor_bytes, has_swap
from ballonet.decide.memory import Filling, GuestMemory
from ballonet.decide.pace import portion_bytes
from ballonet.decide.seat import Seat
from ballonet.model.limits import Limits
from ballonet.model.plan import Reason
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.units import MIB

OLD_INTERVALS: Final = 3
"""Statistics older than this number of intervals are old (R8): one may be late, three are not."""
RISE_SHARE: Final = 1 / 40
"""Of the ceiling: what a guest that cannot be moved is expected to take, of what it keeps and has not touched. The reserve
stands in for the rest."""
FILL_S: Final = 5.0
"""And what it takes in this time at the speed at which it fills now: until donors have given as much."""
SWAPLESS_SHARE: Final = 0.004
"""Of the ceiling: what a guest that cannot page out keeps free beyond its use, whichever guest is short (R6). The most
that costs nothing over 48 seeds of `density-50`: more lies idle while other guests page."""
FILL_FADE_S: Final = 10.0
"""How that speed fades."""
LEAST_FILL_S: Final = 0.1
"""Two looks closer together than this give no speed."""


def seat(old: GuestMemory, guest: Guest, limits: Limits, now: float, rise_share_per_s: float = 0.0) -> Seat:
    """A guest's place at this tick's table, with all that was and is known of it, and how fast its like rises here."""
    if guest.keep_bytes is not None and guest.keep_bytes > guest.ceiling_bytes:
        guest = replace(guest, ceiling_bytes=_ceiling_now(old, guest, limits, now))
    memory = estimate.remember(old, guest, limits, now)
    keep, ceiling, occupied = guest.keep_bytes, guest.ceiling_bytes, guest.occupied_bytes
    if keep is None:
        taken = _unknown(guest, memory)
        _count(taken, max(ceiling, occupied or 0), now)
        return taken
    memory = feedback.judge(stuck.judge(memory, keep, ceiling, limits, now), keep, ceiling, limits, now)
    if limits.has("R17"):
        memory = cache.follow(memory, guest, now, OLD_INTERVALS * limits.interval_s)
    if (occupied is not None and not inert.is_proved(memory, occupied, keep)) and limits.has("R13"):
        memory = inert.judge(memory, occupied, keep, ceiling, now)
    taken = Seat(guest, memory, keep_bytes=keep, is_under_way=stuck.is_under_way(memory, keep))
    taken.floor_bytes = floor_bytes(guest) if limits.has("R6") else 1
    _need(taken, limits, now, rise_share_per_s)
    taken.needs_bytes = taken.need_now_bytes, taken.need_lasting_bytes
    _permit(taken, limits, now)
    if not taken.may_give:
        _bound(taken, max)
    if not taken.may_take:
        _bound(taken, min)
    held = _held_bytes(memory, occupied, keep)
    if taken.may_give and taken.may_take:  # as most are
        taken.held_bytes = taken.counted_bytes = taken.whole_bytes = held
    else:
        _count(taken, held, now)
    taken.is_still = still.is_still(taken, old)
    return taken


def _ceiling_now(old: GuestMemory, guest: Guest, limits: Limits, now: float) -> int:
    """A ceiling below what a guest keeps is approached in portions, with peace where that hurts (R5), on fresh news alone (R8),
    and no further than what the guest uses if it has no swap for the rest (R6).
    """
    keep, ceiling, stats = guest.keep_bytes or 0, guest.ceiling_bytes, guest.stats
    if now < old.peace.cool_until or (old.use.distress_until > now and limits.has("R1")):
        return keep
    if stats is None or stats.total_bytes is None or stats.available_bytes is None or guest.stats_age_s is None:
        return keep
    if guest.stats_age_s > OLD_INTERVALS * limits.interval_s and limits.has("R8"):
        return keep
    # Of what it keeps, whatever its MemTotal says; and over the recent past, for use goes up again.
    used = max(
        0, keep - stats.available_bytes, min(old.use.used_bytes, keep), min(int(old.use.slow_bytes), guest.given_bytes or keep)
    )
    least = 0
    if limits.has("R6") and not has_swap(guest, max(0, used - ceiling)):
        least = min(used + int(SWAPLESS_SHARE * (guest.given_bytes or keep)), guest.given_bytes or keep)
    return max(ceiling, least, keep - portion_bytes(keep))


_FIXED: Final = frozenset({Reason.ALONE, Reason.OBSERVED, Reason.UNKNOWN, Reason.INERT})
"""Why a guest cannot be moved for longer than a moment."""
SILENT_S: Final = 30.0
"""A guest that has said nothing for this long, or never, cannot be moved either; late statistics come again within that."""


def _count(taken: Seat, held: int, now: float) -> None:
    """What a guest counts at (R4): all that it may take without asking; one that cannot be moved at what it occupies and an
    expected rise, since nobody is to page for what nobody uses.
    """
    guest = taken.guest
    if taken.may_give or taken.may_take:
        taken.held_bytes = taken.counted_bytes = taken.whole_bytes = held
        return
    # What the host has swapped out of it is memory of nobody, and comes back as anything else that it fills.
    memory, measured = taken.memory, guest.measured_bytes
    if measured is None:  # what nobody can measure counts the same on both sides of the sum
        taken.held_bytes = taken.counted_bytes = taken.whole_bytes = taken.keep_bytes
        return
    taken.memory = memory = _filling(memory, measured, now)
    whole = max(held, guest.ceiling_bytes) if guest.is_starting else held
    slow = RISE_SHARE * guest.ceiling_bytes
    if guest.huge_bytes > measured:  # it fills a pool of its own, but for as large a part as lies outside that
        slow *= measured / (measured + guest.huge_bytes)
    rise = int(max(slow, FILL_S * memory.filling.filling_per_s))
    if guest.huge_bytes > measured:
        whole = max(measured, guest.ceiling_bytes - guest.huge_bytes) if guest.is_starting else min(whole, measured + rise)
    taken.whole_bytes = whole
    # What it fills just now is kept free for it, and taken out of spare; out of needs only once it is really missing.
    taken.counted_bytes = min(whole, measured + int(slow))
    # Of one that may give again at any moment, or take all, nothing is promised to others; their needs are not cut for it.
    taken.held_bytes = min(whole, measured + rise) if _is_fixed(taken) and not guest.is_starting else whole


def _is_fixed(taken: Seat) -> bool:
    """Whether it cannot be moved for longer than a moment. What was given back by order is promised, whichever guest wants it."""
    if taken.guest.deflates:
        return False
    age_s = taken.guest.stats_age_s
    return taken.reason in _FIXED or (taken.reason is Reason.STALE and (age_s is None or age_s > SILENT_S))


def _filling(old: GuestMemory, occupied: int, now: float) -> GuestMemory:
    """How fast a guest that cannot be moved takes what it keeps."""
    dt = now - old.filling.occupied_at
    if dt < LEAST_FILL_S:
        return old
    speed = max(0.0, (occupied - old.filling.occupied_bytes) / dt) if old.filling.occupied_bytes and dt < FILL_FADE_S else 0.0
    faded = old.filling.filling_per_s * math.exp(-dt / FILL_FADE_S)
    rising = max(speed, faded if faded > MIB else 0.0)
    return replace(old, filling=Filling(occupied_bytes=occupied, occupied_at=now, filling_per_s=rising))


def watch_only(taken: Seat, now: float) -> None:
    """Makes a guest's place one of a guest that is only watched."""
    if taken.is_movable:
        held = taken.held_bytes
        _alone(taken, Reason.OBSERVED, {"mode": taken.guest.mode.value})
        for by in (max, min):
            _bound(taken, by)
        _count(taken, held, now)
        taken.is_still = False


def spare(taken: Seat) -> None:
    """Makes a guest's place one of a guest that is not asked to give."""
    taken.may_give = False
    _bound(taken, max)
    taken.is_still = False


def raw_seat(memory: GuestMemory, guest: Guest, limits: Limits, now: float, _rise_share_per_s: float = 0.0) -> Seat:
    """A place at the table of a peer's policy: what the guest is and whom to leave alone, none of our own estimates."""
    keep = guest.keep_bytes
    if keep is None:
        taken = _unknown(guest, memory)
        _count(taken, guest.ceiling_bytes, now)
        return taken
    if keep > guest.ceiling_bytes:
        guest = replace(guest, ceiling_bytes=_ceiling_now(memory, guest, limits, now))
    if keep != memory.motion.keep_bytes:
        memory = replace(memory, motion=replace(memory.motion, keep_bytes=keep, moved_at=now))
    taken = Seat(guest, memory, keep_bytes=keep, wish_bytes=keep, floor_bytes=floor_bytes(guest))
    taken.is_under_way = stuck.is_under_way(memory, keep)
    taken.say(keep, Reason.PEER, peer="its policy", what="no word on it until the next round, it has", goal_bytes=keep)
    _permit(taken, limits, 0.0)
    _count(taken, max(keep, guest.occupied_bytes or 0), now)
    return taken


def _bound(taken: Seat, by: Callable[[int, int], int]) -> None:
    """Who cannot move needs what it keeps, or no more."""
    keep = taken.keep_bytes
    taken.need_lasting_bytes, taken.need_soon_bytes, taken.need_now_bytes = (
        by(need, keep) for need in (taken.need_lasting_bytes, taken.need_soon_bytes, taken.need_now_bytes)
    )
    cache_needs.bound(taken)


def _held_bytes(memory: GuestMemory, occupied_bytes: int | None, keep_bytes: int) -> int:
    """R4: what the guest may take without asking. Freed memory counts when the host sees it (R9)."""
    held, asked = keep_bytes, memory.motion.asked_bytes
    if occupied_bytes is not None and occupied_bytes > held:
        held = occupied_bytes
    return asked if asked is not None and asked > held and not memory.motion.parked_sign else held


def _need(taken: Seat, limits: Limits, now: float, rise_share_per_s: float) -> None:
    memory, ceiling = taken.memory, taken.guest.ceiling_bytes
    least_now, soon, lasting = estimate.needs(memory, ceiling, rise_share_per_s, taken.guest.headroom_bytes)
    taken.proven_bytes = least_now - estimate.back_bytes(memory) if memory.use.swapped_bytes else least_now
    if memory.use.said_bytes > memory.use.used_bytes and limits.has("R9"):
        # What the host has not seen it touch gives it nothing; but what it has and says it uses is not taken from it.
        more, keep = memory.use.said_bytes - memory.use.used_bytes, taken.keep_bytes
        least_now, soon, lasting = (max(need, min(keep, need + more)) for need in (least_now, soon, lasting))
    least = taken.floor_bytes
    if memory.motion.parked_sign < 0:
        # A balloon that could not grow has left its guest nothing to spare, whatever the guest's statistics say.
        least = max(least, memory.motion.stuck_bytes + int(estimate.TIGHT_SHARE * ceiling))
    if now < memory.peace.cool_until and feedback.is_cooling(memory, ceiling, now):
        taken.is_cooling = True
        least = max(least, memory.peace.cool_bytes)
    least = least if least < ceiling else ceiling
    own_soon, own_lasting = soon, lasting
    # Written out, not with min and max: a thousand guests are decided in 10 ms.
    least_now = ceiling if least_now > ceiling else least_now if least_now > least else least
    soon = ceiling if soon > ceiling else soon if soon > least_now else least_now
    lasting = ceiling if lasting > ceiling else lasting if lasting > least_now else least_now
    taken.need_now_bytes, taken.need_soon_bytes, taken.need_lasting_bytes = least_now, soon, lasting
    if taken.guest.cache_bytes or memory.reread.worth_bytes or memory.reread.tries_bytes:
        cache_needs.add(taken, own_soon, own_lasting, limits)
    if now < memory.use.distress_until and limits.has("R1"):
        taken.is_distressed = not estimate.has_room_for_swapped(
            memory.use.used_bytes, memory.use.swapped_bytes, memory.use.swap_in_per_s, taken.keep_bytes, ceiling
        )
    # A guest that cannot page out must not be squeezed below what it uses, whichever guest is short (R6).
    if limits.has("R6") and not has_swap(taken.guest, memory.use.used_bytes):
        used = int(memory.use.used_bytes + SWAPLESS_SHARE * ceiling)
        used = used if used < taken.keep_bytes else taken.keep_bytes
        if used > taken.floor_bytes:
            taken.floor_bytes = used if used < ceiling else ceiling


def _permit(taken: Seat, limits: Limits, now: float) -> None:
    guest, memory = taken.guest, taken.memory
    if (guest.leave_alone or guest.is_migrating or not guest.can_balloon) and limits.has("R13"):
        why = guest.leave_alone or ("it is being migrated" if guest.is_migrating else "its balloon cannot be moved")
        _alone(taken, Reason.ALONE, {"why": why})
    elif guest.mode is Mode.OBSERVE:
        _alone(taken, Reason.OBSERVED, {"mode": guest.mode.value})
    elif guest.deflates and taken.keep_bytes >= guest.ceiling_bytes:
        _alone(taken, Reason.ALONE, {"why": guest.deflates})
    elif guest.deflates and memory.motion.parked_sign <= 0:  # giving back needs neither news nor a balloon that frees
        taken.may_give = False
    elif now < memory.proof.inert_until and limits.has("R13"):
        _leave_inert(taken)
    elif memory.motion.parked_sign:
        # What one keeps that does not give is no need of it: it counts at what it really holds (R7). Who needs more may get that.
        is_enough = taken.keep_bytes >= taken.need_lasting_bytes
        taken.may_give, taken.may_take = memory.motion.parked_sign > 0, memory.motion.parked_sign < 0 and not is_enough
        taken.reason, taken.numbers = Reason.PARKED, {"wait_s": max(0.0, memory.motion.parked_until - now)}
    elif (guest.stats_age_s is None or guest.stats_age_s > OLD_INTERVALS * limits.interval_s) and limits.has("R8"):
        taken.may_give = taken.may_take = False
        taken.reason, taken.numbers = Reason.STALE, {"stats_age_s": guest.stats_age_s, "why": guest.silence or _OLD_NEWS}
    elif inert.is_doubted(memory, now):
        taken.may_give = False


_OLD_NEWS: Final = "on old news nobody loses memory"


def _leave_inert(taken: Seat) -> None:
    """Its balloon frees nothing: it gets back what that took, and nothing more is asked of it."""
    guest, memory = taken.guest, taken.memory
    occupied = guest.occupied_bytes or 0
    # Given back at once, also what it took before it was in doubt: it is occupied already, so nobody has less for it.
    goal = min(guest.ceiling_bytes, max(memory.proof.inert_keep_bytes, occupied))
    _alone(taken, Reason.INERT, {"goal_bytes": goal, "occupied_bytes": occupied})
    taken.returns_bytes = goal if taken.keep_bytes < goal else 0


def _unknown(guest: Guest, memory: GuestMemory) -> Seat:
    """Its hypervisor has not said yet what its balloon keeps; once it is silent for long, the adapter says why."""
    taken = Seat(guest, memory, keep_bytes=guest.ceiling_bytes)
    return _alone(taken, Reason.UNKNOWN, {"why": guest.leave_alone or "its hypervisor has not told it yet"})


def _alone(taken: Seat, reason: Reason, numbers: dict[str, object]) -> Seat:
    taken.may_give = taken.may_take = False
    taken.reason, taken.numbers = reason, numbers
    return taken
