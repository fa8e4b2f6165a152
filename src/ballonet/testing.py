"""Suites that any adapter must pass, shipped with the package.

`check_hypervisor` runs the contract of `hypervisors/contract.py` on an open adapter with a guest that balloons.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from msgspec.structs import replace

from ballonet.hypervisors.contract import GuestGoneError, Guided, Hypervisor, HypervisorError, RefusedError
from ballonet.model.knobs import BUFFER_PERCENT, PRIORITY, Bounds, Entitlement, Knobs, Steering
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest
from ballonet.model.units import MIB

REACHED_BYTES = 4 * MIB


async def check_hypervisor(hypervisor: Hypervisor, name: str, deadline_s: float = 20.0) -> None:
    """Runs the contract on one guest, as far as its steering goes; leaves it with all of its memory and its knobs as they stood.

    Args:
        hypervisor: open.
        name: of a running guest with a balloon driver, not in need of a quarter of its memory.
        deadline_s: for each thing that takes the guest's help.

    Raises:
        AssertionError: something does not hold; the text says what.
    """
    steering = hypervisor.capabilities.steering
    guest = await _wait(hypervisor, name, deadline_s, lambda one: one.can_balloon and one.stats is not None)
    names = [one.name for one in hypervisor.guests()]
    assert len(names) == len(set(names)), "names are not unique"
    assert guest.keep_bytes is not None, "a guest that balloons has no keep_bytes"
    assert 0 < guest.keep_bytes <= guest.ceiling_bytes, "keep_bytes is not within 1 and the ceiling"
    assert guest.leave_alone == "", "a guest that can balloon is to be left alone"
    hypervisor.watch("nobody", Look(0.2, 0))
    if steering is not Steering.TARGET:
        assert isinstance(hypervisor, Guided), "it steers by knobs and has none"
        await _check_guided(hypervisor, guest, deadline_s)
        return
    await _check_refusals(hypervisor, guest)
    less = guest.ceiling_bytes * 3 // 4
    for keep_bytes in (less, guest.ceiling_bytes):
        await hypervisor.set_keep(name, keep_bytes, deadline_s)
        await _wait(hypervisor, name, deadline_s, partial(_is_at, keep_bytes=keep_bytes))
    hypervisor.watch(name, Look(0.2, 0))
    await _wait(hypervisor, name, deadline_s, lambda one: one.stats_age_s is not None and one.stats_age_s < 1.0)


async def _check_guided(hypervisor: Guided, guest: Guest, deadline_s: float) -> None:
    name, host = guest.name, hypervisor.host()
    assert host is not None, "it has guests and no host"
    assert 0 <= host.available_bytes <= host.total_bytes, "the host's memory is not within its bounds"
    assert name not in hypervisor.originals(), "what was never turned has an original"
    old = hypervisor.knobs()[name]
    wrong, right = _entitlements(old, guest) if isinstance(old, Entitlement) else _bounds(old)
    for wish in wrong:
        await _refused(hypervisor.turn(name, wish, deadline_s), RefusedError)
    await _refused(hypervisor.turn("nobody", old, deadline_s), GuestGoneError)
    assert hypervisor.knobs()[name] == old, "what was refused took effect"
    for wish in right:
        await hypervisor.turn(name, wish, deadline_s)
        assert hypervisor.knobs()[name] == wish, "a knob does not stand where it was turned to"
        assert hypervisor.originals()[name] == old, "how it stood before is not kept"
    done, failed = await hypervisor.restore(deadline_s)
    assert (done.get(name), failed) == (old, {}), "how it stood before is not put back"
    assert await hypervisor.restore(deadline_s) == ({}, {}), "what was put back is put back again"


def _entitlements(old: Entitlement, guest: Guest) -> tuple[list[Knobs], list[Knobs]]:
    """What must be refused, and what must not."""
    assert 0 <= old.reservation_bytes <= guest.ceiling_bytes, "a reservation is not within 0 and the ceiling"
    less = replace(old, shares=old.shares // 2 + 1, level="custom")
    other = Bounds(minimum_bytes=MIB, maximum_bytes=guest.ceiling_bytes, buffer_percent=20, priority=50)
    return [
        replace(old, reservation_bytes=guest.ceiling_bytes + MIB),
        replace(old, reservation_bytes=-MIB),
        replace(old, shares=0),
        other,
    ], [less, replace(less, reservation_bytes=guest.ceiling_bytes // 8 // MIB * MIB)]


def _bounds(old: Bounds) -> tuple[list[Knobs], list[Knobs]]:
    """The same; minimum and maximum stay, as a running guest's cannot be put back."""
    assert 0 <= old.minimum_bytes <= old.maximum_bytes, "the minimum is not within 0 and the maximum"
    return [
        replace(old, minimum_bytes=old.minimum_bytes + MIB),
        replace(old, maximum_bytes=old.maximum_bytes - MIB),
        replace(old, buffer_percent=BUFFER_PERCENT[1] + 1),
        replace(old, priority=PRIORITY[1] + 1),
        Entitlement(shares=1000, reservation_bytes=0),
    ], [replace(old, buffer_percent=old.buffer_percent + 15), replace(old, priority=PRIORITY[1] - old.priority + 1)]


async def _refused(command: Awaitable[None], error: type[HypervisorError]) -> None:
    try:
        await command
    except error:
        return
    raise AssertionError(f"a command that cannot be was not answered with {error.__name__}")


async def _check_refusals(hypervisor: Hypervisor, guest: Guest) -> None:
    for keep_bytes in (0, -1, guest.ceiling_bytes + 1):
        await _refused(hypervisor.set_keep(guest.name, keep_bytes, 1.0), RefusedError)
    await _refused(hypervisor.set_keep("nobody", guest.ceiling_bytes, 1.0), GuestGoneError)


def _is_at(guest: Guest, keep_bytes: int) -> bool:
    return guest.keep_bytes is not None and abs(guest.keep_bytes - keep_bytes) <= REACHED_BYTES


async def _wait(hypervisor: Hypervisor, name: str, deadline_s: float, holds: Callable[[Guest], bool]) -> Guest:
    start = time.monotonic()
    while True:
        seen = next((one for one in hypervisor.guests() if one.name == name), None)
        if seen is not None and holds(seen):
            return seen
        assert time.monotonic() - start < deadline_s, f"{name} does not get there in {deadline_s} s: {seen}"
        await asyncio.sleep(0.05)
