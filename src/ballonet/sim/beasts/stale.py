"""A guest whose statistics stay as they were; its balloon moves."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, _fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.is_silent = True

    def let_go() -> None:
        guest.is_silent = False

    return let_go
