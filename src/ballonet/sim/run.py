"""`ballonet simulate`: arms of a scenario on simulated guests, with the production loop on top. Same seed, same bytes."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from ballonet.daemon.loop import Loop
from ballonet.daemon.rooms import Asking, RoomBook
from ballonet.model.limits import Limits
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Guest
from ballonet.model.terms import GuestSettings
from ballonet.model.tick import Tick
from ballonet.report.flight import Flight
from ballonet.report.record import GuestRecord, Record
from ballonet.scenarios.scenario import GuestScript, Scenario, members, scripts, warm_keeps
from ballonet.sense.observer import Observer
from ballonet.sim import beasts, clairvoyant, clock, on_top
from ballonet.sim.esx import EsxFace
from ballonet.sim.hyperv import HypervFace
from ballonet.sim.hypervisor import SimHypervisor
from ballonet.sim.speeds import KVM, Speeds
from ballonet.sim.world import SimWorld

IDEAL_SHARE = 1.25
"""The host of the `ideal` arm, of what is promised: every guest fully backed, and the reserve on top."""
STEERED_HOSTS: Final = {f"{face.below}{on_top.ON_TOP}": face for face in (EsxFace, HypervFace)}
"""Arms in which ballonet stands on another's loop."""
SERIES_S = 3600.0
"""A longer run keeps no series of samples; its chart would be a smear anyway."""


@dataclass(frozen=True)
class SimOrder:
    """What to simulate."""

    scenario: Scenario
    scripts: tuple[GuestScript, ...]
    policy: str
    budget_bytes: int
    scale: int = 1
    seed: int = 1
    limits: Limits = field(default_factory=Limits)
    speeds: Speeds = KVM
    is_checked: bool = False
    """Check after every step that every extent has one owner."""


def order(
    scenario: Scenario,
    *,
    policy: str = "adaptive",
    scale: int = 1,
    host_share: float | None = None,
    seed: int = 1,
    limits: Limits | None = None,
    speeds: Speeds = KVM,
) -> SimOrder:
    """An order for one arm; arguments as of `run_arms`."""
    guests = scripts(scenario, scale, seed)
    promised = sum(script.memory_bytes for script in guests)
    budget = scenario.host.memory // scale if host_share is None else int(promised * host_share)
    if policy == "ideal":
        budget = int(promised * IDEAL_SHARE)
    return SimOrder(scenario, guests, policy, budget, scale, seed, limits or Limits(), speeds)


def run_arm(
    what: SimOrder,
    on_progress: Callable[[float], None] = lambda _share: None,
    on_tick: Callable[[float, Tick, SimWorld], None] = lambda _at, _tick, _world: None,
) -> Record:
    """Simulates one arm.

    Args:
        what: to simulate.
        on_progress: told how much of it is done, a hundred times at most.
        on_tick: told of every tick of the daemon's loop.
    """
    return clock.run(_fly(what, on_progress, on_tick))


def run_arms(
    scenario: Scenario,
    policies: Sequence[str],
    *,
    scale: int = 1,
    host_share: float | None = None,
    seed: int = 1,
    limits: Limits | None = None,
    speeds: Speeds = KVM,
    on_progress: Callable[[str, float], None] = lambda _policy, _share: None,
) -> Flight:
    """Simulates `scenario` under each policy, and the clairvoyant allocator for their regret.

    Args:
        scenario: what to simulate.
        policies: names, in the order to run them.
        scale: sizes are divided by it.
        host_share: the host's memory as a share of what guests are promised; None = as the scenario says.
        seed: of the scenario's variations.
        limits: of every decision; rules can be switched off here. None = the defaults.
        speeds: of balloons and swap.
        on_progress: told how far the arm of a policy is.
    """
    one = order(scenario, scale=scale, host_share=host_share, seed=seed, limits=limits, speeds=speeds)
    oracle = run_arm(replace(one, policy=clairvoyant.NAME), partial(on_progress, clairvoyant.NAME))
    records = []
    for policy in policies:
        own = order(scenario, policy=policy, scale=scale, host_share=host_share, seed=seed, limits=limits, speeds=speeds)
        records.append(run_arm(own, partial(on_progress, policy)))
    return Flight(tuple(records), tuple(record.result(None, oracle) for record in records))


async def _fly(what: SimOrder, on_progress: Callable[[float], None], on_tick: Callable[[float, Tick, SimWorld], None]) -> Record:
    scenario = what.scenario
    start = scenario.lead_s + scenario.warmup_s
    limits = [(limit.name, int(limit.memory), members(scenario, limit.guests)) for limit in scenario.limits]
    world = SimWorld(scenario.host, what.budget_bytes, what.scripts, what.speeds, start, what.scale, limits)
    world.begin(warm_keeps(what.scripts, what.budget_bytes) if scenario.warm else {})
    if world.used_bytes > what.budget_bytes and what.policy != "ideal":
        raise SettingsError(f"{scenario.name}: guests need more at the start than the host has; give it more memory")
    beasts.release(world, scenario.faults, what.scale)
    book = RoomBook()
    _ask_for_rooms(world, what.scripts, book)
    keeps = scenario.duration_s <= SERIES_S
    guests = {guest.script.name: GuestRecord(guest.script, guest.course, keeps, guest.work) for guest in world.guests}
    record = Record(scenario, what.policy, what.seed, what.budget_bytes, guests, where="sim", keeps_series=keeps)
    world.on_step = _Recorder(record, world, on_progress, is_checked=what.is_checked).step

    def told(tick: Tick) -> None:
        at = tick.at - start
        book.note(tick.plan.rooms, tick.at)
        record.tick(at, tick.plan, tick.took_s)
        on_tick(at, tick, world)

    hypervisor = SimHypervisor(world)
    await hypervisor.open()
    try:
        await asyncio.sleep(scenario.lead_s)
        async with _controlled(what, world, hypervisor, told, book):
            await asyncio.sleep(scenario.warmup_s + scenario.duration_s)
    finally:
        await hypervisor.close()
    world.check()
    world.settle()
    return record


def _ask_for_rooms(world: SimWorld, scripts: Sequence[GuestScript], book: RoomBook) -> None:
    """As a hook does that waits a while, and lets the VM start then."""
    for script in scripts:
        if script.room_s is None or script.starts_s is None:
            continue
        at = world.start_s + script.starts_s - script.room_s
        size = script.memory_bytes
        asking = Asking(key=script.name, name=script.name, asked_bytes=size, least_bytes=size, waits_s=max(1.0, script.room_s))
        world.deeds.append((at, partial(_ask, book, asking, at)))
    world.deeds.sort(key=lambda deed: deed[0])


def _ask(book: RoomBook, asking: Asking, at: float) -> None:
    book.ask(asking, at)


@contextlib.asynccontextmanager
async def _controlled(
    what: SimOrder, world: SimWorld, hypervisor: SimHypervisor, on_tick: Callable[[Tick], None], book: RoomBook
) -> AsyncIterator[None]:
    """The production loop, or the clairvoyant in its place."""
    work = clairvoyant.allocate(world) if what.policy == clairvoyant.NAME else _lives(what, world, hypervisor, on_tick, book)
    task = asyncio.create_task(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _lives(
    what: SimOrder, world: SimWorld, hypervisor: SimHypervisor, on_tick: Callable[[Tick], None], book: RoomBook
) -> None:
    """One daemon after the other: each is killed at the next fault of the kind `restart`, with all that it remembers."""
    clock = asyncio.get_running_loop().time
    by_name = {script.name: GuestSettings(script.terms) for script in what.scripts}

    def settings(guest: Guest) -> GuestSettings:
        return by_name[guest.name]

    if (face := STEERED_HOSTS.get(what.policy)) is not None:
        await on_top.run(face(hypervisor), hypervisor, what.limits, settings, on_tick)
    ends = sorted(world.start_s + fault.at_s for fault in what.scenario.faults if fault.kind == "restart")
    for end in (*ends, math.inf):
        eye = Observer(world, hypervisor, settings, lambda: book.asked(clock()))
        loop = Loop(eye, hypervisor, what.limits, policy=what.policy, on_tick=on_tick, clock=clock)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end if end < math.inf else None):
                await loop.run()


class _Recorder:
    """Samples a world after each step: those guests in which something changed."""

    def __init__(self, record: Record, world: SimWorld, on_progress: Callable[[float], None], *, is_checked: bool) -> None:
        self._record, self._world, self._on_progress = record, world, on_progress
        self._is_checked = is_checked
        self._told = 0

    def step(self, now: float, dt: float) -> None:
        at = now - self._world.start_s
        if self._is_checked:
            self._world.check()
        self._record.host_sample(at, self._world.guests_bytes, self._world.own_bytes)
        self._record.budget_violations += self._world.exceeded() if at >= 0 else 0
        for guest in self._world.stirred:
            if not guest.is_gone:
                self._record.guests[guest.script.name].sample(at, guest.keep_bytes, guest.need_bytes, dt)
        self._record.inflations(at, sum(guest.asked < guest.memory.keep for guest in self._world.stirred))
        whole = self._world.start_s + self._record.scenario.duration_s
        if int(100 * now / whole) > self._told:
            self._told = int(100 * now / whole)
            self._on_progress(min(1.0, now / whole))
