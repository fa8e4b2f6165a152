"""The table of one tick: all seats and the memory that is to be divided among them."""

import math
from dataclasses import dataclass, field

from ballonet.decide.seat import Seat
from ballonet.model.limits import Limits
from ballonet.model.plan import Shortage


@dataclass(slots=True)
class Table:
    """Working notes of one tick; never leaves `decide`."""

    seats: list[Seat]
    limits: Limits
    total_bytes: int
    """The host's."""
    memory_bytes: int
    """For guests: what they occupy and what the host has available."""
    reserve_bytes: int
    quiet_s: float = math.inf
    """For how long nobody was moved out of need."""
    short: list[Shortage] = field(default_factory=list)

    @property
    def slack_bytes(self) -> int:
        """What no guest may take yet; negative when more is promised than there is."""
        return self.memory_bytes - sum(seat.held_bytes for seat in self.seats)
