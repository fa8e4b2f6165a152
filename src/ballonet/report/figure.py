"""The beginning of every chart."""

from typing import Any

from ballonet.report.errors import ReportError


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure; width and height in inches. Raises ReportError when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 an extra, loaded when a chart is asked for
    except ImportError as error:
        raise ReportError("charts need matplotlib: pip install 'ballonet[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")
