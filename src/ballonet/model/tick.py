"""One turn of the loop, and the same as it is kept: what was seen, what was decided, what came of it."""

from msgspec import Struct

from ballonet.model.plan import Plan
from ballonet.model.snapshot import Snapshot


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of a plan so far."""

    begun: tuple[str, ...] = ()
    """Guests to which a command of this plan went out."""
    sent: tuple[str, ...] = ()
    """Guests whose hypervisor has taken a command since the last tick: of this plan, or one that took longer."""
    under_way: tuple[str, ...] = ()
    """Guests that have not answered yet."""
    failed: dict[str, str] = {}
    """Guest to reason, of the same."""
    waiting: tuple[str, ...] = ()
    """Guests whose memory is not there yet."""


class Tick(Struct, frozen=True, kw_only=True):
    """What one turn of the loop saw, decided and did."""

    at: float
    """Seconds on the loop's clock; in history, of the wall clock (since 1970, UTC)."""
    snapshot: Snapshot
    plan: Plan
    outcome: Outcome = Outcome()
    missed: dict[str, int] = {}
    """Guests that are not where they were sent, by how many bytes."""
    took_s: float = 0.0
