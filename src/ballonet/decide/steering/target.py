"""Where a balloon is sized from outside: how many bytes it is to leave its guest, and whether that is worth a command."""

from typing import Any, Final

from ballonet.decide import stuck
from ballonet.decide.pace import dead_band_bytes
from ballonet.decide.seat import Seat
from ballonet.model.limits import Limits
from ballonet.model.plan import Decision, Keep, Reason
from ballonet.model.units import MIB

RESEND_S: Final = 1.0
"""A command that shows no effect after this long is sent again: others may have set the balloon."""


def decision(one: Seat, limits: Limits, now: float) -> Decision:
    """What a guest shall keep, and whether its balloon is asked for it."""
    memory, wish = one.memory, one.wish_bytes
    is_parked = one.is_movable or one.reason is Reason.PARKED
    if memory.motion.parked_sign and is_parked and stuck.asks_in_vain(memory, one.keep_bytes):
        # The value that it cannot reach is pulled back: a driver would try for ever, and burn a CPU over it.
        numbers = {"asked_bytes": memory.motion.asked_bytes, "still_s": now - memory.motion.moved_at}
        return told(one, wish if one.is_movable else one.keep_bytes, Reason.STUCK, numbers, is_command=True)
    keep = None if one.reason is Reason.UNKNOWN else wish
    if not limits.has("R15"):
        unsaid = {"why": "no reasons are told (R15 is off)"}
        return told(one, keep, Reason.UNKNOWN, unsaid, is_command=_is_command(one, limits, now))
    return told(one, keep, one.reason, one.numbers or {}, is_command=_is_command(one, limits, now))


def told(one: Seat, keep: int | None, reason: Reason, numbers: dict[str, Any], *, is_command: bool) -> Decision:
    """With what is known of its needs, whatever the reason."""
    used = tight = need = None
    if one.guest.stats is not None:
        used = one.memory.use.used_bytes if one.needs_bytes else one.used_bytes
        tight, need = one.needs_bytes or (None, None)
    ask = Keep(keep) if is_command and keep is not None else None
    return Decision(one.guest.name, keep, reason, numbers, ask, used, need, tight, one.floor_bytes)


def _is_command(one: Seat, limits: Limits, now: float) -> bool:
    memory, wish = one.memory, one.wish_bytes
    if (wish == one.keep_bytes and not one.is_under_way) or not (one.is_movable or one.returns_bytes):
        return False
    # The last of what is given back is little, and no noise.
    is_last = one.reason is Reason.DEFLATE and wish == one.guest.ceiling_bytes
    is_calm = limits.has("R12") and one.keep_bytes >= one.need_now_bytes and not is_last
    band = dead_band_bytes(one) if is_calm else MIB
    if not one.is_under_way or memory.motion.asked_bytes is None:
        # At rest, a command is due when the guest is to go elsewhere.
        return abs(wish - one.keep_bytes) > band
    if memory.motion.is_astray or abs(wish - memory.motion.asked_bytes) > band:
        return True
    return now - max(memory.motion.commanded_at, memory.motion.moved_at) > RESEND_S
