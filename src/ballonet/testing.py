"""Suites that any adapter must pass, shipped with the package.

`check_hypervisor` runs the contract of `hypervisors/contract.py` on an open adapter with a guest that balloons.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from ballonet.hypervisors.contract import GuestGoneError, Hypervisor, RefusedError, Steering
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest
from ballonet.model.units import MIB

REACHED_BYTES = 4 * MIB


async def check_hypervisor(hypervisor: Hypervisor, name: str, deadline_s: float = 20.0) -> None:
    """Runs the contract on one guest; leaves it with all of its memory.

    Args:
        hypervisor: open, steering by target.
        name: of a running guest with a balloon driver, not in need of a quarter of its memory.
        deadline_s: for each thing that takes the guest's help.

    Raises:
        AssertionError: something does not hold; the text says what.
    """
    assert hypervisor.capabilities.steering is Steering.TARGET, "only target steering is checked here"
    guest = await _wait(hypervisor, name, deadline_s, lambda one: one.can_balloon and one.stats is not None)
    names = [one.name for one in hypervisor.guests()]
    assert len(names) == len(set(names)), "names are not unique"
    assert guest.keep_bytes is not None, "a guest that balloons has no keep_bytes"
    assert 0 < guest.keep_bytes <= guest.ceiling_bytes, "keep_bytes is not within 1 and the ceiling"
    assert guest.leave_alone == "", "a guest that can balloon is to be left alone"
    await _check_refusals(hypervisor, guest)
    less = guest.ceiling_bytes * 3 // 4
    for keep_bytes in (less, guest.ceiling_bytes):
        await hypervisor.set_keep(name, keep_bytes, deadline_s)
        await _wait(hypervisor, name, deadline_s, partial(_is_at, keep_bytes=keep_bytes))
    hypervisor.watch(name, Look(0.2, 0))
    await _wait(hypervisor, name, deadline_s, lambda one: one.stats_age_s is not None and one.stats_age_s < 1.0)
    hypervisor.watch("nobody", Look(0.2, 0))


async def _check_refusals(hypervisor: Hypervisor, guest: Guest) -> None:
    for keep_bytes in (0, -1, guest.ceiling_bytes + 1):
        try:
            await hypervisor.set_keep(guest.name, keep_bytes, 1.0)
        except RefusedError:
            continue
        raise AssertionError(f"{keep_bytes} bytes was not refused")
    try:
        await hypervisor.set_keep("nobody", guest.ceiling_bytes, 1.0)
    except GuestGoneError:
        return
    raise AssertionError("a guest that is not there took a command")


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
