"""One QMP session: qemu.qmp with a deadline on each command, checked answers, and the errors of the contract.

QMP: docs/interop/qmp-spec.rst and qapi/ in QEMU's source. A QMP socket serves one client at a time: a second one
connects and hears nothing.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from qemu.qmp import EventListener, ExecInterruptedError, ExecuteError, Message, QMPClient, QMPError, Runstate

from ballonet.hypervisors.contract import NoAnswerError, RefusedError

T = TypeVar("T")

# Its own warnings (late answers, broken sessions) arrive here as errors, and are told once, in our words.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class NonsenseError(NoAnswerError):
    """An answer that is no answer to the question. Unknown, as with no answer: whether a command took effect."""


class _Client(QMPClient):
    """Without the library's debug log: it writes each message out twice more, for nobody, at a third of what a call costs."""

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        return msg


class QmpSession:
    """An open session with one QEMU."""

    def __init__(self, client: QMPClient, pid: int | None) -> None:
        self._client = client
        self.pid = pid
        """The process at the other end; None where the kernel cannot tell."""

    @classmethod
    async def open(cls, path: str, deadline_s: float) -> "QmpSession":
        """Connects to the socket at `path`.

        Raises:
            NoAnswerError: nobody there, no greeting in time (another client may hold the socket), or not QMP at all.
        """
        client = _Client()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.get_running_loop().sock_connect(sock, path)
                pid = _peer_pid(sock)
                await client.connect(sock)
        except TimeoutError as error:
            await _drop(client, sock)
            text = f"no greeting on {path} in {deadline_s} s; does another client hold this socket, or is QEMU stopped?"
            raise NoAnswerError(text) from error
        except (OSError, QMPError) as error:
            await _drop(client, sock)
            raise NoAnswerError(f"no QMP on {path}: {_reason(error)}") from error
        except BaseException:
            await _drop(client, sock)
            raise
        return cls(client, pid)

    @property
    def is_open(self) -> bool:
        """Whether the connection still stands."""
        return self._client.runstate is Runstate.RUNNING

    async def call(self, command: str, returns: type[T], deadline_s: float, **arguments: Any) -> T:
        """One command and its checked answer.

        Raises:
            RefusedError: QEMU said no.
            NonsenseError: the answer is not of the form `returns`.
            NoAnswerError: none in time, or the connection broke.
        """
        names = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            async with asyncio.timeout(deadline_s):
                answer = await self._client.execute(command, names or None)
            return msgspec.convert(answer, returns)
        except msgspec.ValidationError as error:
            raise NonsenseError(f"{command}: {error}") from error
        except ExecuteError as error:
            raise RefusedError(f"{command}: {error}") from error
        except TimeoutError as error:
            raise NoAnswerError(f"{command}: no answer in {deadline_s} s") from error
        except (QMPError, OSError, EOFError) as error:
            raise NoAnswerError(f"{command}: {_reason(error)}") from error

    async def events(self, *names: str) -> AsyncIterator[str]:
        """The named events as they come, until the session ends: the names. What they carry is asked for afresh."""
        listener = EventListener(names=names)
        with self._client.listen(listener):
            async for event in listener:
                yield str(event["event"])

    async def close(self) -> None:
        """Ends the session; the guest goes on."""
        await _drop(self._client, None)


def _peer_pid(sock: socket.socket) -> int | None:
    pid, _uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid) if pid and pid != os.getpid() else None


async def _drop(client: QMPClient, sock: socket.socket | None) -> None:
    """Closes whatever is open of a session; what it still had to say is of no interest."""
    try:
        async with asyncio.timeout(1.0):
            await client.disconnect()
    except (QMPError, OSError, EOFError, TimeoutError):
        pass
    finally:
        if sock is not None:
            sock.close()


def _reason(error: BaseException) -> str:
    if isinstance(error, ExecInterruptedError):
        return "the connection broke"
    return str(error) or type(error).__name__
