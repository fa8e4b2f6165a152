"""Log lines: one JSON object each, on stderr. One per decision that changes something or changes its reason."""

import json
import logging
import sys
from typing import Any, Final

from ballonet.model.plan import Decision, Plan, Reason
from ballonet.model.snapshot import Guest
from ballonet.model.tick import Tick
from ballonet.model.units import MIB

log = logging.getLogger("ballonet.decision")

SAME_BYTES: Final = MIB
"""Two amounts this near are one decision: in mode `advise` a plan that nobody carries out is made again each second."""

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
        self._last: dict[str, tuple[Reason, int]] = {}
        self._state = ""

    def tell(self, tick: Tick) -> None:
        """Logs what is new in a tick: another state of the host, another reason, or another amount to be asked for."""
        self._tell_host(tick.plan)
        for decision, guest in zip(tick.plan.guests, tick.snapshot.guests, strict=True):
            reason, told_bytes = self._last.get(decision.name, (None, 0))
            asks_bytes = decision.keep_bytes or 0 if decision.is_command else told_bytes
            if decision.reason is not reason or abs(asks_bytes - told_bytes) > SAME_BYTES:
                self._line(decision, guest)
                self._last[decision.name] = (decision.reason, asks_bytes)
        for name in tick.outcome.failed:
            self._last.pop(name, None)

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
                "heard_by": guest.voice.value,
                "sentence": decision.sentence,
            },
        )
