"""How little memory a host can have: the least share of what is promised at which a policy still holds."""

import math
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ballonet.bench.work import LAB_SCALE, Where, fly
from ballonet.scenarios.scenario import Scenario, scripts
from ballonet.sim.speeds import KVM, TCG

LEAST_MEAN: Final = 0.99
LEAST_WORST: Final = 0.95
STEP_S: Final = 0.1


class Density(Struct, frozen=True, kw_only=True):
    """One policy's limit."""

    policy: str
    least_share: float | None
    """Of what guests are promised: the least at which it was seen to hold; None = not even all of it."""
    fails_share: float
    """The most at which it was seen not to hold, or just below what guests need."""
    peak_share: float
    """What guests truly need together at the worst moment: nobody can do with less."""
    moving_share: float
    """The same when what a guest frees comes back no faster than its balloon takes: no balloon can do with less."""


def peak_share(scenario: Scenario, seed: int, take_per_s: float = math.inf) -> float:
    """The true peak need of all guests together, of what they are promised.

    Args:
        scenario: the work.
        seed: of its variations.
        take_per_s: how fast a balloon takes what its guest has freed, at full size, bytes a second.
    """
    guests = scripts(scenario, 1, seed)
    keeps, peak = [0.0] * len(guests), 0.0
    courses = [guest.course() for guest in guests]
    for step in range(int(scenario.duration_s / STEP_S)):
        keeps = [
            max(course.used_bytes(step * STEP_S), keep - take_per_s * STEP_S) for course, keep in zip(courses, keeps, strict=True)
        ]
        peak = max(peak, sum(keeps))
    return peak / sum(guest.memory_bytes for guest in guests)


def density(
    where: Where,
    scenario: Scenario,
    policy: str,
    seed: int,
    within_share: float = 0.01,
    on_progress: Callable[[str], None] = lambda _text: None,
) -> Density:
    """Bisects for the least share that holds mean >= 0.99 and worst guest >= 0.95; arguments as of `fly`.

    A policy that holds at a share is taken to hold at every larger one.

    Args:
        where: as of `fly`.
        scenario: as of `fly`.
        policy: a name.
        seed: as of `fly`.
        within_share: ends when the limit is known to this; a run on real guests takes two minutes.
        on_progress: told what begins.
    """
    peak = peak_share(scenario, seed)
    low, high, is_known = int(100 * peak) - 1, 100, False
    while high - low > max(1, round(100 * within_share)):
        middle = (low + high) // 2
        if _holds(where, scenario, policy, middle / 100, seed, on_progress):
            high, is_known = middle, True
        else:
            low = middle
    holds = is_known or _holds(where, scenario, policy, 1.0, seed, on_progress)
    take_per_s = KVM.take_touched_per_s if where == "sim" else TCG.take_touched_per_s * LAB_SCALE
    return Density(
        policy=policy,
        least_share=high / 100 if holds else None,
        fails_share=low / 100,
        peak_share=round(peak, 3),
        moving_share=round(peak_share(scenario, seed, take_per_s), 3),
    )


def _holds(where: Where, scenario: Scenario, policy: str, share: float, seed: int, on_progress: Callable[[str], None]) -> bool:
    on_progress(f"{policy} at {share:.0%}")
    summary = fly(where, scenario, [policy], share, seed).results[0].summary
    return summary.throughput_share >= LEAST_MEAN and summary.throughput_share_worst >= LEAST_WORST
