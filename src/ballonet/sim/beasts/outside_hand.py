"""A hand other than ballonet's sets the guest's balloon, once."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest
from ballonet.sim.ledger import EXTENT_BYTES


def strike(guest: SimGuest, fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go: nothing does, it is done."""
    guest.asked = max(1, min(guest.memory.total, fault.bytes // EXTENT_BYTES))
    return lambda: None
