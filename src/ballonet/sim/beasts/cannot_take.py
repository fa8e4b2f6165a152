"""A guest that does not take memory back when it gets it."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, _fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.give_factor = 0.0

    def let_go() -> None:
        guest.give_factor = 1.0

    return let_go
