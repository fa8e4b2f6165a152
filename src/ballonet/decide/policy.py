"""What a policy is: a way to divide the table, how often it does so, and which rules stand around it."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ballonet.decide.table import Table
from ballonet.model.limits import RULES

PEER_RULES: Final = frozenset({"R4", "R6", "R13"})
"""What stays on top of a peer's policy: the budget, floors, and whom to leave alone. The rest is what the peer lacks."""


class Policy(Struct, frozen=True):
    """One way to divide a host's memory."""

    divide: Callable[[Table], None]
    """Sets `wish_bytes` and the reason of each seat that may move."""
    period_s: float = 0.0
    """How long its last word stands; 0 = it speaks at each tick."""
    is_peer: bool = False
    """It decides as another controller does: on the raw numbers, without our needs, parking and calm. The order of its
    commands (free first, then give) is `act`'s, so the budget is held against where all of them lead."""

    @property
    def without(self) -> frozenset[str]:
        """The rules that are not in force around it."""
        return frozenset(RULES) - PEER_RULES if self.is_peer else frozenset()
