"""The daemon's end of answer.py: one question at a time, a bounded number of them, each within a bounded time."""

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import Final

import msgspec

from ballonet.history.answer import Head, Question
from ballonet.status.errors import BusyError, ControlError, Trouble

log = logging.getLogger(__name__)

WAITING: Final = 16
"""Questions that may wait; a client that asks one more is told to come again."""
ANSWER_S: Final = 25.0
"""A client waits for 30."""
LINE_BYTES: Final = 64 << 20
"""Of an answer: 100,000 changes are 30 MB."""


class Asker:
    """Starts the process when there is a question, and again when it has ended."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: of the history.
        """
        self._path = path
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def ask(self, question: Question) -> msgspec.Raw:
        """The answer, as JSON. Raises ControlError."""
        if self._waiting >= WAITING:
            raise BusyError(f"{WAITING} questions about the past wait already; ask again in a moment")
        self._waiting += 1
        try:
            async with asyncio.timeout(ANSWER_S), self._turn:
                line = msgspec.json.encode(question) + b"\n"
                try:
                    head, text = await self._exchange(line)
                except BusyError:  # it had just ended, of itself or killed
                    head, text = await self._exchange(line)
        except TimeoutError as error:
            raise BusyError(f"no answer within {ANSWER_S:.0f} s; ask for a shorter time, or for fewer rows") from error
        finally:
            self._waiting -= 1
        if head.status == 200:  # noqa: PLR2004 of HTTP
            return msgspec.Raw(text)
        trouble = ControlError(msgspec.json.decode(text, type=Trouble).error)
        trouble.status = head.status
        raise trouble

    async def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _exchange(self, line: bytes) -> tuple[Head, bytes]:
        """One question; an answer that was not waited for ends the process: it would be the next one's."""
        is_whole = False
        try:
            process = await self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(line)
            await process.stdin.drain()
            head = msgspec.json.decode(await process.stdout.readline(), type=Head)
            text = await process.stdout.readexactly(head.bytes)
            is_whole = True
        except (OSError, ValueError, EOFError) as error:
            raise BusyError(f"history cannot be read now: {type(error).__name__}: {error}") from error
        finally:
            if not is_whole:
                await self.close()
        return head, text

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None or self._process.stdin is None:
            words = (sys.executable, "-P", "-m", "ballonet.history.answer", str(self._path))
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, limit=LINE_BYTES)
        return self._process
