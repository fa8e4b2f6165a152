"""The simulator against the lab: the same scenarios in both, figure by figure, and how far they are apart.

What is compared is the simulator at the lab's speeds and scale. Its default speeds, those of real KVM, come from published
measurements and cannot be checked on guests under TCG; the mechanism that both sets of speeds drive can.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ballonet.bench.work import LAB_SCALE
from ballonet.lab import curves
from ballonet.lab import run as lab
from ballonet.lab.arm import Progress
from ballonet.lab.gauge import TAKEN_BYTES, Gauge, gauge
from ballonet.model.result import Summary
from ballonet.model.settings import Size
from ballonet.scenarios.files import FilePart, file_script
from ballonet.scenarios.scenario import Scenario, load
from ballonet.sim import run as sim
from ballonet.sim.files import curve
from ballonet.sim.speeds import TCG

CASES: Final = (
    ("consolidation", ("static", "squeezed", "adaptive")),
    ("density-50", ("static", "mom", "adaptive")),
    ("storm-3", ("static", "adaptive")),
    ("spike", ("static", "adaptive")),
)
"""Policies under which guests page much, some, and not at all."""
SHARE_GOAL: Final = 0.05
TIME_GOAL_SHARE: Final = 0.25
READS_GOAL_SHARE: Final = 0.15
LEAST_READS: Final = 20.0
FULL_PER_S: Final = 300.0
"""From here on a disk of 400 requests a second is full for a reader that waits for each, and shows no more."""
LEAST_PAGES: Final = 1000.0
LEAST_TIME_S: Final = 1.0
"""Times below this are compared as if they were this long: samples are a tenth of a second apart."""


class Row(Struct, frozen=True, kw_only=True):
    """One figure of one run, in both."""

    case: str
    figure: str
    lab: float
    sim: float
    error: float
    """Shares: the difference. Times and counts: of the lab's figure."""
    goal: float | None
    """What the error should not exceed; None = for information."""

    @property
    def is_met(self) -> bool:
        """Whether the simulator is near enough."""
        return self.goal is None or abs(self.error) <= self.goal


def calibrate(on_progress: Callable[[str], None] = lambda _text: None) -> list[Row]:
    """Runs every case in lab and simulator. About 13 minutes.

    Raises:
        LabUnavailableError, LabError: as of a lab run.
    """
    on_progress("one guest: how fast balloon and swap are")
    rows = _gauged(asyncio.run(gauge()))
    rows += _missed(asyncio.run(curves.curves(on_progress)))
    for name, policies in CASES:
        scenario = load(name)
        seen = sim.run_arms(scenario, policies, scale=LAB_SCALE, seed=1, speeds=TCG)
        real = asyncio.run(_fly(scenario, policies, on_progress))
        for policy, one, two in zip(policies, real, seen.results, strict=True):
            rows += _compared(f"{name}, {policy}", one, two.summary)
    return rows


async def _fly(scenario: Scenario, policies: tuple[str, ...], on_progress: Callable[[str], None]) -> list[Summary]:
    """Without the arm `ideal`: both are held against the guests' own pace."""

    def progress(policy: str) -> Progress:
        return Progress(lambda stage: on_progress(f"{scenario.name}, {policy}: {stage}"))

    flight = await lab.run_arms(scenario, policies, scale=LAB_SCALE, host_share=None, seed=1, progress=progress)
    return [result.summary for result in flight.results]


def _gauged(seen: Gauge) -> list[Row]:
    case = "one guest"
    return [
        _time(case, "take_untouched_s", seen.take_untouched_s, TAKEN_BYTES / TCG.take_untouched_per_s),
        _time(case, "take_touched_s", seen.take_touched_s, TAKEN_BYTES / TCG.take_touched_per_s),
        _time(case, "return_s", seen.return_s, TAKEN_BYTES / TCG.return_per_s),
        _time(case, "swap_in_pages_per_s", seen.swap_in_pages_per_s, TCG.swap_in_pages_per_s),
    ]


def _missed(points: list[curves.Point]) -> list[Row]:
    """What the simulator's guest would read with as much of its set cached. What else the real one has cached is what it has with
    its balloon nearly empty beyond the set.
    """
    rows = []
    for shape in curves.SHAPES:
        of_shape = [one for one in points if one.shape == shape]
        others = max(0, of_shape[0].cached_bytes - curves.SET_BYTES)
        part = file_script(FilePart(set=Size(curves.SET_BYTES), reads=curves.READS_PER_S, shape=shape), 1)
        misses = curve(part)
        for one in of_shape[1:]:
            cached = min(1.0, max(0, one.cached_bytes - others) / curves.SET_BYTES)
            seen = curves.READS_PER_S * misses(cached)
            row = _time(f"files, {shape}, {one.keep_bytes >> 20} MiB", "reads_per_s", one.reads_per_s, seen, LEAST_READS)
            rows.append(replace(row, goal=READS_GOAL_SHARE if one.reads_per_s < FULL_PER_S else None))
    return rows


def _compared(case: str, real: Summary, seen: Summary) -> list[Row]:
    return [
        _share(case, "throughput_share", real.throughput_share, seen.throughput_share),
        _share(case, "throughput_share_worst", real.throughput_share_worst, seen.throughput_share_worst),
        _time(case, "shortage_s", real.shortage_s, seen.shortage_s, LEAST_TIME_S),
        replace(_time(case, "swap_in_pages", real.swap_in_pages, seen.swap_in_pages, LEAST_PAGES), goal=None),
    ]


def _share(case: str, figure: str, real: float, seen: float) -> Row:
    return Row(case=case, figure=figure, lab=round(real, 4), sim=round(seen, 4), error=round(seen - real, 4), goal=SHARE_GOAL)


def _time(case: str, figure: str, real: float, seen: float, least: float = 0.01) -> Row:
    error = (max(seen, least) - max(real, least)) / max(real, least)
    return Row(case=case, figure=figure, lab=round(real, 3), sim=round(seen, 3), error=round(error, 3), goal=TIME_GOAL_SHARE)
