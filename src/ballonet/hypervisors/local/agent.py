"""The host end of an agent's channel: what a guest pushes, treated as hostile.

Whatever comes is bounded: a line in length, lines in number, numbers in size, messages in order. Who sends more than it may
is read more slowly, and who sends nonsense is not read for a while: nothing is buffered for it, and nobody waits for it.
What it says is a guest's claim like any other (R9).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from ballonet.model.decode import UndecodableError, decoded
from ballonet.model.snapshot import GuestStats

log = logging.getLogger(__name__)

PORT: Final = "org.ballonet.agent.0"
"""The virtio-serial port's name."""
LINE_BYTES: Final = 4096
"""Longer than any message: a report has 450 bytes."""
LINES_PER_S: Final = 100.0
"""An agent in distress sends 30 a second."""
BURST: Final = 50
PENALTY_S: Final = 10.0
"""After nonsense nothing is read for this long; doubled each time, up to LONGEST_PENALTY_S."""
LONGEST_PENALTY_S: Final = 300.0
RETRY_S: Final = 1.0
READY_OLD_S: Final = 60.0
"""How long what a guest could make ready says something about the next time."""
OLD_S: Final = 2.5
"""After this long without a report an agent is no voice any more: it sends one each second."""

Bytes = Annotated[int, Meta(ge=0, le=1 << 50)]
Count = Annotated[int, Meta(ge=0, le=1 << 62)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Message(Struct, frozen=True, kw_only=True):
    """One line of an agent's. Keys that are not here are from a newer one, and left alone."""

    agent: Annotated[int, Meta(ge=1)]
    """The version that it speaks."""
    sequence: Count
    why: Annotated[str, Meta(max_length=16)]
    """`hello`, `report`, `low` (below the line), `psi-some`, `psi-full`, `ready` (the answer to make ready)."""
    total_bytes: Bytes
    available_bytes: Bytes
    free_bytes: Bytes | None = None
    cache_bytes: Bytes | None = None
    swap_total_bytes: Bytes | None = None
    swap_free_bytes: Bytes | None = None
    swap_in_bytes: Count | None = None
    swap_out_bytes: Count | None = None
    major_faults: Count | None = None
    refaults: Count | None = None
    activations: Count | None = None
    mglru: Annotated[int, Meta(ge=0, le=1)] | None = None
    oom_kills: Count | None = None
    alloc_stalls: Count | None = None
    psi_some_share: Share | None = None
    psi_full_share: Share | None = None
    psi_some_us: Count | None = None
    psi_full_us: Count | None = None
    heap_committed_bytes: Bytes | None = None
    heap_used_bytes: Bytes | None = None
    heap_missing_bytes: Bytes | None = None
    rising_per_s: Bytes | None = None
    """How fast MemTotal - MemAvailable rose in the last tenth of a second, or since it looked last."""
    ready_bytes: Bytes | None = None
    freed_bytes: Bytes | None = None

    def stats(self) -> GuestStats:
        """The same as statistics."""
        return GuestStats(**{name: getattr(self, name) for name in GuestStats.__struct_fields__})


class NonsenseError(Exception):
    """A guest sent what no agent sends. The text says what."""


class AgentChannel:
    """Connects to one guest's port, listens, and connects again, until cancelled."""

    def __init__(self, path: str, name: str, on_message: Callable[[Message], None]) -> None:
        """Args:
        path: of the unix socket that QEMU serves the port on.
        name: of the guest, for the log.
        on_message: told of each message that is one; be quick.
        """
        self._path, self._name = path, name
        self._on_message = on_message
        self._writer: asyncio.StreamWriter | None = None
        self._line_bytes = -1
        self._sequence = -1
        self._penalty_s = 0.0
        self._stats: GuestStats | None = None
        self._heard_at = -1e9
        self._wanted_bytes = 0
        self._ready = asyncio.Event()
        self._ready_share = 1.0
        self._ready_at = -1e9

    @property
    def age_s(self) -> float:
        """Since the last message."""
        return time.monotonic() - self._heard_at

    @property
    def stats(self) -> GuestStats | None:
        """What it said last; None while it is silent."""
        return self._stats if self.age_s < OLD_S else None

    @property
    def ready_share(self) -> float | None:
        """Of what it was recently asked to make free, what was free then, 0 to 1; None = nothing was asked."""
        return self._ready_share if time.monotonic() - self._ready_at < READY_OLD_S else None

    async def make_ready(self, free_bytes: int, deadline_s: float) -> None:
        """Asks for `free_bytes` to be made free, and waits `deadline_s` for the answer. One that comes later counts too."""
        self._ready.clear()
        if not self._tell(b'{"ready_bytes":%d}\n' % free_bytes):
            return
        self._wanted_bytes = free_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._ready.wait()

    def set_line(self, available_bytes: int) -> None:
        """Below this available memory the agent shall speak at once. Never waits."""
        if available_bytes != self._line_bytes and self._tell(b'{"line_bytes":%d}\n' % available_bytes):
            self._line_bytes = available_bytes

    def _tell(self, line: bytes) -> bool:
        """Whether an agent is there that reads. Never waits: what is not read soon is of no use later."""
        if self.stats is None or self._writer is None or self._writer.is_closing():
            return False
        transport: Any = self._writer.transport
        if transport.get_write_buffer_size() >= LINE_BYTES:
            return False
        self._writer.write(line)
        return True

    async def run(self) -> None:
        """Listens until cancelled."""
        while True:
            began_at = time.monotonic()
            try:
                await self._listen()
            except NonsenseError as error:
                if time.monotonic() - began_at > LONGEST_PENALTY_S:
                    self._penalty_s = 0.0  # it made sense for long
                self._penalty_s = min(LONGEST_PENALTY_S, max(PENALTY_S, 2 * self._penalty_s))
                log.warning(
                    "agent talks nonsense",
                    extra={"guest": self._name, "trouble": str(error), "not_read_for_s": self._penalty_s},
                )
                await asyncio.sleep(self._penalty_s)
            except OSError as error:
                log.debug("agent's port cannot be reached", extra={"guest": self._name, "trouble": str(error)})
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(self._path, limit=LINE_BYTES)
        # One that began anew while nobody listened counts from 1, and the first line may be half of one.
        self._sequence, self._line_bytes, allowed, since = -1, -1, float(BURST), time.monotonic()
        try:
            while line := await self._line(reader):
                self._take(line)
                now = time.monotonic()
                allowed, since = min(BURST, allowed + (now - since) * LINES_PER_S) - 1, now
                if allowed < 0:  # the socket fills up, then the guest's own queue, and its writes fail there
                    await asyncio.sleep(-allowed / LINES_PER_S)
        finally:
            writer, self._writer = self._writer, None
            # Not close: that waits for what a guest without an agent will never read.
            writer.transport.abort()

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readline()
        except ValueError as error:
            raise NonsenseError(f"a line of more than {LINE_BYTES} bytes") from error

    def _take(self, line: bytes) -> None:
        if not line.endswith(b"\n"):
            return  # the last half of a line, from a port that closes
        try:
            message = decoded(line, Message)
        except UndecodableError as error:
            if self._sequence < 0:
                return  # the rest of a line that began before we listened
            raise NonsenseError(str(error)) from error
        if message.sequence <= self._sequence and message.why != "hello":
            raise NonsenseError(f"message {message.sequence} after {self._sequence}")
        self._sequence = message.sequence
        self._stats, self._heard_at = message.stats(), time.monotonic()
        if message.why == "hello":
            self._line_bytes = -1  # it has just begun, and knows of none
        if message.why == "ready" and self._wanted_bytes:
            self._ready_share = min(1.0, (message.ready_bytes or 0) / self._wanted_bytes)
            self._ready_at, self._wanted_bytes = self._heard_at, 0
            self._ready.set()
        self._on_message(message)
