"""QMP peers that misbehave: no crash, an error that says what, and nothing taken for true."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from ballonet.hypervisors.contract import NoAnswerError, RefusedError
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.hypervisors.qemu.answers import Status
from ballonet.hypervisors.qemu.qmp import LONGEST_BYTES, NonsenseError, QmpSession

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}\r\n'


GONE: dict[asyncio.Server, asyncio.Event] = {}
"""Told when the peer of a server has ended."""


@pytest.mark.parametrize("says", [b"garbage\r\n", b'{"QMP": ', b"", GREETING + b"\xff\xfe nonsense\r\n"])
async def test_peer_that_is_no_qmp(tmp_path: Path, says: bytes) -> None:
    """Garbage, half a line, nothing, or garbage after the greeting is an error in time."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        await _until_left(reader, writer)
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_unix_server(peer, str(tmp_path / "q.sock"))
    async with server:
        with pytest.raises(NoAnswerError, match=r"q\.sock"):
            await QmpSession.open(str(tmp_path / "q.sock"), 0.3)
        await asyncio.wait_for(gone.wait(), 5.0)


async def test_socket_without_anybody(tmp_path: Path) -> None:
    """A socket file that nobody listens on is an error, and the adapter goes on without the guest."""
    (tmp_path / "dead.sock").write_text("")
    with pytest.raises(NoAnswerError):
        await QmpSession.open(str(tmp_path / "dead.sock"), 0.3)
    hypervisor = QemuHypervisor((str(tmp_path / "*.sock"),))
    await hypervisor.open()
    await asyncio.sleep(0.2)
    assert hypervisor.guests() == ()
    await hypervisor.close()


async def _session(tmp_path: Path, *says: bytes, then: float = 0.0) -> tuple[QmpSession, asyncio.Server]:
    """With a peer that greets, agrees, and answers the next line with all of `says`, piece by piece."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await reader.readline()
        writer.write(b'{"return": {}, "id": 1}\r\n')
        await reader.readline()
        for one in says:
            writer.write(one)
            await asyncio.sleep(then)
        await _until_left(reader, writer)
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_unix_server(peer, str(tmp_path / "q.sock"))
    GONE[server] = gone
    return await QmpSession.open(str(tmp_path / "q.sock"), 2.0), server


async def _end(session: QmpSession, server: asyncio.Server) -> None:
    session.close()
    server.close()
    await asyncio.wait_for(GONE.pop(server).wait(), 5.0)


async def _until_left(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Nothing of a peer outlives its test."""
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_lines_are_cut_anywhere(tmp_path: Path) -> None:
    """An answer that comes in pieces, behind an event and an answer to nobody's question, is the answer."""
    says = b'{"event": "STOP", "timestamp": {}}\r\n{"return": 7, "id": 99}\r\n\r\n{"return": {"status": "running"}, "id": 2}\r\n'
    session, server = await _session(tmp_path, *(says[i : i + 7] for i in range(0, len(says), 7)), then=0.001)
    events = asyncio.ensure_future(anext(session.events("STOP")))
    assert (await session.call("query-status", Status, 2.0)).status == "running"
    assert await events == "STOP"
    await _end(session, server)


@pytest.mark.parametrize(
    ("says", "error", "word"),
    [
        (b'{"error": {"class": "GenericError", "desc": "no such device"}, "id": 2}\r\n', RefusedError, "no such device"),
        (b'{"return": {"status": 5}, "id": 2}\r\n', NonsenseError, "status"),
        (b'{"id": 2}\r\n', NonsenseError, "query-status"),
        (b'{"return": {"status": "running"}, "id": "2"}\r\n', NoAnswerError, "id"),
        (b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\r\n', NoAnswerError, "JSON parse error"),
        (b"", NoAnswerError, "no answer in"),
        (b"x" * (LONGEST_BYTES + 1), NoAnswerError, "a line of more than"),
    ],
)
async def test_each_answer_is_checked(tmp_path: Path, says: bytes, error: type[Exception], word: str) -> None:
    """Refusals, answers of another form, none, and what has no end: each an error that says what."""
    session, server = await _session(tmp_path, says)
    with pytest.raises(error, match=word):
        await session.call("query-status", Status, 0.5)
    await _end(session, server)


async def test_broken_connection_is_known_at_once(tmp_path: Path) -> None:
    """Who waits for an answer or an event does not wait for the deadline."""
    session, server = await _session(tmp_path)
    events = asyncio.ensure_future(_all(session))
    asked = asyncio.ensure_future(session.call("query-status", Status, 60.0))
    await asyncio.sleep(0.05)
    session.close()
    with pytest.raises(NoAnswerError, match="broke"):
        await asyncio.wait_for(asked, 1.0)
    assert await asyncio.wait_for(events, 1.0) == []
    assert not session.is_open
    with pytest.raises(NoAnswerError, match="broke"):
        await session.call("query-status", Status, 60.0)
    await _end(session, server)


async def _all(session: QmpSession) -> list[str]:
    return [name async for name in session.events("STOP")]
