"""One QMP session: lines of JSON on a Unix socket, a deadline on each command, checked answers, the errors of the contract.

QMP: docs/interop/qmp-spec.rst and qapi/ in QEMU's source. A QMP socket serves one client at a time: a second one
connects and hears nothing. Our own, and not QEMU's qemu.qmp, for what a daemon of 100 guests costs: docs/decisions/0011.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Raw, Struct, field

from ballonet.hypervisors.contract import NoAnswerError, RefusedError
from ballonet.model.decode import UndecodableError, decoded

T = TypeVar("T")

LONGEST_BYTES: Final = 16 << 20
"""Of one line; QEMU's longest answers (query-qmp-schema) have some hundred KiB. Who sends more without an end is no QEMU."""
_NOTHING: Final = Raw()


class Call(NamedTuple):
    """One command, and the form of its answer."""

    command: str
    returns: Any
    arguments: Mapping[str, Any] = MappingProxyType({})


class NonsenseError(NoAnswerError):
    """An answer that is no answer to the question. Unknown, as with no answer: whether a command took effect."""


class _Trouble(Struct):
    """Why a command was refused."""

    desc: str


class _Line(Struct):
    """What a server says: its greeting, an answer, a refusal, or an event."""

    greeting: Raw = field(name="QMP", default=_NOTHING)
    id: int | None = None
    answer: Raw = field(name="return", default=_NOTHING)
    error: _Trouble | None = None
    event: str = ""


_read_line: Final = msgspec.json.Decoder(_Line).decode
_write_line: Final = msgspec.json.Encoder().encode


class _Wire(asyncio.Protocol):
    """The stream, cut into lines, each given to whom it is for."""

    def __init__(self) -> None:
        self.greeted: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self.waiting: dict[int, asyncio.Future[Raw]] = {}
        self.listeners: dict[asyncio.Queue[str], tuple[str, ...]] = {}
        self.transport: asyncio.Transport | None = None
        self.why_closed = "the connection broke"
        self.on_answer: Callable[[int, Raw, str | None], None] | None = None
        """Takes answers to what was sent with a negative number: the number, the answer, and why there is none."""
        self.on_lost: Callable[[], None] = lambda: None
        self._parts: list[bytes] = []
        """Of a line that has no end yet: joined once, when it has one."""
        self._part_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts, self._part_bytes = [], 0
        if rest:
            self._parts.append(rest)
            self._part_bytes += len(rest)
        if self._part_bytes > LONGEST_BYTES:
            self._parts, self._part_bytes = [], 0
            self._give_up(f"a line of more than {LONGEST_BYTES >> 20} MiB")
        for line in lines:
            try:
                if line.strip():
                    self._take(_read_line(line))
            except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as error:
                self._give_up(f"no QMP: {error}")
                return

    def _take(self, line: _Line) -> None:
        if line.event:
            for queue, names in self.listeners.items():
                if line.event in names:
                    queue.put_nowait(line.event)
        elif line.id is None:
            self._take_unasked(line)
        elif line.id < 0:
            if self.on_answer is not None:
                self.on_answer(line.id, line.answer, line.error.desc if line.error is not None else None)
        elif (asked := self.waiting.get(line.id)) is not None and not asked.done():  # else it came too late
            if line.error is not None:
                asked.set_exception(RefusedError(line.error.desc))
            else:
                asked.set_result(line.answer)

    def _take_unasked(self, line: _Line) -> None:
        if line.greeting and not self.greeted.done():
            self.greeted.set_result(line.greeting)
        elif line.error is not None:  # what QEMU says of a line that it could not read: nobody knows whose that was
            self._give_up(line.error.desc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if exc is not None:
            self.why_closed = str(exc) or self.why_closed
        for one in (self.greeted, *self.waiting.values()):
            if not one.done():
                one.set_exception(NoAnswerError(self.why_closed))
        if not self.greeted.cancelled():
            self.greeted.exception()  # told to the task that waits, if one does
        for queue in self.listeners:
            queue.put_nowait("")
        self.on_lost()

    def _give_up(self, why: str) -> None:
        self.why_closed = why
        if self.transport is not None:
            self.transport.abort()


class QmpSession:
    """An open session with one QEMU."""

    def __init__(self, wire: _Wire, pid: int | None) -> None:
        self._wire = wire
        self._ids = count(1)
        self.pid = pid
        """The process at the other end; None where the kernel cannot tell."""

    @classmethod
    async def open(cls, path: str, deadline_s: float) -> "QmpSession":
        """Connects to the socket at `path`.

        Raises:
            NoAnswerError: nobody there, no greeting in time (another client may hold the socket), or not QMP at all.
        """
        wire: _Wire | None = None
        try:
            async with asyncio.timeout(deadline_s):
                transport, wire = await asyncio.get_running_loop().create_unix_connection(_Wire, path)
                session = cls(wire, _peer_pid(transport.get_extra_info("socket")))
                await wire.greeted
                await session.call("qmp_capabilities", dict[str, Any], deadline_s)
        except TimeoutError as error:
            _drop(wire)
            text = f"no greeting on {path} in {deadline_s} s; does another client hold this socket, or is QEMU stopped?"
            raise NoAnswerError(text) from error
        except (OSError, NoAnswerError, RefusedError) as error:
            _drop(wire)
            raise NoAnswerError(f"no QMP on {path}: {error}") from error
        except BaseException:
            _drop(wire)
            raise
        return session

    @property
    def is_open(self) -> bool:
        """Whether the connection still stands."""
        return self._wire.transport is not None

    async def call(self, command: str, returns: type[T], deadline_s: float, **arguments: Any) -> T:
        """One command and its checked answer.

        Raises:
            RefusedError: QEMU said no.
            NonsenseError: the answer is not of the form `returns`.
            NoAnswerError: none in time, or the connection broke.
        """
        try:
            answer = await self._ask(command, {name.replace("_", "-"): value for name, value in arguments.items()}, deadline_s)
            return decoded(answer, returns)
        except UndecodableError as error:
            raise NonsenseError(f"{command}: {error}") from error
        except (RefusedError, NoAnswerError) as error:
            raise type(error)(f"{command}: {error}") from error

    async def calls(self, deadline_s: float, *calls: Call) -> list[Any]:
        """Several commands in one write, and their checked answers. Raises as `call`, for the first that fails."""
        wire = self._wire
        if wire.transport is None:
            raise NoAnswerError(wire.why_closed)
        loop = asyncio.get_running_loop()
        asked = {next(self._ids): loop.create_future() for _ in calls}
        wire.waiting.update(asked)
        patience = loop.call_later(deadline_s, _time_out_all, tuple(asked.values()), deadline_s)
        numbered = list(zip(asked, calls, strict=True))
        found = []
        try:
            wire.transport.write(b"".join(line_of(one.command, one.arguments, number) for number, one in numbered))
            for number, one in numbered:
                try:
                    found.append(decoded(await asked[number], one.returns))
                except UndecodableError as error:
                    raise NonsenseError(f"{one.command}: {error}") from error
                except (RefusedError, NoAnswerError) as error:
                    raise type(error)(f"{one.command}: {error}") from error
        finally:
            patience.cancel()
            for number, future in asked.items():
                del wire.waiting[number]
                if future.done() and not future.cancelled():
                    future.exception()  # of those after one that failed nobody asks
        return found

    def hear(self, on_answer: Callable[[int, Raw, str | None], None], on_lost: Callable[[], None]) -> None:
        """Who takes the answers to what `send` sent, and who is told when the connection is lost."""
        self._wire.on_answer, self._wire.on_lost = on_answer, on_lost

    def send(self, lines: bytes) -> None:
        """Writes commands made by `line_of` with negative numbers. Nobody waits: `hear` says who takes the answers."""
        if self._wire.transport is not None:
            self._wire.transport.write(lines)

    async def _ask(self, command: str, arguments: dict[str, Any], deadline_s: float) -> Raw:
        wire = self._wire
        if wire.transport is None:
            raise NoAnswerError(wire.why_closed)
        loop, number = asyncio.get_running_loop(), next(self._ids)
        asked: asyncio.Future[Raw] = loop.create_future()
        wire.waiting[number] = asked
        patience = loop.call_later(deadline_s, _time_out, asked, deadline_s)
        try:
            wire.transport.write(line_of(command, arguments, number))
            return await asked
        finally:
            patience.cancel()
            del wire.waiting[number]

    async def events(self, *names: str) -> AsyncIterator[str]:
        """The named events as they come, until the session ends: the names. What they carry is asked for afresh."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._wire.listeners[queue] = names
        try:
            while self.is_open and (name := await queue.get()):
                yield name
        finally:
            del self._wire.listeners[queue]

    def close(self) -> None:
        """Ends the session; the guest goes on."""
        _drop(self._wire)


def line_of(command: str, arguments: Mapping[str, Any], number: int) -> bytes:
    """One command as it goes over the wire."""
    return _write_line({"execute": command, "arguments": dict(arguments), "id": number}) + b"\n"


def _time_out_all(asked: "tuple[asyncio.Future[Raw], ...]", deadline_s: float) -> None:
    for one in asked:
        _time_out(one, deadline_s)


def _time_out(asked: "asyncio.Future[Raw]", deadline_s: float) -> None:
    if not asked.done():
        asked.set_exception(NoAnswerError(f"no answer in {deadline_s} s"))


def _peer_pid(sock: socket.socket) -> int | None:
    pid, _uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid) if pid and pid != os.getpid() else None


def _drop(wire: _Wire | None) -> None:
    if wire is not None and wire.transport is not None:
        wire.transport.abort()
