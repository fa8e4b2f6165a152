"""R14: the state of the host, by free memory against what the sliding scale keeps free. As ESXi 6 names them.

high >= 400 %, clear >= 100 %, soft >= 64 %, hard >= 32 %, else low. VMware publishes no size of the hysteresis; here a
state rises 15 % later than it falls, and only after it has been better for half a minute: a state that flips with each breath of
the host is no news to anybody. From soft on no spare is handed out; in hard and low nobody should start a VM here,
donors are asked for all that is missing at once, and guests in distress give nothing below their part.
"""

from typing import Final

STATES: Final = (("high", 4.0), ("clear", 1.0), ("soft", 0.64), ("hard", 0.32), ("low", 0.0))
NAMES: Final = tuple(name for name, _ in STATES)
RISE: Final = 1.15
LASTS_S: Final = 30.0
"""How long it must have been better before a state rises."""
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
