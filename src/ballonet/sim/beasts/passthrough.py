"""A guest with a device of the host's: its memory is pinned, and the device writes to pages that a balloon gives away."""

from collections.abc import Callable

from ballonet.scenarios.scenario import Fault
from ballonet.sim.guest import SimGuest


def strike(guest: SimGuest, _fault: Fault) -> Callable[[], None]:
    """Strikes; gives what lets go."""
    guest.leave_alone = "a device is passed through to it: its memory is pinned"

    def let_go() -> None:
        guest.leave_alone = ""

    return let_go
