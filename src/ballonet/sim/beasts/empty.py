"""A guest whose driver goes on answering, and says nothing any more."""

from collections.abc import Callable

from ballonet.model.snapshot import GuestStats
from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, _fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    true, guest.says = guest.says, lambda _stats: GuestStats()

    def let_go() -> None:
        guest.says = true

    return let_go
