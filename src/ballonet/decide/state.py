"""The past of a whole host: what `step` takes from tick to tick, and what a snapshot file carries on."""

from typing import Any, Final

from msgspec import Struct

from ballonet.decide.memory import GuestMemory
from ballonet.decide.seat import Seat
from ballonet.decide.shown import Shown
from ballonet.decide.steering.knobs import Turned
from ballonet.model.limits import Limits

NEVER: Final = -1e9
"""A time before all others."""


class State(Struct, frozen=True, omit_defaults=True):
    """The past of all guests and of the host."""

    guests: dict[str, GuestMemory] = {}
    decided_at: float = -1e9
    began_at: float = NEVER
    """When the first decision was."""
    busy_at: float = -1e9
    """When a guest was last moved because another or itself was in need."""
    host_state: str = "high"
    better_at: float = 1e18
    """Since when the host has been better than that."""
    shown: Shown = Shown()
    """How fast its guests rise, alone and together (R2, R3)."""
    seats: dict[str, Seat] = {}
    """The places at the last table of guests of which nothing moves, to be taken again; not written down."""
    limits: Limits | None = None
    """Under which those hold."""
    turned: dict[str, Turned] = {}
    """When what a hypervisor's own loop goes by was changed, by guest."""
    stepped_at: float = -1e9
    """When the ladder beyond the balloon was climbed last (R14)."""
    past: dict[str, Any] = {}
    """What the policy keeps for itself."""
    spoke_at: float = -1e9
    """When a policy with a period last decided."""
    said: dict[str, tuple[int, dict[str, Any]]] = {}
    """What it said then of each guest."""

    def ran_s(self, now: float) -> float:
        """For how long it has been decided; 0 at the first time."""
        return now - self.began_at if self.began_at > NEVER else 0.0
