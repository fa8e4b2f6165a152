"""The chart of a run, one panel an arm: what the guests keep, stacked, against what they need and what the host has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ballonet.model.result import Result
from ballonet.model.units import MIB
from ballonet.report.figure import new_figure, save
from ballonet.report.record import Record


def draw(records: Sequence[Record], results: Sequence[Result], path: Path) -> None:
    """Writes the chart to `path`; its ending chooses the format.

    Args:
        records: one an arm.
        results: theirs, for the titles.
        path: to write to.

    Raises:
        ReportError: matplotlib is not installed.
    """
    figure = new_figure(10, 2.6 * len(records) + 0.6)
    panels = figure.subplots(len(records), squeeze=False, sharex=True, sharey=True)[:, 0]
    for panel, record, result in zip(panels, records, results, strict=True):
        _panel(panel, record, result)
    panels[-1].set_xlabel("seconds")
    panels[0].legend(loc="upper right", ncols=3, fontsize="small")
    save(figure, path)


def _panel(panel: Any, record: Record, result: Result) -> None:
    import numpy as np  # noqa: PLC0415 comes with matplotlib

    times = [at for at, _ in record.occupied]
    guests = [one for one in record.guests.values() if one.keeps]
    keeps = [_over(times, one.keeps) for one in guests]
    needs = sum(_over(times, one.needs) for one in guests)
    panel.stackplot(times, *keeps, alpha=0.55, linewidth=0)
    panel.plot(times, needs, color="black", linewidth=1.6, label="all guests need")
    panel.axhline(record.budget_bytes / MIB, linestyle="--", color="black", linewidth=1, label="the host has")
    for one, top in zip(guests, np.cumsum(keeps, axis=0), strict=True):
        short = [at for (at, _), lacks in zip(one.keeps, one.lacks, strict=True) if lacks and at >= 0]
        panel.plot(short, np.interp(short, times, top), linestyle="", marker=".", markersize=2, color="crimson")
    panel.plot([], [], linestyle="", marker=".", color="crimson", label="a guest is short")
    panel.set_ylim(bottom=0)
    panel.set_xlim(left=0)
    panel.set_ylabel("kept, MiB")
    s = result.summary
    figures = f"mean {s.throughput_share:.3f}, worst guest {s.throughput_share_worst:.3f}, {s.swap_in_pages:,} swap-ins"
    panel.set_title(f"{record.scenario.name}, {record.policy}: {figures}", fontsize="medium", parse_math=False)


def _over(times: Sequence[float], points: Sequence[tuple[float, float]]) -> Any:
    """Sizes in MiB at `times`, between the points that were sampled."""
    import numpy as np  # noqa: PLC0415 comes with matplotlib

    return np.interp(times, [at for at, _ in points], [size / MIB for _, size in points])
