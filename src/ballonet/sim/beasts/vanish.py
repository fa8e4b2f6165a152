"""A guest that ends without a word. It does not come back."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, _fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go: nothing does."""
    guest.is_gone = True
    guest.memory.vanish()
    return lambda: None
