"""`consolidation` on three domains of a real libvirtd, steered through libvirt and through QMP; into results/domains.json; 7 min.

The same domains in each arm, started by libvirt, with a QMP socket of their own beside libvirt's: fully backed; steered through
it; steered through libvirt; and that again with libvirtd killed in the middle and started five seconds later.
"""

import asyncio
import contextlib
import datetime as dt
import json
import os
import platform
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import libvirt
import msgspec
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.libvirt import events
from ballonet.hypervisors.libvirt.adapter import LibvirtHypervisor
from ballonet.hypervisors.local.process import find_qemu
from ballonet.lab.arm import Order, Progress, fly, qemu
from ballonet.lab.image import build_image
from ballonet.lab.machine import SWAP_IOPS, Hardware, Machine, qmp_folder
from ballonet.lab.template import template
from ballonet.model.limits import Limits
from ballonet.model.tick import Tick
from ballonet.model.units import MIB
from ballonet.report.record import Record
from ballonet.scenarios.scenario import load, scripts
from libvirtd import NOBODY, Libvirtd, running_libvirtd

PATH = Path(__file__).parent / "results" / "domains.json"
SCALE, GUESTS, HOST_SHARE = 32, 3, 0.6
STAGGER_S = 20.0
"""Between two peaks of 16 s: in turn, as ten guests have them on a larger host."""
DOWN_AT_S, DOWN_S = 31.0, 5.0
"""When libvirtd is killed, of 70 s, in the middle of a peak; and for how long it is away."""
DOMAIN = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <os><type machine='pc'>hvm</type><kernel>{folder}/kernel</kernel><initrd>{folder}/initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 psi=1 mitigations=off init_on_alloc=0</cmdline></os>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <devices>
    <disk type='file'><driver name='qemu' type='raw' cache='none'/><source file='{folder}/{name}.swap'/>
      <target dev='vda' bus='virtio'/><iotune><total_iops_sec>{iops}</total_iops_sec></iotune></disk>
    <serial type='file'><source path='{folder}/{name}.console'/></serial>
    <channel type='unix'>
      <source mode='bind' path='{folder}/{name}.port.sock'/><target type='virtio' name='org.ballonet.lab.0'/></channel>
    <memballoon model='virtio'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-qmp'/><qemu:arg value='unix:{folder}/{name}.lab.sock,server=on,wait=off'/>
    <qemu:arg value='-qmp'/><qemu:arg value='unix:{qmp}/{name}.sock,server=on,wait=off'/>
  </qemu:commandline>
</domain>
"""


class DomainMachine(Machine):
    """A guest that libvirt started, as the lab knows its own."""

    domain: Any = None

    async def close(self) -> None:
        """Ends it."""
        for task in self._tasks:
            task.cancel()
        if self.port is not None:
            self.port.close()
        os.close(self.ram)
        if self.qmp is not None:
            self.qmp.close()
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.destroy()


def ram_of(pid: int) -> int:
    """The memfd that backs a domain's RAM."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if "/memfd:" in str(path.readlink()) and path.stat().st_size >= 512 * MIB:
                return os.open(path, os.O_RDONLY)
    raise RuntimeError(f"process {pid} has no RAM in a memfd")


@contextlib.asynccontextmanager
async def domains(daemon: Libvirtd, names: list[str], used_at_rest: int) -> AsyncIterator[list[Machine]]:
    """Started, their workloads idle."""
    folder, connection = daemon.folder, libvirt.open(daemon.uri)
    machines: list[Machine] = []
    try:
        for name in names:
            swap = folder / f"{name}.swap"
            with swap.open("wb") as file:
                file.truncate(512 * MIB)
            os.chown(swap, NOBODY, NOBODY)
            domain = connection.createXML(DOMAIN.format(name=name, folder=folder, qmp=qmp_folder(folder), iops=SWAP_IOPS))
            pid = find_qemu(domain.UUIDString(), Path("/"))
            assert pid is not None
            process = cast("asyncio.subprocess.Process", None)  # libvirt's, not ours
            started = DomainMachine(name, folder, Hardware(512 * MIB), process, ram_of(pid), used_at_rest_bytes=used_at_rest)
            started.domain = domain
            machines.append(started)
            await started.connect(20)
        for machine in machines:
            reports: asyncio.Queue[None] = asyncio.Queue()
            machine.on_report = lambda _name, _words, reports=reports: reports.put_nowait(None)  # type: ignore[misc]
            await machine.open_port()
            async with asyncio.timeout(90):
                for _ in range(3):
                    await reports.get()
        yield machines
    finally:
        for machine in machines:
            await machine.close()
        connection.close()


async def arm(daemon: Libvirtd, policy: str, used_at_rest: int, how: str) -> Record:
    """One arm."""
    scenario = load("consolidation")
    scenario = replace(scenario, guests=tuple(replace(group, count=GUESTS, stagger_s=STAGGER_S) for group in scenario.guests))
    guests = scripts(scenario, SCALE, 1)
    promised = sum(script.memory_bytes for script in guests)
    budget = int(promised * (1.25 if policy == "ideal" else HOST_SHARE))
    order = Order(scenario, guests, policy, budget, SCALE, 1, Limits())
    async with domains(daemon, [script.name for script in guests], used_at_rest) as machines:
        hypervisor: Hypervisor = LibvirtHypervisor(daemon.uri, listens=False) if "libvirt" in how else qemu(order, machines)
        tasks: list[asyncio.Task[None]] = []

        def on_tick(at: float, _tick: Tick) -> None:
            if "killed" in how and at > DOWN_AT_S and not tasks:
                tasks.append(asyncio.create_task(_break(daemon)))

        record = await fly(order, machines, Progress(on_tick=on_tick), hypervisor)
        await asyncio.gather(*tasks)
    record.policy = how
    return record


async def _break(daemon: Libvirtd) -> None:
    daemon.kill()
    print("libvirtd killed", flush=True)
    await asyncio.sleep(DOWN_S)
    await asyncio.to_thread(daemon.start)
    print("libvirtd started again", flush=True)


async def main() -> None:
    """Measures, prints and writes."""
    events.start()
    used_at_rest = (await template(512 * MIB)).base_bytes
    rows: list[dict[str, Any]] = []
    ideal: Record | None = None
    with running_libvirtd(build_image(), "qmp") as daemon:
        for policy, how in (("ideal", "ideal"), ("adaptive", "qmp"), ("adaptive", "libvirt"), ("adaptive", "libvirt, killed")):
            record = await arm(daemon, policy, used_at_rest, how)
            ideal = ideal or record
            rows.append({"through": how} | msgspec.to_builtins(record.result(ideal).summary))
            print(json.dumps(rows[-1]), flush=True)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, guests under TCG, libvirt {libvirt.getVersion()}"
    found = {"date": now, "machine": machine, "guests": GUESTS, "scale": SCALE, "host_share": HOST_SHARE, "rows": rows}
    PATH.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
