"""A balloon that does not move, either way."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, _fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.take_factor = guest.give_factor = 0.0

    def let_go() -> None:
        guest.take_factor = guest.give_factor = 1.0

    return let_go
