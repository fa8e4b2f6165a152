"""A guest that shows swap-in for ever, whatever it is given: a claim of its own, or a cgroup in it that thrashes."""

from collections.abc import Callable

from msgspec.structs import replace

from ballonet.model.snapshot import GuestStats
from ballonet.model.units import PAGE_BYTES
from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    began, was_restless = guest.now, guest.is_restless
    true = guest.says

    def says(stats: GuestStats) -> GuestStats:
        said = true(stats)
        return replace(
            said, swap_in_bytes=(said.swap_in_bytes or 0) + int(fault.bytes * (guest.now - began)) // PAGE_BYTES * PAGE_BYTES
        )

    def let_go() -> None:
        guest.says, guest.is_restless = true, was_restless

    guest.says, guest.is_restless = says, True
    guest.on_stir(guest)
    return let_go
