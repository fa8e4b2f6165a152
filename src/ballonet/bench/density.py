"""How little memory a host can have: the least share of what is promised at which a policy still holds."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ballonet.bench.work import Where, fly
from ballonet.scenarios.scenario import Scenario, scripts

LEAST_MEAN: Final = 0.99
LEAST_WORST: Final = 0.95
STEP_S: Final = 0.1


class Density(Struct, frozen=True, kw_only=True):
    """One policy's limit."""

    policy: str
    least_share: float | None
    """Of what guests are promised, to the percent; None = not even all of it."""
    peak_share: float
    """What guests truly need together at the worst moment: nobody can do with less."""


def peak_share(scenario: Scenario, seed: int) -> float:
    """The true peak need of all guests together, of what they are promised."""
    guests = scripts(scenario, 1, seed)
    courses = [guest.course() for guest in guests]
    steps = int(scenario.duration_s / STEP_S)
    peak = max(sum(course.used_bytes(step * STEP_S) for course in courses) for step in range(steps))
    return peak / sum(guest.memory_bytes for guest in guests)


def density(
    where: Where, scenario: Scenario, policy: str, seed: int, on_progress: Callable[[str], None] = lambda _text: None
) -> Density:
    """Bisects for the least share that holds mean >= 0.99 and worst guest >= 0.95; arguments as of `fly`.

    A policy that holds at a share is taken to hold at every larger one.
    """
    peak = peak_share(scenario, seed)
    low, high = int(100 * peak) - 1, 100
    if not _holds(where, scenario, policy, 1.0, seed, on_progress):
        return Density(policy=policy, least_share=None, peak_share=round(peak, 3))
    while high - low > 1:
        middle = (low + high) // 2
        if _holds(where, scenario, policy, middle / 100, seed, on_progress):
            high = middle
        else:
            low = middle
    return Density(policy=policy, least_share=high / 100, peak_share=round(peak, 3))


def _holds(where: Where, scenario: Scenario, policy: str, share: float, seed: int, on_progress: Callable[[str], None]) -> bool:
    on_progress(f"{policy} at {share:.0%}")
    summary = fly(where, scenario, [policy], share, seed).results[0].summary
    return summary.throughput_share >= LEAST_MEAN and summary.throughput_share_worst >= LEAST_WORST
