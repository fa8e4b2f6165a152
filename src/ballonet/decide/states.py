"""R14: the state of the host, by free memory against what the sliding scale keeps free. As ESXi 6 names them.

high >= 400 %, clear >= 100 %, soft >= 64 %, hard >= 32 %, else low. VMware publishes no size of the hysteresis; here a
state rises 15 % later than it falls, and only after it has been better for half a minute: a state that flips with each breath of
the host is no news to anybody. From soft on no spare is handed out; in hard and low nobody should start a VM here,
donors are asked for all that is missing at once, and guests in distress give nothing below their part.
"""

from typing import Final

from ballonet.decide import reserve
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Host

STATES: Final = (("high", 4.0), ("clear", 1.0), ("soft", 0.64), ("hard", 0.32), ("low", 0.0))
NAMES: Final = tuple(name for name, _ in STATES)
RISE: Final = 1.15
LASTS_S: Final = 30.0
"""How long it must have been better before a state rises."""
NEVER: Final = 1e18
"""A time that does not come."""
SCARCE: Final = frozenset({"soft", "hard", "low"})
ALARMING: Final = frozenset({"hard", "low"})


def state_of(free_share: float, old: str) -> str:
    """The state at `free_share` of what is to be free, after the state `old`."""
    rank_before = NAMES.index(old)
    for rank, (name, least) in enumerate(STATES):
        if free_share >= least * (RISE if rank < rank_before else 1.0):
            return name
    return "low"


def is_better(one: str, other: str) -> bool:
    """Whether a state is above another."""
    return NAMES.index(one) < NAMES.index(other)


def seen(old: str, host: Host, limits: Limits) -> str:
    """The state that a host is in at this very moment, after the state `old`."""
    least = reserve.least_bytes(host.total_bytes)
    return state_of(host.available_bytes / least, old) if limits.has("R14") and least else "high"


def lasting(old: str, now_seen: str, better_s: float) -> str:
    """The state that counts: it falls at once, and rises when it has been better for a while (R14)."""
    return old if is_better(now_seen, old) and better_s < LASTS_S else now_seen


def better_at(old: str, counts: str, since: float, host: Host, limits: Limits, now: float) -> float:
    """Since when the host has been better than the state that counts.

    Args:
        old: the state that counted at the last tick.
        counts: the state that counts now.
        since: what was returned then.
        host: as it is.
        limits: what binds decisions.
        now: on the clock of `step`.
    """
    if not is_better(seen(counts, host, limits), counts):
        return NEVER
    return min(now, since) if counts == old else now
