"""The chart of a run: what guests need, keep and hold over time, one panel an arm."""

from collections.abc import Sequence
from pathlib import Path

from ballonet.lab.errors import LabError
from ballonet.lab.record import Record
from ballonet.model.units import GIB


def draw(records: Sequence[Record], path: Path) -> None:
    """Writes the chart to `path`; its ending chooses the format. LabError without matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 an extra, loaded when a chart is asked for
    except ImportError as error:
        raise LabError("charts need matplotlib: pip install 'ballonet[plot]'") from error
    figure = Figure(figsize=(11, 3.2 * len(records)), layout="constrained")
    for panel, record in zip(figure.subplots(len(records), squeeze=False)[:, 0], records, strict=True):
        for one in record.guests.values():
            panel.plot([at for at, _ in one.keeps], [keep / GIB for _, keep in one.keeps], linewidth=1)
        total = panel.twinx()
        total.fill_between(
            [at for at, _ in record.occupied], [used / GIB for _, used in record.occupied], alpha=0.15, color="black"
        )
        total.axhline(record.budget_bytes / GIB, linestyle="--", color="black", linewidth=1)
        total.set_ylim(bottom=0)
        total.set_ylabel("all guests hold, GiB")
        panel.set_ylim(bottom=0)
        panel.set_ylabel("each keeps, GiB")
        panel.set_title(f"{record.scenario.name}, {record.policy} (dashed: the host's memory)")
    panel.set_xlabel("seconds")
    figure.savefig(path)
