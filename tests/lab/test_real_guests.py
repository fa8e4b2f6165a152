"""Real QEMU guests."""

import pytest

from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.lab.arm import Progress
from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.machine import Machine, qmp_folder
from ballonet.lab.run import run_arms
from ballonet.report.expect import unmet
from ballonet.scenarios.scenario import load
from ballonet.testing import check_hypervisor

pytestmark = pytest.mark.lab


async def test_qemu_keeps_the_contract(machines: list[Machine]) -> None:
    """The qemu adapter passes the suite on a real guest."""
    hypervisor = QemuHypervisor((f"{qmp_folder(machines[0].folder)}/*.sock",))
    await hypervisor.open()
    try:
        await check_hypervisor(hypervisor, "a")
    finally:
        await hypervisor.close()


@pytest.mark.parametrize("name", ["overinflate", "noswap", "stuck", "hang"])
async def test_scenarios_of_what_can_go_wrong(name: str) -> None:
    """What the scenario expects holds on real guests."""
    scenario = load(name)
    try:
        arms = run_arms(scenario, ["adaptive"], scale=32, host_share=None, seed=1, progress=lambda _policy: Progress())
        flight = await arms
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    assert unmet(scenario, None, flight.results[0]) == []
