"""Real QEMU guests."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ballonet.hypervisors.qemu import QemuHypervisor
from ballonet.lab.arm import Progress
from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.machine import Machine, qmp_folder
from ballonet.lab.run import run_arms, unmet
from ballonet.lab.template import template
from ballonet.scenarios.scenario import load
from ballonet.testing import check_hypervisor

pytestmark = pytest.mark.lab


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    """A running guest of 512 MiB."""
    with tempfile.TemporaryDirectory(prefix="ballonet-test-") as folder:
        try:
            saved = await template(512 << 20)
        except LabUnavailableError as reason:
            pytest.skip(str(reason))
        machine = await saved.restore("g0", Path(folder))
        yield machine
        await machine.close()


async def test_qemu_keeps_the_contract(machine: Machine) -> None:
    """The qemu adapter passes the suite on a real guest, and forgets the guest when its QEMU is killed."""
    hypervisor = QemuHypervisor((f"{qmp_folder(machine.folder)}/*.sock",))
    await hypervisor.open()
    try:
        await check_hypervisor(hypervisor, "g0")
        machine.signal(signal.SIGKILL)
        await machine.process.wait()
        for _ in range(50):
            if not hypervisor.guests():
                break
            await asyncio.sleep(0.1)
        assert hypervisor.guests() == ()
    finally:
        await hypervisor.close()


async def test_overinflate_on_real_guests() -> None:
    """A guest that an outside hand squeezes is back at work; nothing is over budget, nobody is killed."""
    scenario = load("overinflate")
    try:
        arms = run_arms(scenario, ["adaptive"], scale=32, host_share=None, seed=1, progress=lambda _policy: Progress())
        flight = await arms
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    assert unmet(scenario, None, flight.results[0]) == []
