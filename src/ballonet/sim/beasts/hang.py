"""A guest that stands still: no answer, no work, no balloon."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, _fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.is_hung = True

    def let_go() -> None:
        guest.is_hung = False

    return let_go
