"""The bestiary: what can be wrong with a guest, one file each. Each strikes a simulated guest, and can let go of it.

The guest without a fault is the ideal one.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from ballonet.model.settings import Size
from ballonet.scenarios.scenario import Fault
from ballonet.sim.beasts import (
    cannot_take,
    empty,
    hang,
    hidden_floor,
    hoard,
    host_swapped,
    inert,
    liar,
    no_driver,
    outside_hand,
    passthrough,
    second_controller,
    slow,
    stale,
    stuck,
    thrash,
    vanish,
)
from ballonet.sim.guest import SimGuest
from ballonet.sim.world import SimWorld

Beast = Callable[[SimGuest, Fault], Callable[[], None]]

BEASTS: Final[Mapping[str, Beast]] = {
    "slow": slow.strike,
    "stuck": stuck.strike,
    "cannot-take": cannot_take.strike,
    "hidden-floor": hidden_floor.strike,
    "hoard": hoard.strike,
    "liar": liar.strike,
    "stale": stale.strike,
    "vanish": vanish.strike,
    "hang": hang.strike,
    "no-driver": no_driver.strike,
    "outside-hand": outside_hand.strike,
    "passthrough": passthrough.strike,
    "second-controller": second_controller.strike,
    "inert": inert.strike,
    "thrash": thrash.strike,
    "empty": empty.strike,
    "host-swapped": host_swapped.strike,
}
"""By the fault's kind. Each strikes, and gives what lets go."""


def release(world: SimWorld, faults: tuple[Fault, ...], scale: int = 1) -> None:
    """Lets all faults of a scenario loose on a world, at their times, sizes divided by `scale`."""
    for fault in faults:
        if fault.kind == "restart":  # of ballonet, not of the world
            continue
        _loose(world, replace(fault, bytes=Size(fault.bytes // scale)))
    world.deeds.sort(key=lambda deed: deed[0])


def _loose(world: SimWorld, fault: Fault) -> None:
    guest = world.by_name[fault.guest]
    at = world.start_s + fault.at_s
    if fault.kind == "reboot":
        world.deeds.append((at, lambda: world.reboot(guest)))
        return
    end = None if fault.until_s is None else world.start_s + fault.until_s
    strike = BEASTS[fault.kind]
    if fault.kind == "second-controller":
        world.deeds += [(when, lambda: _forget(strike(guest, fault))) for when in second_controller.rounds(at, end)]
        return
    ends: list[Callable[[], None]] = []
    world.deeds.append((max(0.0, at), lambda: ends.append(strike(guest, fault))))
    if end is not None:
        world.deeds.append((end, lambda: ends.pop()() if ends else None))


def _forget(_let_go: Callable[[], None]) -> None:
    """What is done once needs no end."""
