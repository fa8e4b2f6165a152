"""A guest with page cache that it calls available and no balloon can get."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest
from ballonet.sim.ledger import EXTENT_BYTES


def strike(guest: SimGuest, fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.cache += guest.memory.use(min(fault.bytes // EXTENT_BYTES, guest.memory.idle))
    guest.unreachable = guest.size + guest.cache

    def let_go() -> None:
        guest.unreachable = 0

    return let_go
