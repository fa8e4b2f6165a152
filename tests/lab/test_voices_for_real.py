"""Voices of real guests: ballonet's agent, QEMU's, and the balloon driver's."""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.machine import Charge, Hardware, Machine, qmp_folder
from ballonet.lab.template import booted, template
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest, Mechanism, Voice
from ballonet.model.units import MIB
from ballonet.testing import check_hypervisor

pytestmark = pytest.mark.lab


@contextlib.asynccontextmanager
async def watched(machine: Machine) -> AsyncIterator[QemuHypervisor]:
    hypervisor = QemuHypervisor((f"{qmp_folder(machine.folder)}/{machine.name}.sock",))
    await hypervisor.open()
    try:
        yield hypervisor
    finally:
        await hypervisor.close()


async def ballonet(*words: str) -> tuple[int | None, str, str]:
    """The program's exit code, stdout and stderr."""
    pipe = asyncio.subprocess.PIPE
    code = "from ballonet.cli.app import main; main()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *words, stdout=pipe, stderr=pipe)
    said, told = await process.communicate()
    return process.returncode, said.decode(), told.decode()


async def seen(hypervisor: QemuHypervisor, holds: Callable[[Guest], bool], deadline_s: float = 60.0) -> Guest:
    """The only guest, once something holds of it."""
    async with asyncio.timeout(deadline_s):
        while True:
            for guest in hypervisor.guests():
                if holds(guest):
                    return guest
            await asyncio.sleep(0.02)


async def test_the_agent_is_found_heard_and_found_again(machines: list[Machine]) -> None:
    """Over its port, which nobody named; with swap sizes; and again by the next ballonet."""
    machines[0].tell("agent")
    for _ in range(2):
        async with watched(machines[0]) as hypervisor:
            guest = await seen(hypervisor, lambda one: one.voice is Voice.AGENT)
            assert guest.stats is not None
            assert guest.stats.swap_free_bytes == guest.stats.swap_total_bytes == 512 * MIB - 4096


async def test_status_says_how_each_guest_is_heard(machines: list[Machine], tmp_path: Path) -> None:
    """For people and as JSON; with nobody there it says what may be the reason, and exits 1."""
    machines[0].tell("agent")
    async with watched(machines[0]) as hypervisor:
        await seen(hypervisor, lambda one: one.voice is Voice.AGENT)
    config = tmp_path / "ballonet.toml"
    control = f'[control]\nsocket = "{tmp_path}/control.sock"\n'
    config.write_text(f'{control}[qemu]\nsockets = ["{qmp_folder(machines[0].folder)}/*.sock"]\n')
    code, said, _ = await ballonet("status", "-c", str(config), "--json")
    assert code == 0
    assert {one["name"]: one["voice"] for one in json.loads(said)["guests"]} == {"a": "agent", "b": "balloon"}
    code, said, _ = await ballonet("status", "-c", str(config))
    assert code == 0
    assert "agent" in said
    config.write_text(f'{control}[qemu]\nsockets = ["{tmp_path}/*.sock"]\n')
    code, said, told = await ballonet("status", "-c", str(config))
    assert code == 1
    assert "no guest answers; `ballonet doctor` says more" in " ".join(told.split())


async def test_memory_below_the_line_wakes_the_loop(machines: list[Machine]) -> None:
    """The news come by themselves, with how fast memory falls; a guest without an agent goes on with its balloon's voice."""
    machines[0].tell("agent")
    async with watched(machines[0]) as hypervisor:
        guest = await seen(hypervisor, lambda one: one.voice is Voice.AGENT)
        assert guest.stats is not None
        assert guest.stats.available_bytes is not None
        hypervisor.watch(guest.name, Look(1.0, guest.stats.available_bytes - 10 * MIB))
        await asyncio.sleep(0.5)
        hypervisor.news.clear()
        machines[0].tell("size", 60 * MIB, 60 * MIB)
        async with asyncio.timeout(60):
            await hypervisor.news.wait()
        await seen(hypervisor, lambda one: one.stats is not None and bool(one.stats.rising_per_s))
    async with watched(machines[1]) as hypervisor:
        await seen(hypervisor, lambda one: one.voice is Voice.BALLOON)


async def test_making_ready_says_what_came_of_it(machines: list[Machine]) -> None:
    """What is free is ready at once; what nothing in the guest gives is not."""
    machines[0].tell("agent")
    async with watched(machines[0]) as hypervisor:
        await seen(hypervisor, lambda one: one.voice is Voice.AGENT)
        await hypervisor.make_ready("a", 50 * MIB, 2.0)
        assert (await seen(hypervisor, lambda one: one.ready_share is not None)).ready_share == 1.0
        await hypervisor.make_ready("a", 2000 * MIB, 8.0)
        share = (await seen(hypervisor, lambda one: one.ready_share != 1.0)).ready_share
        assert share is not None
        assert share < 0.3


async def test_a_guest_that_thrashes_is_still_heard(machines: list[Machine]) -> None:
    """A guest that gets a third of its work done, because it waits for its swap disk, still gets its messages out."""
    reports: list[list[str]] = []
    machines[0].on_report = lambda _name, words: reports.append(words)
    machines[0].tell("agent")
    machines[0].tell("size", 300 * MIB, 1000 * MIB)
    machines[0].tell("pace", 4000)
    async with watched(machines[0]) as hypervisor:
        await seen(hypervisor, lambda one: one.voice is Voice.AGENT)
        await asyncio.sleep(3)
        for keep in (400, 360, 330, 300, 280, 260):  # all at once the kernel would kill the workload
            await machines[0].command("balloon", value=keep * MIB)
            await asyncio.sleep(1.5)
        machines[0].tell("start")
        oldest = 0.0
        for _ in range(60):
            await asyncio.sleep(0.1)
            guest = hypervisor.guests()[0]
            assert guest.voice is Voice.AGENT
            oldest = max(oldest, guest.stats_age_s or 0.0)
        done, wanted = map(int, reports[-1][1:3])
        assert done < 0.5 * wanted
        assert oldest < 5.0  # of a look of six seconds and more, on whatever machine


async def test_a_guest_that_stands_still_is_heard(machines: list[Machine]) -> None:
    """Its kernel counts that all of its tasks wait for memory 95 % of the time (PSI full), and a report comes each second."""
    machines[0].tell("agent")
    async with watched(machines[0]) as hypervisor:
        await seen(hypervisor, lambda one: one.voice is Voice.AGENT)
        machines[0].tell("choke")
        await asyncio.sleep(4)
        oldest, before, start = 0.0, stalled_us(hypervisor), asyncio.get_running_loop().time()
        for _ in range(80):
            await asyncio.sleep(0.1)
            oldest = max(oldest, hypervisor.guests()[0].stats_age_s or 0.0)
        share = (stalled_us(hypervisor) - before) / 1e6 / (asyncio.get_running_loop().time() - start)
        assert hypervisor.guests()[0].voice is Voice.AGENT
        assert share > 0.8  # its edges are reports, up to a second apart
        assert oldest < 5.0  # of a look of six seconds and more, on whatever machine


def stalled_us(hypervisor: QemuHypervisor) -> int:
    stats = hypervisor.guests()[0].stats
    assert stats is not None
    return stats.psi_full_us or 0


async def test_qemus_own_agent_is_a_voice_too() -> None:
    """Where ballonet's does not run: PSI and swap through files that it may open."""
    with tempfile.TemporaryDirectory(prefix="ballonet-test-") as folder:
        try:
            saved = await template(512 * MIB, has_software=True)
        except LabUnavailableError as reason:
            pytest.skip(str(reason))
        machine = await saved.restore("a", Path(folder))
        try:
            machine.tell("qga")
            async with watched(machine) as hypervisor:
                guest = await seen(hypervisor, lambda one: one.voice is Voice.GUEST_AGENT)
                assert guest.stats is not None
                assert guest.stats.swap_total_bytes == 512 * MIB - 4096
                assert guest.stats.psi_full_us is not None
        finally:
            await machine.close()


HALF_PLUGGED = Hardware(512 * MIB, plugged_bytes=256 * MIB)


@contextlib.asynccontextmanager
async def with_virtio_mem(hardware: Hardware = HALF_PLUGGED) -> AsyncIterator[Machine]:
    """A guest of 512 MiB, half of it virtio-mem."""
    with tempfile.TemporaryDirectory(prefix="ballonet-test-") as folder:
        try:
            machine = await booted("a", Path(folder), Charge(), hardware)
        except LabUnavailableError as reason:
            pytest.skip(str(reason))
        try:
            yield machine
        finally:
            await machine.close()


async def test_virtio_mem_for_coarse_steps_and_the_balloon_for_fine_ones() -> None:
    """A guest with both keeps the contract; whole blocks are unplugged, and the rest of a MiB is the balloon's."""
    async with with_virtio_mem() as machine, watched(machine) as hypervisor:
        guest = await seen(hypervisor, lambda one: one.keep_bytes == 512 * MIB)
        assert guest.mechanisms == (Mechanism.BALLOON, Mechanism.VIRTIO_MEM)
        assert guest.ceiling_bytes == 512 * MIB
        await check_hypervisor(hypervisor, "a")
        await hypervisor.set_keep("a", 401 * MIB, 5.0)
        await seen(hypervisor, lambda one: one.keep_bytes == 401 * MIB)
        device = (await machine.command("query-memory-devices"))[0]["data"]
        assert device["requested-size"] == 146 * MIB
        balloon = (await machine.command("query-balloon"))["actual"]
        assert balloon + device["size"] == 401 * MIB


async def test_blocks_that_cannot_be_emptied_are_made_up_for_by_the_balloon() -> None:
    """Partial unplug: the guest's kernel has memory of its own in some blocks. The balloon takes from the base what they do not
    give, and the guest keeps what was asked.
    """
    hardware = replace(HALF_PLUGGED, has_movable_blocks=False)
    async with with_virtio_mem(hardware) as machine, watched(machine) as hypervisor:
        await seen(hypervisor, lambda one: one.keep_bytes == 512 * MIB)
        machine.tell("pin", 10_000)
        machine.tell("size", 8 * MIB, 1 << 40)
        await seen(hypervisor, lambda one: one.stats is not None and (one.stats.available_bytes or 0) < 390 * MIB)
        await asyncio.sleep(2)
        await hypervisor.set_keep("a", 256 * MIB, 5.0)
        await seen(hypervisor, lambda one: abs((one.keep_bytes or 0) - 256 * MIB) <= 2 * MIB)
        device = (await machine.command("query-memory-devices"))[0]["data"]
        assert device["requested-size"] == 0
        assert device["size"] > 0


async def test_virtio_mem_alone() -> None:
    """A guest without a balloon is moved in blocks, and its agent is its only voice."""
    async with with_virtio_mem(replace(HALF_PLUGGED, has_balloon=False)) as machine, watched(machine) as hypervisor:
        machine.tell("agent")
        guest = await seen(hypervisor, lambda one: one.voice is Voice.AGENT)
        assert guest.mechanisms == (Mechanism.VIRTIO_MEM,)
        await check_hypervisor(hypervisor, "a")
        await hypervisor.set_keep("a", 401 * MIB, 5.0)
        await seen(hypervisor, lambda one: one.keep_bytes == 402 * MIB)
