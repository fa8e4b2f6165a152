"""Log lines: one JSON object each, on stderr. One per decision that changes something or changes its reason."""

import json
import logging
import sys
from typing import Any, Final

from ballonet.daemon.loop import Tick
from ballonet.model.plan import Decision, Reason
from ballonet.model.snapshot import Guest

log = logging.getLogger("ballonet.decision")

_OWN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, event, and what else was given."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        more = {key: value for key, value in record.__dict__.items() if key not in _OWN}
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **more,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def open_journal() -> None:
    """Sends all logging to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class Journal:
    """Tells decisions as they change."""

    def __init__(self) -> None:
        self._last: dict[str, Reason] = {}

    def tell(self, tick: Tick) -> None:
        """Logs what is new in a tick."""
        for decision, guest in zip(tick.plan.guests, tick.snapshot.guests, strict=True):
            if decision.is_command or self._last.get(decision.name) is not decision.reason:
                self._line(decision, guest)
            self._last[decision.name] = decision.reason

    def _line(self, decision: Decision, guest: Guest) -> None:
        log.info(
            "decision",
            extra={
                "guest": decision.name,
                "reason": decision.reason.value,
                "keep_bytes": decision.keep_bytes,
                "kept_bytes": guest.keep_bytes,
                "is_command": decision.is_command,
                "mode": guest.mode.value,
                "sentence": decision.sentence,
            },
        )
