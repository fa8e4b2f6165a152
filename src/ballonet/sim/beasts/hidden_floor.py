"""A guest that says it could spare more than its balloon can get."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest
from ballonet.sim.ledger import EXTENT_BYTES


def strike(guest: SimGuest, fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.unreachable = fault.bytes // EXTENT_BYTES

    def let_go() -> None:
        guest.unreachable = 0

    return let_go
