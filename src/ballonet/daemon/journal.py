"""Log lines: one JSON object each, on stderr. One per decision that changes something or changes its reason."""

import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from ballonet.daemon.changes import Changed
from ballonet.model.plan import Plan

log = logging.getLogger("ballonet.decision")

_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Python's levels as syslog's."""

_OWN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, event, and what else was given."""

    def __init__(self, *, says_priority: bool = False) -> None:
        super().__init__()
        self._says_priority = says_priority

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
        text = json.dumps(line, default=str)
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{text}" if self._says_priority else text


def open_journal() -> None:
    """Sends all logging to stderr. Where that is journald, each line begins with its priority (sd-daemon(3))."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(says_priority=_is_journal()))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _is_journal() -> bool:
    """Whether stderr is the stream that systemd named, and not a file that it was sent to since (systemd.exec(5))."""
    about = os.fstat(sys.stderr.fileno())
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


class Journal:
    """Tells decisions as they change."""

    def __init__(self) -> None:
        self._state = ""

    def tell(self, plan: Plan, changes: Sequence[Changed]) -> None:
        """Logs what is new in a tick."""
        self._tell_host(plan)
        for decision, guest, done in changes:
            log.info(
                "decision",
                extra={
                    "guest": decision.name,
                    "reason": decision.reason.value,
                    "keep_bytes": decision.keep_bytes,
                    "kept_bytes": guest.keep_bytes,
                    "is_command": decision.is_command,
                    "asked": decision.asked,
                    "done": done,
                    "mode": guest.mode.value,
                    "voice": guest.voice.value,
                    "sentence": decision.sentence,
                },
            )

    def _tell_host(self, plan: Plan) -> None:
        """The state of the host (R14): a warning while it is about to run out of memory."""
        if plan.host_state == self._state:
            return
        self._state = plan.host_state
        log.log(
            logging.WARNING if plan.is_alarming else logging.INFO,
            "host",
            extra={
                "state": plan.host_state,
                "memory_bytes": plan.memory_bytes,
                "promised_bytes": plan.promised_bytes,
                "reserve_bytes": plan.reserve.bytes,
                "sentence": plan.reserve.sentence,
                "short": {one.name: one.bytes for one in plan.short},
            },
        )
