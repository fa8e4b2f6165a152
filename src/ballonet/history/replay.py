"""What a policy would have asked for, had it seen what this host really saw.

Each picture is decided again, in order, with the policy's own memory. The pictures are what they were: a guest does not
answer to what was not sent. How it would have answered is simulated, not known (`sim`, on the demand that `demand` gives).
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from ballonet.decide.state import State
from ballonet.decide.step import START, step
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest
from ballonet.model.tick import Tick

GAP_S: Final = 90.0
"""After this long without a snapshot a policy knows nothing any more: thinned out history has one a minute."""


class GuestReplay(Struct, kw_only=True):
    """One guest, as it was and as it would have been asked."""

    name: str
    seconds: float = 0.0
    """In which it was seen."""
    kept_byte_s: float = 0.0
    asked_byte_s: float = 0.0
    more_byte_s: float = 0.0
    """Asked above what it kept."""
    less_byte_s: float = 0.0
    commands: int = 0
    """That the policy would have sent."""
    commands_then: int = 0
    short_s: float = 0.0
    """In which it would have had less than it needed."""
    short_then_s: float = 0.0


class Replay(Struct, kw_only=True):
    """All guests under one policy."""

    policy: str
    policy_then: str
    begin: float
    end: float
    ticks: int
    guests: dict[str, GuestReplay]
    budget_ticks: int = 0
    """In which more would have been promised than there was."""


def replay(ticks: Iterable[Tick], policy: str, limits: Limits) -> Replay:
    """Decides again what was seen. Raises ValueError when there is nothing.

    Args:
        ticks: in order; times of the wall clock.
        policy: a name of `POLICIES`.
        limits: of every decision.
    """
    found: Replay | None = None
    state, last = START, 0.0
    for tick in ticks:
        if found is None:
            found = Replay(policy=policy, policy_then=tick.plan.policy, begin=tick.at, end=tick.at, ticks=0, guests={})
        elif not 0 < tick.at - last <= GAP_S:
            state, last = START, tick.at
        state = _decided(found, state, tick, tick.at - last if last else 0.0, policy, limits)
        found.end, last = tick.at, tick.at
        found.ticks += 1
    if found is None:
        raise ValueError("nothing was recorded in that time")
    return found


def _decided(found: Replay, state: State, tick: Tick, dt: float, policy: str, limits: Limits) -> State:
    state, plan = step(state, tick.snapshot, limits, tick.at, policy)
    short, short_then = {one.name for one in plan.short}, {one.name for one in tick.plan.short}
    found.budget_ticks += plan.promised_bytes > plan.memory_bytes > 0
    for guest, now in zip(tick.snapshot.guests, plan.guests, strict=True):
        one = found.guests.setdefault(guest.name, GuestReplay(name=guest.name))
        kept, asked = _kept(guest), now.keep_bytes or _kept(guest)
        one.seconds += dt
        one.kept_byte_s += kept * dt
        one.asked_byte_s += asked * dt
        one.more_byte_s += max(0, asked - kept) * dt
        one.less_byte_s += max(0, kept - asked) * dt
        one.commands += now.is_command
        one.commands_then += guest.name in (tick.outcome.begun or tick.outcome.sent)  # older recordings have no `begun`
        one.short_s += dt * (guest.name in short)
        one.short_then_s += dt * (guest.name in short_then)
    return state


def _kept(guest: Guest) -> int:
    return guest.ceiling_bytes if guest.keep_bytes is None else guest.keep_bytes
