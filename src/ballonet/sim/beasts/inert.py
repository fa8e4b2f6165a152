"""A guest whose balloon takes, and of which the host gets nothing back: something pins it, and nobody says so."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, _fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.memory.is_inert = True

    def let_go() -> None:
        guest.memory.is_inert = False

    return let_go
