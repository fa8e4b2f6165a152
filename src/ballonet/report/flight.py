"""All arms of one run."""

from dataclasses import dataclass

from ballonet.model.result import Result
from ballonet.report.record import Record


@dataclass(frozen=True)
class Flight:
    """All arms of a run, in their order."""

    records: tuple[Record, ...]
    results: tuple[Result, ...]
