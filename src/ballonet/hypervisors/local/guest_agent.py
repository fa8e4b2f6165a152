"""QEMU's own guest agent as a voice, where ballonet's is not: /proc is read through it.

It says the same as ballonet's agent, only when it is asked: swap sizes and PSI, which a balloon driver does not send, and
statistics that are younger than a second. Its port serves one client at a time, which others need too (`qm agent`, libvirt):
so each look is a connection of its own, and a port that does not answer is left alone for a while.

Protocol: docs/interop/qemu-ga-ref and qga/qapi-schema.json in QEMU's source. What comes is a guest's word (R9), bounded in
length and in time.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from msgspec import Struct, field

from ballonet.model.decode import converted, decoded
from ballonet.model.snapshot import GuestStats

log = logging.getLogger(__name__)

PORT: Final = "org.qemu.guest_agent.0"
"""The virtio-serial port's name."""
LOOK_S: Final = 2.0
"""A whole look may take this long."""
LEAVE_S: Final = 0.3
"""For closing what it has open in a guest, when it is ended."""
CLOSEST_S: Final = 0.15
BACKOFF_S: Final = 5.0
"""After a look that failed; doubled each time, up to LONGEST_BACKOFF_S."""
LONGEST_BACKOFF_S: Final = 300.0
OLD_S: Final = 3.0
SPARE_S: Final = 30.0
"""Between two looks while a better voice is heard."""
LINE_BYTES: Final = 65536
READ_BYTES: Final = 16384
FILES: Final = ("/proc/meminfo", "/proc/vmstat", "/proc/pressure/memory")
_KIB, _PAGE = 1024, 4096
_NUMBERS: Final = (
    ("total_bytes", rb"^MemTotal: +(\d{1,12})\b", _KIB),
    ("free_bytes", rb"^MemFree: +(\d{1,12})\b", _KIB),
    ("available_bytes", rb"^MemAvailable: +(\d{1,12})\b", _KIB),
    ("cache_bytes", rb"^Cached: +(\d{1,12})\b", _KIB),
    ("swap_total_bytes", rb"^SwapTotal: +(\d{1,12})\b", _KIB),
    ("swap_free_bytes", rb"^SwapFree: +(\d{1,12})\b", _KIB),
    ("swap_in_bytes", rb"^pswpin (\d{1,15})\b", _PAGE),
    ("swap_out_bytes", rb"^pswpout (\d{1,15})\b", _PAGE),
    ("major_faults", rb"^pgmajfault (\d{1,15})\b", 1),
    ("psi_full_us", rb"^full .*total=(\d{1,18})\b", 1),
)
T = TypeVar("T")


class SilentError(Exception):
    """No answer, or none that this protocol has. The text says what."""


class FileContent(Struct):
    """The answer to guest-file-read."""

    content: str = field(name="buf-b64")


def stats_of(texts: bytes) -> GuestStats | None:
    """The numbers in the texts of FILES, one after the other; None when the most important ones are missing."""
    found = {name: int(match[1]) * unit for name, pattern, unit in _NUMBERS if (match := re.search(pattern, texts, re.MULTILINE))}
    if not {"total_bytes", "available_bytes"} <= set(found):
        return None
    return GuestStats(**found)


class GuestAgent:
    """Looks at one guest through its port, until cancelled."""

    def __init__(self, path: str, name: str, on_stats: Callable[[GuestStats], None]) -> None:
        """Args:
        path: of the unix socket that QEMU serves the port on.
        name: of the guest, for the log.
        on_stats: told of each look; be quick.
        """
        self._path, self._name, self._on_stats = path, name, on_stats
        self.every_s = 1.0
        """How often to look."""
        self._look_now = asyncio.Event()
        self._stats: GuestStats | None = None
        self._seen_at = -1e9
        self._handles: dict[str, int] = {}
        self._stale: list[int] = []
        """Handles of looks that failed, to be closed."""
        self._ids = itertools.count(1)

    @property
    def age_s(self) -> float:
        """Since the last look that succeeded."""
        return time.monotonic() - self._seen_at

    @property
    def stats(self) -> GuestStats | None:
        """What it said last; None while it is silent."""
        return self._stats if self.age_s < OLD_S else None

    def watch(self, every_s: float) -> None:
        """A closer look begins at once."""
        if every_s < self.every_s:
            self._look_now.set()
        self.every_s = every_s

    async def run(self) -> None:
        """Looks until cancelled; what it has open in the guest is closed then, as far as that goes within a moment."""
        try:
            await self._look_again_and_again()
        finally:
            self._stale += [handle for handle in self._handles.values() if handle >= 0]
            self._handles.clear()
            if self._stale and self.stats is not None:
                with contextlib.suppress(SilentError, OSError, TimeoutError):
                    async with asyncio.timeout(LEAVE_S):
                        await self._leave()

    async def _leave(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=LINE_BYTES)
        try:
            await self._close_stale(reader, writer)
        finally:
            writer.transport.abort()

    async def _look_again_and_again(self) -> None:
        backoff_s = 0.0
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._look()
                backoff_s = 0.0
            except (SilentError, OSError, TimeoutError) as error:
                self._stale += [handle for handle in self._handles.values() if handle >= 0]
                self._handles.clear()
                trouble = str(error) or f"no answer in {LOOK_S} s"
                if not backoff_s:
                    log.info("guest agent is silent", extra={"guest": self._name, "trouble": trouble})
                backoff_s = min(LONGEST_BACKOFF_S, max(BACKOFF_S, 2 * backoff_s))
                await asyncio.sleep(backoff_s)
                continue
            # Not wait_for: until Python 3.12 it forgets a cancellation that meets the event (gh-86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(CLOSEST_S, self.every_s)):
                    await self._look_now.wait()
            self._look_now.clear()

    async def _look(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=LINE_BYTES)
        try:
            asked_at = time.monotonic()
            number = next(self._ids)
            # What another client left unread ends at the byte 0xFF, which precedes the answer (guest-sync-delimited).
            writer.write(b"\xff")
            await self._call(reader, writer, "guest-sync-delimited", int, {"id": number}, is_sync=True)
            await self._close_stale(reader, writer)
            texts = b"\n".join([await self._read(reader, writer, path) for path in FILES])
            stats = stats_of(texts)
            if stats is None:
                raise SilentError("its /proc/meminfo has no MemTotal and MemAvailable")
            self._stats, self._seen_at = stats, asked_at
            self._on_stats(stats)
        finally:
            # Not close: that waits for what a guest without an agent will never read.
            writer.transport.abort()

    async def _close_stale(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Of a look that failed: an agent that has lived on keeps its files open, a new one knows nothing of them."""
        while self._stale:
            with contextlib.suppress(SilentError):
                await self._call(reader, writer, "guest-file-close", dict[str, Any], {"handle": self._stale[-1]})
            self._stale.pop()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bytes:
        """A file of /proc from its beginning; opened once, and read anew at each look. Empty where the guest has none."""
        if path not in self._handles:
            try:
                self._handles[path] = await self._call(reader, writer, "guest-file-open", int, {"path": path})
            except SilentError:
                if path == FILES[0]:
                    raise
                self._handles[path] = -1
        handle = self._handles[path]
        if handle < 0:
            return b""
        await self._call(reader, writer, "guest-file-seek", dict[str, Any], {"handle": handle, "offset": 0, "whence": "set"})
        words = {"handle": handle, "count": READ_BYTES}
        answer = await self._call(reader, writer, "guest-file-read", FileContent, words)
        try:
            return base64.b64decode(answer.content, validate=True)
        except ValueError as error:
            raise SilentError(f"guest-file-read: {error}") from error

    async def _call(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        command: str,
        returns: type[T],
        arguments: dict[str, Any],
        *,
        is_sync: bool = False,
    ) -> T:
        writer.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        try:
            if is_sync:
                await reader.readuntil(b"\xff")
            line = await reader.readline()
            answer = decoded(line, dict[str, Any])
            if "return" not in answer:
                raise SilentError(f"{command}: {str(answer.get('error', answer))[:200]}")
            return converted(answer["return"], returns)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise SilentError(f"{command}: {error}") from error
