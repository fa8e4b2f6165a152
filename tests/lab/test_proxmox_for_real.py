"""The Proxmox VE adapter on a tree of its files, with real QEMU guests behind the sockets. Not a Proxmox VE node."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ballonet.hypervisors.proxmox.adapter import ProxmoxHypervisor
from ballonet.hypervisors.qemu.qmp import QmpSession
from ballonet.lab.machine import Machine
from ballonet.model.snapshot import Guest
from ballonet.model.terms import Terms
from ballonet.model.units import MIB
from ballonet.testing import check_hypervisor

pytestmark = pytest.mark.lab


@contextlib.asynccontextmanager
async def node(root: Path, machines: list[Machine]) -> AsyncIterator[ProxmoxHypervisor]:
    """Machines `a` and `b` as VMs 100 and 101: one is handed over, the other is pvestatd's."""
    for folder in ("etc/pve/qemu-server", "var/run/qemu-server"):
        (root / folder).mkdir(parents=True)
    (root / "proc").symlink_to("/proc")
    for number, machine in enumerate(machines):
        (root / f"var/run/qemu-server/{100 + number}.qmp").symlink_to(machine.qmp_path)
    write(root, 100, "memory: 512\nballoon: 160\nshares: 0\ntags: ballonet_prio_low\n")
    write(root, 101, "memory: 512\nballoon: 160\n")
    hypervisor = ProxmoxHypervisor(root)
    await hypervisor.open()
    try:
        yield hypervisor
    finally:
        await hypervisor.close()


def write(root: Path, vmid: int, text: str) -> None:
    (root / f"etc/pve/qemu-server/{vmid}.conf").write_text(text)


def named(hypervisor: ProxmoxHypervisor, name: str) -> Guest | None:
    return next((guest for guest in hypervisor.guests() if guest.name == name), None)


async def until(holds: Callable[[], object], deadline_s: float = 60.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not holds():
            await asyncio.sleep(0.05)


def says(hypervisor: ProxmoxHypervisor, name: str, text: str) -> bool:
    guest = named(hypervisor, name)
    return guest is not None and text in guest.leave_alone and bool(text) == bool(guest.leave_alone)


async def test_a_vm_keeps_the_contract_and_pvestatds_are_left_alone(tmp_path: Path, machines: list[Machine]) -> None:
    """The contract on a VM that was handed over; the other one is left alone until it is handed over too."""
    async with node(tmp_path, machines) as hypervisor:
        await check_hypervisor(hypervisor, "a")
        assert hypervisor.terms("a") == Terms(floor_bytes=160 * MIB, shares=500)
        await until(lambda: says(hypervisor, "b", "qm set 101 --shares 0"))
        write(tmp_path, 101, "memory: 512\nballoon: 160\nshares: 0\n")
        await until(lambda: says(hypervisor, "b", ""))
        write(tmp_path, 101, "memory: 512\nshares: 0\ntags: ballonet_off\n")
        await until(lambda: says(hypervisor, "b", "ballonet_off"))


async def test_others_can_use_the_socket(tmp_path: Path, machines: list[Machine]) -> None:
    """As Proxmox's own tools do, all the time, while ballonet watches closely."""
    async with node(tmp_path, machines) as hypervisor:
        await until(lambda: says(hypervisor, "a", ""))
        for _ in range(30):
            session = await QmpSession.open(str(machines[0].qmp_path), 3.0)
            await asyncio.sleep(0.05)
            session.close()
            await asyncio.sleep(0.05)
        assert says(hypervisor, "a", "")
        await hypervisor.set_keep("a", 400 * MIB, 5.0)
        await until(lambda: (guest := named(hypervisor, "a")) is not None and guest.keep_bytes == 400 * MIB)
