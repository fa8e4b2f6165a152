"""The beginning of every chart."""

from pathlib import Path
from typing import Any

from ballonet.report.errors import ReportError


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure; width and height in inches. Raises ReportError when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 an extra, loaded when a chart is asked for
    except ImportError as error:
        raise ReportError("charts need matplotlib: pip install 'ballonet[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Writes a chart; what its name ends in says how. Raises ReportError."""
    if path.suffix not in {".png", ".svg", ".pdf"}:
        raise ReportError(f"{path}: a chart is a .png, .svg or .pdf; give it such a name")
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}; write it where there is such a folder, and room") from error
