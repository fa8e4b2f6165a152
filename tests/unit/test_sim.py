"""The simulator: the books hold after every step, the clock jumps, and the same seed gives the same bytes."""

import asyncio
from dataclasses import replace
from typing import get_args

import msgspec
import pytest

from ballonet.report.expect import unmet
from ballonet.scenarios.scenario import FaultKind, load, scripts, standard_names
from ballonet.sim import clock
from ballonet.sim.beasts import BEASTS
from ballonet.sim.hypervisor import SimHypervisor
from ballonet.sim.ledger import Ledger, LedgerError
from ballonet.sim.run import order, run_arm, run_arms
from ballonet.sim.speeds import KVM
from ballonet.sim.world import SimWorld
from ballonet.testing import check_hypervisor


def test_the_clock_jumps() -> None:
    """An hour passes at once, in order."""

    async def work() -> list[float]:
        times = asyncio.get_running_loop().time
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(1))
        return [times()]

    assert clock.run(work()) == [3600.0]


def test_waiting_for_ever_is_told() -> None:
    """A simulation that nothing would wake ends with an error."""
    with pytest.raises(RuntimeError, match="waits for ever"):
        clock.run(asyncio.Event().wait())


def test_the_ledger_knows_a_second_owner() -> None:
    """An extent cannot be taken from somebody who does not own it, and a lost one is found."""
    ledger = Ledger(64 << 20)
    lent = ledger.lend(1, 8)
    with pytest.raises(LedgerError):
        ledger.take_back(2, lent)
    ledger.check()
    ledger._owners[lent[0]] = 2
    with pytest.raises(LedgerError):
        ledger.check()


@pytest.mark.parametrize("name", ["consolidation", "stuck", "vanish", "liar-low", "second-controller", "java", "storm-10"])
def test_every_extent_has_one_owner_after_every_step(name: str) -> None:
    """The books of the host and of each guest hold after each step, whatever goes wrong."""
    run_arm(replace(order(load(name), scale=64, seed=3), is_checked=True))


def test_same_seed_same_bytes() -> None:
    """Two runs of one seed are equal to the byte; another seed is not."""
    one, two, other = (
        msgspec.json.encode(run_arms(load("consolidation"), ["adaptive"], host_share=0.6, seed=seed).results)
        for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other


def test_the_simulated_adapter_keeps_the_contract() -> None:
    """The suite of every adapter passes on simulated guests."""
    scenario = load("steady")
    what = order(scenario, scale=16)

    async def check() -> None:
        world = SimWorld(scenario.host, what.budget_bytes, what.scripts, KVM, 1e9, 16)
        hypervisor = SimHypervisor(world)
        await hypervisor.open()
        await check_hypervisor(hypervisor, "vm-0")
        await hypervisor.close()
        world.check()

    clock.run(check())


def test_every_fault_has_its_beast() -> None:
    """Each kind of fault that a scenario may name can be simulated; `restart` hits ballonet, and `reboot` is its guest's own."""
    assert set(get_args(FaultKind)) - {"restart", "reboot"} == set(BEASTS)


@pytest.mark.parametrize("name", standard_names())
def test_what_scenarios_expect(name: str) -> None:
    """At real KVM speeds and full size the adaptive policy holds what each scenario expects."""
    flight = run_arms(load(name), ["adaptive"])
    assert unmet(load(name), None, flight.results[0]) == []


@pytest.mark.parametrize("scenario", ["density-60", "density-50"])
def test_ballonet_on_top_costs_nothing_on_a_host_that_is_too_small(scenario: str) -> None:
    """Of the mean, with any seed: buffers of the calm are not what those that rise go without."""
    for seed in (1, 2, 3):
        alone, on_top = (one.summary for one in run_arms(load(scenario), ["hyperv", "hyperv+ballonet"], seed=seed).results)
        assert (on_top.throughput_share or 0) > (alone.throughput_share or 1)


@pytest.mark.parametrize(("below", "gains"), [("esx", False), ("hyperv", True)])
def test_ballonet_on_top_of_anothers_loop(below: str, *, gains: bool) -> None:
    """What docs/vsphere.md and docs/hyperv.md say: on ESXi it neither gains nor costs, on Hyper-V it gains. Simulated hosts."""
    alone, on_top = (one.summary for one in run_arms(load("consolidation"), [below, f"{below}+ballonet"]).results)
    assert alone.throughput_share is not None
    assert on_top.throughput_share is not None
    more = on_top.throughput_share - alone.throughput_share
    assert more > 0.1 if gains else abs(more) < 0.01
    assert on_top.budget_violations <= alone.budget_violations


@pytest.mark.parametrize("scale", [3, 7, 12, 32, 100])
def test_a_scaled_guest_can_be_made(scale: int) -> None:
    """QEMU refuses a size that is no whole page: whatever sizes are divided by."""
    for name in ("consolidation", "virtio-mem", "java"):
        for script in scripts(load(name), scale, 1):
            assert script.memory_bytes > 0
            assert script.memory_bytes % (1 << 20) == script.plugged_bytes % (1 << 20) == 0
