"""The table of one tick: all seats and the memory that is to be divided among them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ballonet.decide.seat import Seat
from ballonet.model.limits import Limits
from ballonet.model.plan import NO_RESERVE, Reserve, Shortage

if TYPE_CHECKING:
    from ballonet.decide.rooms import Place


@dataclass(slots=True)
class BudgetTable:
    """A limit around some of the seats, that is tighter than the host."""

    name: str
    seats: list[Seat]
    memory_bytes: int
    """For these: what they occupy and what is left of the limit."""
    reserve_bytes: int
    """What is to stay free of it."""

    @property
    def slack_bytes(self) -> int:
        """What none of them may take yet."""
        return self.memory_bytes - sum(seat.held_bytes for seat in self.seats)


@dataclass(slots=True)
class Table:
    """Working notes of one tick; never leaves `decide`."""

    seats: list[Seat]
    limits: Limits
    total_bytes: int
    """The host's."""
    memory_bytes: int
    """For guests: what they occupy and what the host has available."""
    reserve: Reserve = NO_RESERVE
    quiet_s: float = math.inf
    """For how long nobody was moved out of need."""
    available_bytes: int = 0
    """The host's, by its own measure."""
    pressure_share: float = 0.0
    """The largest of the host's pressures, of memory, CPU and disk."""
    state: str = "high"
    """Of the host (R14): as it is told; it lasts."""
    is_pressed: bool = False
    """Whether the host is about to run out of memory at this very moment."""
    now: float = 0.0
    is_meeting: bool = False
    """The daemon has just started, and has not met all guests: nobody gives for those (R16)."""
    is_new: bool = False
    """The same, whether anybody has been met or not: nothing is judged of rooms."""
    options: Mapping[str, float] = field(default_factory=dict)
    """The policy's own settings."""
    past: dict[str, Any] = field(default_factory=dict)
    """What the policy keeps from tick to tick: plain values, so that a file can hold them."""
    short: list[Shortage] = field(default_factory=list)
    budgets: list[BudgetTable] = field(default_factory=list)
    """Limits around some guests, the smallest first."""
    places: list["Place"] = field(default_factory=list)
    """Rooms for VMs that are about to start (R18)."""
    rooms_bytes: int = 0
    """What is not divided among guests, but gathered and kept for those."""
    is_gathering: bool = False
    """Whether some of that is still to come."""
    rationed: set[str] = field(default_factory=set)
    """Where not even the least needs of all fit, so what there is is divided by guarantees and shares (R10): "" = on the host."""

    @property
    def slack_bytes(self) -> int:
        """What no guest may take yet; negative when more is promised than there is."""
        return self.memory_bytes - sum(seat.held_bytes for seat in self.seats)

    @property
    def idle_bytes(self) -> int:
        """What is nobody's, if every guest took all that it may, and the reserve stayed free: spare to be handed out."""
        return self.memory_bytes - sum(seat.whole_bytes for seat in self.seats) - self.reserve_bytes - self.rooms_bytes

    @property
    def reserve_bytes(self) -> int:
        """What is to stay unpromised (R3)."""
        return self.reserve.bytes

    def option(self, name: str, otherwise: float) -> float:
        """A setting of the policy, or what it is without one."""
        return self.options.get(name, otherwise)
