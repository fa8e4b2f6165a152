"""A real guest reboots while its neighbour rises: its balloon is gone, and `query-balloon` says the old figure for long."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest
from msgspec import Struct

from ballonet.daemon.loop import Loop
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.lab.machine import Machine, qmp_folder
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, Host
from ballonet.model.units import MIB
from ballonet.sense.host import Around
from ballonet.sense.picture import Eye, GuestSettings

pytestmark = pytest.mark.lab
BUDGET_BYTES = 640 * MIB


class Nothing(Struct):
    """What a command returns that returns nothing."""


class TwoOnABudget:
    """A host that has room for these machines and nothing else."""

    def __init__(self, machines: list[Machine]) -> None:
        self._machines = machines

    def occupied_bytes(self) -> int:
        return sum(512 * os.fstat(machine.ram).st_blocks for machine in self._machines)

    def read(self, _pids: object, _resident: object) -> Around:
        available = max(0, BUDGET_BYTES - self.occupied_bytes())
        return Around(Host(total_bytes=BUDGET_BYTES, available_bytes=available))


async def until(holds: Callable[[], object], deadline_s: float = 60.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.fixture
async def hypervisor(machines: list[Machine]) -> AsyncIterator[QemuHypervisor]:
    opened = QemuHypervisor((f"{qmp_folder(machines[0].folder)}/*.sock",))
    await opened.open()
    yield opened
    await opened.close()


async def test_no_sample_over_budget(machines: list[Machine], hypervisor: QemuHypervisor) -> None:
    """640 MiB for two of 512. One has given all that it can and is reset; the other one rises at that moment. It waits until
    the first one's driver has spoken, and gets what it needs.
    """
    host, (first, second) = TwoOnABudget(machines), machines
    await until(lambda: len(hypervisor.guests()) == 2 and all(one.can_balloon for one in hypervisor.guests()))
    loop = Loop(Eye(host, hypervisor, lambda _name: GuestSettings()), hypervisor, Limits())
    running = asyncio.create_task(loop.run())
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, host.occupied_bytes())
            await asyncio.sleep(0.02)

    def guest(name: str) -> Guest:
        return next(one for one in hypervisor.guests() if one.name == name)

    try:
        await until(lambda: (guest("a").keep_bytes or 0) + (guest("b").keep_bytes or 0) < BUDGET_BYTES)
        watching = asyncio.create_task(watch())
        assert first.qmp is not None
        await first.qmp.call("set-action", Nothing, 10.0, reboot="reset")
        await first.qmp.call("system_reset", Nothing, 10.0)
        second.tell("size", 300 * MIB, 100 * MIB)
        second.tell("pace", 2000)
        await until(lambda: guest("a").is_starting, 10.0)
        await until(lambda: guest("a").can_balloon and not guest("a").is_starting, 120.0)
        await until(lambda: (guest("b").keep_bytes or 0) >= 400 * MIB)
        await asyncio.sleep(3)
        assert most <= BUDGET_BYTES
        watching.cancel()
    finally:
        running.cancel()
        await asyncio.wait([running], timeout=5)
