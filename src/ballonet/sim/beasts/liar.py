"""A guest that lies: says that it uses `bytes`, too much or too little, whatever it does."""

from collections.abc import Callable

from msgspec.structs import replace

from ballonet.model.snapshot import GuestStats
from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    truth = guest.says

    def lie(stats: GuestStats) -> GuestStats:
        said = max(0, (stats.total_bytes or 0) - fault.bytes)
        return replace(stats, available_bytes=said, free_bytes=said)

    def let_go() -> None:
        guest.says = truth

    guest.says = lie
    return let_go
