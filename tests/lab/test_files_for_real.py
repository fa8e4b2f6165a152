"""A real guest that reads files: what its host and its agent count of that, and whether R17 sees what its cache is worth (about a
minute).
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ballonet.decide import cache
from ballonet.decide.memory import GuestMemory
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.machine import Charge, Machine, qmp_folder
from ballonet.lab.template import template
from ballonet.model.snapshot import Guest, Voice
from ballonet.model.units import MIB

pytestmark = pytest.mark.lab

SET_MIB, PACE = 200, 400


@contextlib.asynccontextmanager
async def reader() -> AsyncIterator[tuple[Machine, QemuHypervisor]]:
    """One with a disk of files, and ballonet's adapter on it."""
    try:
        made = await template(512 * MIB, has_data=True)
    except LabUnavailableError as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory() as name:
        machine = await made.restore("reader", Path(name), Charge(None))
        hypervisor = QemuHypervisor((f"{qmp_folder(machine.folder)}/*.sock",))
        try:
            await hypervisor.open()
            yield machine, hypervisor
        finally:
            await hypervisor.close()
            await machine.close()


class Watch:
    """Follows the guest as the loop does."""

    def __init__(self, hypervisor: QemuHypervisor) -> None:
        self._hypervisor = hypervisor
        self.memory = GuestMemory()

    async def until(self, holds: object, deadline_s: float = 90.0) -> Guest:
        """Each second a look; the guest once something holds of it."""
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(deadline_s):
            while True:
                for guest in self._hypervisor.guests():
                    self.memory = cache.follow(self.memory, guest, clock())
                    if holds(guest):  # type: ignore[operator]
                        return guest
                await asyncio.sleep(0.5)


async def test_what_a_real_guest_reads_again_is_seen() -> None:
    """Cached, nothing is read; squeezed, it reads again: host and agent count the same, and its cache is worth something."""
    async with reader() as (machine, hypervisor):
        machine.tell("agent")
        machine.tell("size", 60 * MIB, 60 * MIB)
        machine.tell("files", 0, SET_MIB * MIB, PACE, "uniform", 4096, 0)
        watch = Watch(hypervisor)
        await watch.until(lambda one: one.voice is Voice.AGENT and one.stats.refaults is not None)
        await watch.until(
            lambda one: watch.memory.reread.level_bytes > SET_MIB * MIB * 0.9 and watch.memory.reread.level_per_s < 5
        )
        quiet = await watch.until(lambda _one: True)
        lost = 40 * MIB
        cached = watch.memory.reread.cache_bytes
        assert quiet.stats is not None
        keep = (quiet.keep_bytes or 0) - (quiet.stats.free_bytes or 0) - (cached - SET_MIB * MIB) - lost
        await hypervisor.set_keep("reader", keep, 5.0)
        found = await watch.until(lambda _one: watch.memory.reread.worth_bytes)
        assert watch.memory.reread.worth_bytes > 0.9 * SET_MIB * MIB
        reads = (found.disk_reads or 0) - (quiet.disk_reads or 0)
        assert found.stats is not None
        refaults = (found.stats.refaults or 0) - (quiet.stats.refaults or 0)
        assert reads > 20
        assert refaults <= 1.1 * reads + PACE  # the guest's numbers are up to a second younger
