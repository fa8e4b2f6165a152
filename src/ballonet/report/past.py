"""The chart of a guest's past: what it kept, held, used and needed."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ballonet.model.text import visible
from ballonet.model.units import GIB
from ballonet.report.figure import new_figure, save
from ballonet.status.words import Sample

LINES: Final[tuple[tuple[str, Callable[[Sample], int | None], str], ...]] = (
    ("keep", lambda one: one.keep_bytes, "-"),
    ("holds on the host", lambda one: one.resident_bytes, ":"),
    ("need", lambda one: one.need_bytes, "--"),
    ("used", lambda one: one.used_bytes, "-"),
)
"""Label, value, line style."""


def draw_past(samples: Sequence[Sample], path: Path) -> None:
    """Writes the chart to `path`; its ending chooses the format.

    Args:
        samples: of one guest, oldest first; at least one.
        path: to write to.

    Raises:
        ReportError: matplotlib is not installed.
    """
    figure = new_figure(10, 4)
    panel = figure.subplots()
    times: Any = [datetime.fromtimestamp(one.at).astimezone() for one in samples]
    for label, value, style in LINES:
        sizes = [None if (size := value(one)) is None else size / GIB for one in samples]
        panel.plot(times, [float("nan") if size is None else size for size in sizes], linestyle=style, label=label)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("GiB")
    panel.set_title(visible(samples[0].guest), fontsize="medium", parse_math=False)
    panel.legend(loc="upper right", ncols=4, fontsize="small")
    save(figure, path)
