"""Fault storms: random hosts, guests, workloads and faults; what must hold whatever happens.

Invariants, after every step: each extent has one owner (the ledger); no more is lent than there is; no guest without swap
that is left its floor is killed for want of memory while others keep what they do not need. After every plan: floors.
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

from ballonet.model.settings import Size
from ballonet.model.units import GIB, MIB
from ballonet.scenarios.scenario import Fault, FaultKind, Group, HostPart, Phase, Scenario
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
)
"""Those that come from a guest. An outside hand may break the budget by itself."""
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
        guests: only the first so many of its guests.
        faults: only the first so many of its faults.
        duration_s: how long.
    """
    source = random.Random(seed)  # noqa: S311 a seed that reproduces, no secret
    count = source.randint(2, 16)
    groups = [_group(source, number, duration_s) for number in range(count)]
    found = [_fault(source, f"g{source.randrange(count)}-0", duration_s) for _ in range(source.randint(0, 4))]
    share = source.uniform(0.55, 1.0)
    groups = groups[:guests]
    promised = sum(group.memory for group in groups)
    needed = sum(group.phases[0].used for group in groups)
    memory = Size(int(max(promised * share, needed * 1.3 + GIB)))
    names = {f"{group.name}-0" for group in groups}
    kept = tuple(fault for fault in found[:faults] if fault.guest in names)
    return Scenario(
        name=f"storm-{seed}",
        about="random",
        duration_s=duration_s,
        warmup_s=PEACE_S,
        host=HostPart(memory=memory),
        guests=tuple(groups),
        faults=kept,
    )


def _group(source: random.Random, number: int, duration_s: float) -> Group:
    memory = source.choice((1, 2, 4)) * GIB
    phases = [Phase(at_s=0.0, used=Size(int(memory * source.uniform(0.2, 0.6))))]
    for at in sorted(source.uniform(1, duration_s) for _ in range(source.randint(0, 4))):
        used, per_s = int(memory * source.uniform(0.2, 0.95)), int(source.uniform(16, 512)) * MIB
        phases.append(Phase(at_s=at, used=Size(used), per_s=Size(per_s)))
    swap = source.random() < 0.7  # noqa: PLR2004 most guests have some
    return Group(name=f"g{number}", memory=Size(memory), phases=tuple(phases), swap=swap, floor=Size(memory // 4))


def _fault(source: random.Random, guest: str, duration_s: float) -> Fault:
    at = source.uniform(0, duration_s)
    until = None if source.random() < 0.5 else at + source.uniform(1, 60)  # noqa: PLR2004 half of them pass
    size = Size(int(source.uniform(0.1, 3) * GIB))
    return Fault(at_s=at, guest=guest, kind=source.choice(KINDS), until_s=until, bytes=size, factor=source.uniform(0.02, 0.5))


def check(
    seed: int, *, guests: int | None = None, faults: int | None = None, without: frozenset[str] = frozenset()
) -> Broken | None:
    """Runs one storm; what broke, or None."""
    scenario = storm(seed, guests=guests, faults=faults)
    what = _broken(with_fields(order(scenario, seed=seed), is_checked=seed % 20 == 0), without)
    return None if not what else Broken(seed=seed, what=what, guests=len(scenario.guests), faults=len(scenario.faults))


def _broken(what: SimOrder, without: frozenset[str]) -> str:
    limits = type(what.limits)(without=without)
    try:
        summary = run_arm(with_fields(what, limits=limits)).result(None).summary
    except LedgerError as error:
        return str(error)
    if summary.budget_violations:
        return f"more was lent than there is in {summary.budget_violations} samples"
    if summary.floor_violations:
        return f"a guest was below its floor in {summary.floor_violations} samples"
    return ""


def sweep(hours: float, first: int = 1) -> Iterator[tuple[float, int, Broken | None]]:
    """Storms from seed `first` on, on all cores, until so many VM-hours are simulated or one breaks.

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
