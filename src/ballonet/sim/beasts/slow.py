"""A balloon that moves at a fraction of its speed: a busy guest, a busy host."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.take_factor = guest.give_factor = fault.factor

    def let_go() -> None:
        guest.take_factor = guest.give_factor = 1.0

    return let_go
