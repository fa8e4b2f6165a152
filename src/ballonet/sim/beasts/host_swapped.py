"""A guest of which the host has paged out a part that it does not touch."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest
from ballonet.sim.ledger import EXTENT_BYTES


def strike(guest: SimGuest, fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.host_swapped = fault.bytes // EXTENT_BYTES

    def let_go() -> None:
        guest.host_swapped = 0

    return let_go
