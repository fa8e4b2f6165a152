"""Fault storms: random hosts, guests, workloads and faults; what must hold whatever happens.

Invariants, after every step: each extent has one owner (the ledger); no more is lent than there is; no guest without swap
that is left its floor is killed for want of memory while others keep what they do not need. After every plan: floors. After every
tick (`fair.py`): no guest is below what it uses while the host has that much free; nobody holds more than its part while another
lacks its own.
"""

import os
import random
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace as with_fields
from multiprocessing import get_context
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ballonet.model.settings import Size
from ballonet.model.units import GIB, MIB
from ballonet.scenarios.files import FilePart
from ballonet.scenarios.scenario import Fault, FaultKind, Group, HostPart, LimitPart, Phase, Scenario
from ballonet.sim.fair import FairWatch, UnfairError
from ballonet.sim.ledger import LedgerError
from ballonet.sim.run import SimOrder, order, run_arm

KINDS: Final[tuple[FaultKind, ...]] = (
    "slow",
    "stuck",
    "cannot-take",
    "hidden-floor",
    "hoard",
    "liar",
    "stale",
    "vanish",
    "hang",
    "no-driver",
    "passthrough",
    "inert",
    "thrash",
    "empty",
    "host-swapped",
    "reboot",
)
"""Those that come from a guest or from its host. An outside hand may break the budget by itself."""
EARLY: Final = frozenset({"inert", "no-driver", "passthrough"})
"""What a guest has from its start on, or not at all."""
PEACE_S = 30.0
"""Warm-up: from everything promised to what the host has."""


class Broken(Struct, frozen=True, kw_only=True):
    """An invariant that did not hold."""

    seed: int
    what: str
    guests: int
    faults: int


def storm(seed: int, *, guests: int | None = None, faults: int | None = None, duration_s: float = 3600.0) -> Scenario:
    """A random scenario; the same seed gives the same one.

    Args:
        seed: of everything.
        guests: only this many of its guests, the first ones.
        faults: only this many of its faults, the first ones.
        duration_s: how long.
    """
    source = random.Random(seed)  # noqa: S311 a seed that reproduces, no secret
    count = source.randint(2, 16)
    groups = [_group(source, number, duration_s) for number in range(count)]
    groups = [replace(group, files=_files(seed, number, group, duration_s)) for number, group in enumerate(groups)]
    found = [_fault(source, f"g{source.randrange(count)}-0", duration_s) for _ in range(source.randint(0, 4))]
    share = source.uniform(0.55, 1.0)
    host = _host(source, duration_s)
    groups = groups[:guests]
    ordinary = [group for group in groups if not group.huge]
    promised = sum(group.memory for group in ordinary)
    needed = sum(group.phases[0].used for group in ordinary)
    memory = Size(int(max(promised * share, needed * 1.3 + GIB)) + max((phase.used for phase in host.own), default=0))
    names = {f"{group.name}-0" for group in groups}
    kept = tuple(fault for fault in found[:faults] if fault.guest in names)
    return Scenario(
        name=f"storm-{seed}",
        about="random",
        duration_s=duration_s,
        warmup_s=PEACE_S,
        host=replace(host, memory=memory),
        guests=tuple(groups),
        faults=kept,
        limits=_limits(source, ordinary),
    )


def _host(source: random.Random, duration_s: float) -> HostPart:
    """Its own programs: memory, CPU, disk."""
    own: list[Phase] = []
    if source.random() < 0.3:  # noqa: PLR2004 some hosts do more than run guests
        own = [Phase(at_s=0.0, used=Size(GIB // 4))]
        for at in sorted(source.uniform(1, duration_s) for _ in range(source.randint(1, 4))):
            own.append(Phase(at_s=at, used=Size(int(source.uniform(0.1, 1.0) * GIB)), per_s=Size(64 * MIB)))
    busy, disk = (source.uniform(0.0, 0.5) if source.random() < 0.3 else 0.0 for _ in range(2))  # noqa: PLR2004 as above
    wobble = Size(64 * MIB) if own and source.random() < 0.3 else Size(0)  # noqa: PLR2004 as above
    return HostPart(memory=Size(GIB), own=tuple(own), busy_share=busy, disk_share=disk, wobble=wobble)


def _limits(source: random.Random, groups: list[Group]) -> tuple[LimitPart, ...]:
    """A limit around some guests, on some hosts: roomy enough for what they use at the start."""
    if source.random() > 0.25 or len(groups) < 4:  # noqa: PLR2004 some hosts
        return ()
    inside = groups[: len(groups) // 2]
    needed = sum(group.phases[0].used for group in inside)
    memory = Size(int(max(needed * 1.4 + GIB // 2, source.uniform(0.5, 0.9) * sum(group.memory for group in inside))))
    return (LimitPart(name="/machine.slice", memory=memory, guests=tuple(group.name for group in inside)),)


def _group(source: random.Random, number: int, duration_s: float) -> Group:
    memory = source.choice((1, 2, 4)) * GIB
    phases = [Phase(at_s=0.0, used=Size(int(memory * source.uniform(0.2, 0.6))))]
    for at in sorted(source.uniform(1, duration_s) for _ in range(source.randint(0, 4))):
        used, per_s = int(memory * source.uniform(0.2, 0.95)), int(source.uniform(16, 512)) * MIB
        phases.append(Phase(at_s=at, used=Size(used), per_s=Size(per_s)))
    if source.random() < 0.05:  # noqa: PLR2004 one that leaks
        used, per_s = int(0.97 * memory), int(source.uniform(0.5, 8) * MIB)
        phases = [phases[0], Phase(at_s=source.uniform(1, duration_s), used=Size(used), per_s=Size(per_s))]
    swap = source.random() < 0.7  # noqa: PLR2004 most guests have some
    lives = source.random() < 0.1  # noqa: PLR2004 some come and go
    is_cached = source.random() < 0.2  # noqa: PLR2004 some live on files
    return Group(
        name=f"g{number}",
        memory=Size(memory),
        phases=tuple(phases),
        swap=swap,
        floor_bytes=Size(memory // 4),
        shares=source.choice((500, 1000, 1000, 1000, 2000)),
        swap_known=source.random() < 0.3,  # noqa: PLR2004 those with an agent
        starts_s=source.uniform(0, duration_s / 2) if lives else None,
        stops_s=source.uniform(duration_s / 2, duration_s) if lives and source.random() < 0.5 else None,  # noqa: PLR2004 half
        touches_all=source.random() < 0.2,  # noqa: PLR2004 Windows
        huge=source.random() < 0.05,  # noqa: PLR2004 one in twenty
        page_cache=Size(memory // 4) if is_cached else Size(0),
        cache_worth=source.choice((0.0, 0.1, 0.3)) if is_cached else 0.0,
    )


def _files(seed: int, number: int, group: Group, duration_s: float) -> tuple[FilePart, ...]:
    """What some of them read from their disks. Of a source of its own: a seed gives the same storm as before but for that."""
    source = random.Random(f"{seed}/files/{number}")  # noqa: S311 a seed that reproduces
    if group.huge or source.random() > 0.25:  # noqa: PLR2004 one in four
        return ()
    begins = source.choice((0.0, source.uniform(0, duration_s / 2)))
    ends = source.choice((None, source.uniform(duration_s / 2 + 1, duration_s)))
    if source.random() < 0.3:  # noqa: PLR2004 a backup
        return (FilePart(stream=Size(int(source.uniform(4, 256)) * MIB), at_s=begins, until_s=ends),)
    part = FilePart(
        set=Size(int(group.memory * source.uniform(0.05, 0.8))),
        reads=source.uniform(20, 2000),
        shape=source.choice(("uniform", "zipf", "hot-0.1")),
        read_bytes=source.choice((4096, 8192, 16384)),
        mapped=source.random() < 0.2,  # noqa: PLR2004 some
        at_s=begins,
        until_s=ends,
    )
    return (part,)


def _fault(source: random.Random, guest: str, duration_s: float) -> Fault:
    kind = source.choice(KINDS)
    at = -PEACE_S if kind in EARLY else source.uniform(0, duration_s)
    until = None if kind in EARLY or source.random() < 0.5 else at + source.uniform(1, 60)  # noqa: PLR2004 half of them pass
    size = Size(int(source.uniform(0.1, 3) * GIB))
    if kind == "thrash":
        size = Size(int(source.uniform(1, 64)) * MIB)
    return Fault(at_s=at, guest=guest, kind=kind, until_s=until, bytes=size, factor=source.uniform(0.02, 0.5))


def check(
    seed: int, *, guests: int | None = None, faults: int | None = None, without: frozenset[str] = frozenset()
) -> Broken | None:
    """Runs one storm; what broke, or None."""
    scenario = storm(seed, guests=guests, faults=faults)
    what = _broken(with_fields(order(scenario, seed=seed), is_checked=seed % 20 == 0), without)
    return None if not what else Broken(seed=seed, what=what, guests=len(scenario.guests), faults=len(scenario.faults))


def _broken(what: SimOrder, without: frozenset[str]) -> str:
    limits = type(what.limits)(without=without)
    watch = FairWatch(what.scenario)
    try:
        summary = run_arm(with_fields(what, limits=limits), on_tick=watch.look).result(None).summary
    except (LedgerError, UnfairError) as error:
        return str(error)
    if summary.floor_violations:
        return f"a guest was below its floor in {summary.floor_violations} samples"
    return ""


def sweep(hours: float, first: int = 1) -> Iterator[tuple[float, int, Broken | None]]:
    """Storms from seed `first` on, on all cores, until `hours` VM-hours are simulated or one breaks.

    Yields VM-hours done so far, the seed, and what broke.
    """
    done, seed = 0.0, first
    # Not forked: a test runner's threads and event loops stay where they are.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        running: deque[tuple[int, Future[Broken | None]]] = deque()
        while done < hours or running:
            while done + sum(vm_hours(storm(one)) for one, _ in running) < hours and len(running) < 2 * (os.cpu_count() or 1):
                running.append((seed, pool.submit(check, seed)))
                seed += 1
            if not running:
                return
            number, future = running.popleft()
            broken = future.result()
            done += vm_hours(storm(number))
            yield done, number, broken
            if broken is not None:
                pool.shutdown(cancel_futures=True)
                return


def shrink(broken: Broken) -> Broken:
    """The same seed with as few guests and faults as still break."""
    best = broken
    for guests in range(1, broken.guests + 1):
        for faults in range(broken.faults + 1):
            if (found := check(broken.seed, guests=guests, faults=faults)) is not None:
                return found
    return best


def vm_hours(scenario: Scenario) -> float:
    """What a storm simulates."""
    return len(scenario.guests) * (scenario.duration_s + scenario.warmup_s) / 3600
