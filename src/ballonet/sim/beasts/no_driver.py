"""A guest without a balloon driver."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, _fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.has_no_driver = True

    def let_go() -> None:
        guest.has_no_driver = False

    return let_go
