"""The chart of a comparison: for each scenario, each policy's worst guest."""

from collections.abc import Sequence
from pathlib import Path

from ballonet.model.result import Result
from ballonet.report.figure import new_figure, save


def draw_comparison(results: Sequence[Result], path: Path) -> None:
    """Writes the chart to `path`; its ending chooses the format.

    Args:
        results: of the same policies for each scenario.
        path: to write to.

    Raises:
        ReportError: matplotlib is not installed.
    """
    scenarios = list(dict.fromkeys(one.scenario for one in results))
    policies = list(dict.fromkeys(one.policy for one in results))
    figure = new_figure(10, 0.5 * len(scenarios) + 1.6)
    panel = figure.subplots()
    worst = {(one.scenario, one.policy): one.summary.throughput_share_worst for one in results}
    rows = [[worst.get((scenario, policy), float("nan")) for policy in policies] for scenario in scenarios]
    picture = panel.imshow(rows, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
    panel.set_xticks(range(len(policies)), policies)
    panel.set_yticks(range(len(scenarios)), scenarios)
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            panel.text(x, y, f"{value:.3f}", ha="center", va="center", fontsize="small")
    panel.set_title(f"work done by the worst guest, of its own pace ({results[0].where})", fontsize="medium")
    figure.colorbar(picture)
    save(figure, path)
