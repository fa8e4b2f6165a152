"""`python -m ballonet.history.answer HISTORY`: answers questions about the past, one after the other, in a process of its own.

A question is a line of JSON on stdin; an answer is a line with its status and length, and that many bytes of JSON. Months of
history, read in a thread of the daemon, would hold its loop up, whichever client asks.
"""

import contextlib
import os
import select
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ballonet.history import reader
from ballonet.status.errors import ControlError, Trouble
from ballonet.status.explain import explain
from ballonet.status.words import Explanation

IDLE_S: Final = 60.0
"""After this long without a question the process ends: it takes 30 MB."""
NICE: Final = 10
"""The past can wait for the present."""


class Question(Struct, frozen=True, kw_only=True):
    """What a client wants to know."""

    what: str
    """changes, samples, host_samples or explanation."""
    name: str = ""
    """Of a guest."""
    since: float = 0.0
    """Of an explanation: that moment."""
    until: float = 0.0
    limit: int = 1000


class Head(Struct, frozen=True):
    """Before an answer."""

    status: int
    """Of HTTP."""
    bytes: int


def answer(path: Path, question: Question) -> Any:
    """Raises ControlError."""
    span = (question.since, question.until, question.limit)
    if question.what == "changes":
        return reader.changes(path, question.name, *span)
    if question.what == "samples":
        return reader.samples(path, question.name, *span)
    if question.what == "host_samples":
        return reader.host_samples(path, *span)
    return _explanation(path, question)


def _explanation(path: Path, question: Question) -> Explanation:
    tick = reader.tick_at(path, question.since)
    return explain(tick, question.name, at=tick.at, mode=None)


def told(path: Path, line: bytes) -> tuple[Head, bytes]:
    """The answer to a line; whatever goes wrong is one."""
    try:
        text, status = msgspec.json.encode(answer(path, msgspec.json.decode(line, type=Question))), 200
    except ControlError as error:
        text, status = msgspec.json.encode(Trouble(error=str(error))), error.status
    except Exception as error:  # noqa: BLE001 the client that waits gets a word
        text, status = msgspec.json.encode(Trouble(error=f"history cannot be read: {type(error).__name__}: {error}")), 500
    return Head(status, len(text)), text


def main() -> None:
    """Until nobody asks any more."""
    path = Path(sys.argv[1])
    with contextlib.suppress(OSError):
        os.nice(NICE)
    while select.select([sys.stdin], [], [], IDLE_S)[0] and (line := sys.stdin.buffer.readline()):
        head, text = told(path, line)
        sys.stdout.buffer.write(msgspec.json.encode(head) + b"\n" + text)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
