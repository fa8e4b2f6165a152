"""One arm: a scenario on real guests under one policy, from the first QEMU to the last."""

import asyncio
import contextlib
import math
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ballonet.daemon.loop import Loop
from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.lab.budget import BudgetHost
from ballonet.lab.cgroup import BudgetGroup
from ballonet.lab.errors import LabError
from ballonet.lab.machine import Charge, Hardware, Machine, qmp_folder
from ballonet.lab.mortal import mortal_folder
from ballonet.lab.template import Template, booted, template
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, Snapshot, Voice
from ballonet.model.terms import GuestSettings
from ballonet.model.tick import Tick
from ballonet.report.record import APP_BUCKETS_S, SAMPLE_S, GuestRecord, Record, Work
from ballonet.scenarios.files import FileScript
from ballonet.scenarios.scenario import COLD_BYTES, Fault, GuestScript, Scenario, warm_keeps
from ballonet.sense.observer import Observer

JVM_BYTES = 40 << 20
"""What a Java runtime uses besides its heap, in a guest of the lab."""
HEAP_SHARE = 0.7
"""Of a guest's memory: the largest heap of its JVM."""
WARM_S = 4.0
"""For a guest to reach its first size."""
READ_IN_S = 40.0
"""For a set to be read in: 240 MiB come in 5 s from a disk of 400 requests a second."""
APP_READY_S = 240.0
"""For a server to start and its data to be read in: half a minute where nobody else is busy, and on two cores six are."""
SETTLE_S = 1.0
"""For workloads' reports that are on their way."""


@dataclass(frozen=True)
class Order:
    """What to run."""

    scenario: Scenario
    scripts: tuple[GuestScript, ...]
    policy: str
    budget_bytes: int
    scale: int
    seed: int
    limits: Limits = field(default_factory=Limits)
    voice: Voice = Voice.BALLOON
    """How the daemon hears its guests."""
    starter: str = ""
    """What starts that voice in a guest."""

    @property
    def has_software(self) -> bool:
        """Whether its guests need more than the image has."""
        return self.voice is Voice.GUEST_AGENT or any(script.jvm for script in self.scripts)


@dataclass
class Progress:
    """What a run calls as it goes on. Called often, from the run itself: be quick."""

    on_stage: Callable[[str], None] = lambda _text: None
    """What is being done now, in words."""
    on_tick: Callable[[float, Tick], None] = lambda _at, _tick: None
    """Each tick of the daemon's loop, with the scenario's time."""
    on_grown: Callable[[float, str, int], None] = lambda _at, _name, _available: None
    """A guest's workload has just taken more memory: the scenario's time, the guest, and the bytes that are still available."""


async def run_arm(order: Order, progress: Progress) -> Record:
    """Runs one arm. Every process and file that it makes is gone when it returns, fails or is cancelled.

    Raises:
        LabUnavailableError: this machine cannot run the lab.
        LabError: a guest did not come up.
    """
    progress.on_stage("preparing the guest image; the first time takes about a minute")
    kinds = {_kind(script) for script in order.scripts if not script.plugged_bytes}
    templates = {
        kind: await template(
            kind.memory_bytes,
            has_software=order.has_software,
            fixed_total=kind.fixed_total,
            has_data=kind.has_data,
            has_apps=kind.has_apps,
        )
        for kind in kinds
    }
    group = BudgetGroup.make(order.budget_bytes, len(order.scripts)) if order.policy != "ideal" else None
    machines: list[Machine] = []
    with mortal_folder("ballonet-lab-", cgroup=group.folder if group else None) as folder:
        try:
            charge = Charge(group.procs if group else None)
            progress.on_stage(f"starting {len(order.scripts)} guests")
            for script in order.scripts:
                machines.append(await _guest(script, templates, folder, charge))  # noqa: PERF401 one that fails leaves the others to be closed
            record = await fly(order, machines, progress, qemu(order, machines))
            record.kernel_enforced = group is not None
            if group is not None and group.kills():
                raise LabError(f"the kernel killed {group.kills()} QEMU for exceeding the budget")
            return record
        finally:
            for machine in machines:
                await machine.close()
            if group is not None:
                group.remove()


class Kind(NamedTuple):
    """What guests of one template have in common."""

    memory_bytes: int
    fixed_total: bool
    has_data: bool
    has_apps: bool


async def _guest(script: GuestScript, templates: dict[Kind, Template], folder: Path, charge: Charge) -> Machine:
    if script.plugged_bytes:
        return await booted(
            script.name,
            folder,
            charge,
            Hardware(script.memory_bytes, plugged_bytes=script.plugged_bytes, has_data=bool(script.files)),
        )
    return await templates[_kind(script)].restore(script.name, folder, charge)


def _kind(script: GuestScript) -> Kind:
    return Kind(script.memory_bytes, script.fixed_total, any(_is_driven(script, one) for one in script.files), bool(script.app))


def _is_driven(script: GuestScript, one: FileScript) -> bool:
    """Whether the lab's workload reads this set: what an application reads, it reads by itself."""
    return bool(one.stream_per_s) or not script.app


def qemu(order: Order, machines: list[Machine]) -> QemuHypervisor:
    """The adapter for machines of the lab, each at its own socket."""
    return QemuHypervisor((f"{qmp_folder(machines[0].folder)}/*.sock",), listens=order.voice is not Voice.BALLOON)


async def fly(order: Order, machines: list[Machine], progress: Progress, hypervisor: Hypervisor) -> Record:
    """The scenario on machines that run, steered through `hypervisor`, which is opened and closed here."""
    guests = {script.name: GuestRecord(script, script.course()) for script in order.scripts}
    record = Record(order.scenario, order.policy, order.seed, order.budget_bytes, guests)
    record.accelerator = machines[0].hardware.accelerator
    host = BudgetHost(order.budget_bytes, machines)
    for machine in machines:
        if (script := guests[machine.name].script).jvm:
            heap = f"-Xmx{int(HEAP_SHARE * script.memory_bytes) >> 20}m"
            machine.used_at_rest_bytes += JVM_BYTES
            machine.tell("java", heap, f"-XX:+Use{script.jvm}GC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
        machine.tell(order.starter)
        machine.on_report = lambda name, words: setattr(guests[name], "work", Report.of(words).work)
    if apps := [machine for machine in machines if guests[machine.name].script.app]:
        progress.on_stage(f"starting {len(apps)} applications, and reading their data in")
        await asyncio.gather(*(_begin_app(machine, guests[machine.name]) for machine in apps))
    if order.scenario.warm:
        progress.on_stage("warming the guests: page cache fills what they keep")
        await asyncio.gather(*(_warm(*one) for one in _warm_keeps(order, machines)))
    await asyncio.gather(
        *(_read_in(*one) for one in zip(machines, order.scripts, strict=True) if one[1].files and not one[1].app)
    )
    clock = asyncio.get_running_loop().time
    start = clock() + order.scenario.lead_s + order.scenario.warmup_s
    for machine in machines:
        machine.on_grown = lambda name, available: progress.on_grown(clock() - start, name, available)

    def on_tick(tick: Tick) -> None:
        at = clock() - start
        record.tick(at - tick.took_s, tick.plan, tick.took_s)
        progress.on_tick(at, tick)

    async with asyncio.TaskGroup() as tasks:
        jobs = [tasks.create_task(job) for job in _world(order, machines, start)]
        await _until(start - order.scenario.warmup_s)
        async with _daemon(order, host, on_tick, hypervisor):
            jobs.append(tasks.create_task(_sample(record, host, hypervisor, machines, start)))
            progress.on_stage(f"warming up for {order.scenario.warmup_s:.0f} s")
            await _until(start)
            progress.on_stage(f"running for {order.scenario.duration_s:.0f} s")
            await _until(start + order.scenario.duration_s + SETTLE_S)
        for job in jobs:
            job.cancel()
    return record


def _world(order: Order, machines: list[Machine], start: float) -> Iterator[Coroutine[None, None, None]]:
    """Everything that happens to the guests, whatever ballonet does."""
    for machine, script in zip(machines, order.scripts, strict=True):
        yield _drive(machine, script, order.seed, start)
    by_name = {machine.name: machine for machine in machines}
    for fault in order.scenario.faults:
        yield _break(by_name[fault.guest], fault, order.scale, start)


@contextlib.asynccontextmanager
async def _daemon(order: Order, host: BudgetHost, on_tick: Callable[[Tick], None], hypervisor: Hypervisor) -> AsyncIterator[None]:
    """The real daemon's loop over the real adapter; only the host is the lab's."""
    floors = {script.name: script for script in order.scripts}

    def settings(guest: Guest) -> GuestSettings:
        script = floors[guest.name]
        return GuestSettings(script.terms)

    loop = Loop(Observer(host, hypervisor, settings), hypervisor, order.limits, policy=order.policy, on_tick=on_tick)
    await hypervisor.open()
    running = asyncio.create_task(loop.run())
    try:
        yield
        if running.done():
            running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await hypervisor.close()


async def _sample(record: Record, host: BudgetHost, hypervisor: Hypervisor, machines: list[Machine], start: float) -> None:
    clock = asyncio.get_running_loop().time
    due = clock()
    while True:
        occupied = {machine.name: machine.occupied_bytes() for machine in machines}
        snapshot = Snapshot(host=host.read({}, {}).host, guests=hypervisor.guests())
        record.sample(clock() - start, snapshot, occupied)
        due = max(due + SAMPLE_S, clock())
        await asyncio.sleep(due - clock())


def _size(machine: Machine, used_bytes: int, per_s: int) -> None:
    """What is needed includes what the guest uses before any work."""
    machine.tell("size", max(0, used_bytes - machine.used_at_rest_bytes), per_s)


async def _drive(machine: Machine, script: GuestScript, seed: int, start: float) -> None:
    """Leads one guest through its phases."""
    machine.tell("seed", seed)
    if script.cold_share:
        machine.tell("cold", script.cold_share)
    if not script.has_swap:
        machine.tell("noswap")
    if script.cache_bytes:
        machine.tell("cache", script.cache_bytes)
    _, used_bytes, per_s = script.phases[0]
    _size(machine, used_bytes, per_s)
    machine.tell("pace", script.pace)
    sets = {number: one for number, one in enumerate(script.files) if _is_driven(script, one)}
    streams = {number: one.stream_per_s for number, one in sets.items() if one.at_s <= 0 and one.stream_per_s}
    await _until(start)
    machine.tell("start")
    async with asyncio.TaskGroup() as tasks:
        for number, one in sets.items():
            tasks.create_task(_drive_files(machine, number, one, start, streams))
        for at_s, used_bytes, per_s in script.phases[1:]:
            await _until(start + at_s)
            _size(machine, used_bytes, per_s)


async def _drive_files(machine: Machine, number: int, one: FileScript, start: float, streams: dict[int, int]) -> None:
    """Leads one set of its files through the time in which it is read."""
    if one.at_s > 0:
        await _until(start + one.at_s)
        _read_files(machine, number, one, streams)
    if one.until_s < math.inf:
        await _until(start + one.until_s)
        machine.tell("nofiles", number)
        if streams.pop(number, 0):
            machine.tell("stream", sum(streams.values()))


def _read_files(machine: Machine, number: int, one: FileScript, streams: dict[int, int]) -> None:
    """Begins to read a set; all streams of a guest are one."""
    if one.reads_per_s:
        each, mapped = one.read_bytes, int(one.is_mapped)
        machine.tell("files", number, one.set_bytes // each * each, one.reads_per_s, one.shape, each, mapped)
    if one.stream_per_s:
        streams[number] = one.stream_per_s
        machine.tell("stream", sum(streams.values()))


async def _break(machine: Machine, fault: Fault, scale: int, start: float) -> None:
    """Does what a fault says."""
    await _until(start + fault.at_s)
    if fault.kind == "vanish":
        machine.signal(signal.SIGKILL)
    elif fault.kind == "outside-hand":
        await machine.command("balloon", value=fault.bytes // scale)
    elif fault.kind == "hoard":
        machine.tell("hoard", fault.bytes // scale)
    else:
        machine.signal(signal.SIGSTOP)
        if fault.until_s is not None:
            await _until(start + fault.until_s)
            machine.signal(signal.SIGCONT)


def _warm_keeps(order: Order, machines: list[Machine]) -> Iterator[tuple[Machine, GuestScript, int]]:
    keeps = warm_keeps(order.scripts, order.budget_bytes)
    for machine, script in zip(machines, order.scripts, strict=True):
        yield machine, script, keeps[script.name]


async def _warm(machine: Machine, script: GuestScript, keep_bytes: int) -> None:
    """Has one guest run with `keep_bytes`, use what it needs at first, and fill the rest with page cache."""
    await machine.command("balloon", value=keep_bytes)
    used_bytes = script.phases[0][1]
    _size(machine, used_bytes, used_bytes)
    await asyncio.sleep(WARM_S)
    sets = sum(one.set_bytes for one in script.files if one.at_s <= 0)
    machine.tell("cache", max(0, keep_bytes - used_bytes - sets - COLD_BYTES))
    await _until_it_reports(machine, 4 * WARM_S)


async def _until_it_reports(machine: Machine, within_s: float) -> None:
    """The workload does one thing at a time: when it reports again, it has done what it was told."""
    await asyncio.sleep(SETTLE_S)  # a report that was on its way is no word of that
    told = machine.on_report
    done = asyncio.Event()
    machine.on_report = lambda _name, _words: done.set()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), within_s)
    machine.on_report = told


async def _read_in(machine: Machine, script: GuestScript) -> None:
    """Has one guest read in what it reads from the beginning on, before anybody may take of its memory."""
    streams: dict[int, int] = {}
    for number, one in enumerate(script.files):
        if one.at_s <= 0:
            _read_files(machine, number, one, streams)
    await _until_it_reports(machine, READ_IN_S)


async def _begin_app(machine: Machine, guest: GuestRecord) -> None:
    """Has one guest run its application, and learns what it uses by that. Raises LabError when it does not."""
    script, told = guest.script, machine.on_report
    seen: asyncio.Queue[Report | str] = asyncio.Queue()
    machine.on_report = lambda _name, words: seen.put_nowait(Report.of(words))
    machine.on_failed = seen.put_nowait
    machine.tell("app", script.app, script.app_rate)
    try:
        async with asyncio.timeout(APP_READY_S):
            while isinstance(report := await seen.get(), str) or not (report.has_app and report.work.done):
                if isinstance(report, str):
                    raise LabError(f"{script.app} did not come up in {machine.name}: {report}; {machine.console_tail(20)}")
    except TimeoutError as error:
        raise LabError(f"{script.app} in {machine.name} did not answer its client in {APP_READY_S:.0f} s") from error
    finally:
        machine.on_report = told
    machine.used_at_rest_bytes = report.total_bytes - report.available_bytes


async def _until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))


class Report(NamedTuple):
    """A report of lab/image/workload.py."""

    work: Work
    total_bytes: int
    available_bytes: int

    @property
    def has_app(self) -> bool:
        """Whether it is an application's client that counts."""
        return len(self.work.latencies) == len(APP_BUCKETS_S)

    @classmethod
    def of(cls, words: list[str]) -> "Report":
        """From its words."""
        done, wanted, swap_in, ooms = map(int, words[1:5])
        return cls(Work(done, wanted, swap_in, ooms, [int(count) for count in words[9].split(",")]), int(words[6]), int(words[7]))
