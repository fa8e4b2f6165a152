"""QMP peers that misbehave: no crash, an error that says what, and nothing taken for true."""

import asyncio
import contextlib
import errno
import os
from pathlib import Path

import msgspec
import pytest

from ballonet.hypervisors.contract import NoAnswerError, RefusedError
from ballonet.hypervisors.local.guest import Made
from ballonet.hypervisors.local.process import Process
from ballonet.hypervisors.paths import lies_there, matching
from ballonet.hypervisors.qemu import qmp
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.hypervisors.qemu.answers import Status
from ballonet.hypervisors.qemu.guest import QemuGuest
from ballonet.hypervisors.qemu.qmp import LONGEST_BYTES, NonsenseError, QmpSession
from ballonet.lab.scripted import ScriptedGuest
from ballonet.model.snapshot import Guest, Mechanism
from daemons import holds_soon

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
        await asyncio.wait_for(gone.wait(), 60.0)


async def test_a_mute_peer_is_an_error_and_no_trace(tmp_path: Path) -> None:
    """Whoever gives up waiting for a greeting leaves nothing that the loop would have to report."""
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    gone = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _until_left(reader, writer)
        gone.set()

    server = await asyncio.start_unix_server(peer, str(tmp_path / "q.sock"))
    async with server:
        opening = asyncio.create_task(QmpSession.open(str(tmp_path / "q.sock"), 60.0))
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        with pytest.raises(NoAnswerError, match=r"q\.sock"):
            await QmpSession.open(str(tmp_path / "q.sock"), 0.1)
        await asyncio.wait_for(gone.wait(), 60.0)
        await asyncio.sleep(0.05)
    assert reported == []


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
    assert (await session.call("query-status", Status, 60.0)).status == "running"
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
        await session.call("query-status", Status, 60.0 if says else 0.5)  # a busy machine takes its time over 16 MiB
    await _end(session, server)


async def test_a_line_without_an_end_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pieces are kept as they come and joined when it ends: 8 MiB in pieces of 4 KiB are no work for each piece."""
    lines: list[bytes] = []

    def taken(line: bytes) -> qmp._Line:
        lines.append(line)
        return qmp._Line()

    monkeypatch.setattr(qmp, "_read_line", taken)
    wire = qmp._Wire()
    pieces = [b"x" * 4096] * 2048
    for piece in pieces:
        wire.data_received(piece)
    assert lines == []
    assert len(wire._parts) == len(pieces)
    wire.data_received(b"y\nz")
    assert [len(line) for line in lines] == [4096 * 2048 + 1]
    assert wire._parts == [b"z"]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.ENOTCONN, errno.EIO])
async def test_a_folder_that_cannot_be_read_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """An error is never "there is nothing": guests that are known stay."""
    session, server = await _session(tmp_path)
    session.close()
    hypervisor = QemuHypervisor((str(tmp_path / "*.sock"),), discover_s=0.02)
    await hypervisor.open()
    try:
        async with asyncio.timeout(60):
            while not hypervisor._guests:
                await asyncio.sleep(0.02)

        def fails(_folder: str) -> None:
            raise OSError(code, "told so")

        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", fails)
            await asyncio.sleep(0.2)
            assert hypervisor._guests
    finally:
        await hypervisor.close()
        await _end(session, server)


async def test_broken_connection_is_known_at_once(tmp_path: Path) -> None:
    """Who waits for an answer or an event does not wait for the deadline."""
    session, server = await _session(tmp_path)
    events = asyncio.ensure_future(_all(session))
    asked = asyncio.ensure_future(session.call("query-status", Status, 60.0))
    await asyncio.sleep(0.05)
    session.close()
    with pytest.raises(NoAnswerError, match="broke"):
        await asyncio.wait_for(asked, 30.0)
    assert await asyncio.wait_for(events, 30.0) == []
    assert not session.is_open
    with pytest.raises(NoAnswerError, match="broke"):
        await session.call("query-status", Status, 60.0)
    await _end(session, server)


async def _all(session: QmpSession) -> list[str]:
    return [name async for name in session.events("STOP")]


def test_sockets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Three VMs named `debian` at sockets that are all called `qmp`: three guests at the first look, with names that stay."""
    hypervisor = QemuHypervisor((str(tmp_path / "*/qmp.sock"),))
    for number in (1, 2, 3):
        path = str(tmp_path / f"vm{number}/qmp.sock")
        guest = QemuGuest(path, tmp_path, lambda: None)
        guest.name = "debian"
        guest._made = Made(ceiling_bytes=1 << 30, mechanisms=(Mechanism.BALLOON,))
        hypervisor._guests[path] = guest
    first = [one.name for one in hypervisor.guests()]
    assert len(set(first)) == 3
    assert [one.name for one in hypervisor.guests()] == first


@pytest.mark.parametrize("code", [errno.EACCES, errno.ELOOP, errno.ENOTCONN, errno.EIO])
def test_what_cannot_be_looked_at_is_not_gone(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Neither a socket, nor a folder above one, nor a process."""

    def fails(_path: str, **_more: object) -> None:
        raise OSError(code, "told so")

    process = Process(os.getpid(), Path("/"))
    monkeypatch.setattr(os, "lstat", fails)
    monkeypatch.setattr(os, "stat", fails)
    assert lies_there("/run/q/a.sock")
    with pytest.raises(OSError, match="told so"):
        matching("/run/q/a.sock")
    assert not process.has_died


async def test_a_guest_on_its_way_is_not_moved(tmp_path: Path) -> None:
    """A QEMU without the capability `events` does not say that a migration began: it is asked before each command."""
    orders: list[str] = []
    peer = ScriptedGuest("a", 0, 1 << 30)

    class Moving(ScriptedGuest):
        def answer(self, command: str, arguments: dict[str, object]) -> object:
            orders.append(command)
            return {"status": status} if command == "query-migrate" else peer.answer(command, arguments)

    status = "none"
    server = await asyncio.start_unix_server(Moving("a", 0, 1 << 30).serve, str(tmp_path / "a.sock"))
    hypervisor = QemuHypervisor((str(tmp_path / "*.sock"),))
    await hypervisor.open()
    await holds_soon(lambda: bool(hypervisor.guests()) and hypervisor.guests()[0].can_balloon)
    await hypervisor.set_keep("a", 900 << 20, 5.0)
    status = "active"
    orders.clear()
    with pytest.raises(RefusedError, match="migrated"):
        await hypervisor.set_keep("a", 800 << 20, 5.0)
    assert "balloon" not in orders
    assert hypervisor.guests()[0].is_migrating
    await hypervisor.close()
    server.close()


class Known:
    """What the adapter asks of a guest that it has met."""

    def __init__(self, name: str, path: str, started_s: float) -> None:
        self.name, self.path, self.started_s = name, path, started_s
        self.identity, self.pid = (int(started_s), name), int(started_s)
        self.is_silent = False

    def reading(self) -> Guest:
        return Guest(name=self.name, ceiling_bytes=1 << 30, keep_bytes=1 << 30)


def that_knows(guests: list[Known]) -> QemuHypervisor:
    """An adapter that has met these, in this order."""
    hypervisor = QemuHypervisor(("/nowhere/*.sock",))
    for one in guests:
        hypervisor._guests[one.path] = one  # type: ignore[assignment]  # as much of one as is asked for
    return hypervisor


@pytest.mark.parametrize("is_first", [True, False])
def test_a_name_is_the_older_guest_s(is_first: bool) -> None:
    """A newcomer that calls itself as another does comes to nothing that is set of that name, after a restart too."""
    guests = [Known("db", "/q/a.sock", 9000.0), Known("db", "/q/z.sock", 100.0)]
    hypervisor = that_knows(guests if is_first else guests[::-1])
    assert {one.name for one in hypervisor.guests()} == {"db", "db@a"}
    assert guests[1].name == "db"


@pytest.mark.parametrize("is_first", [True, False])
def test_one_guest_behind_two_sockets_is_steered_by_the_one_that_is_read(is_first: bool) -> None:
    """What is watched closely, and asked to keep, is what is read, whichever was found first, and when that one goes."""
    guests = [Known("db", "/q/a.sock", 100.0), Known("db", "/q/z.sock", 100.0)]
    hypervisor = that_knows(guests if is_first else guests[::-1])
    assert len(hypervisor.guests()) == 1
    (read,) = hypervisor._met().values()
    assert hypervisor._named("db") is read
    read.is_silent = True  # type: ignore[misc]  # a `Known` one
    (other,) = hypervisor._met().values()
    hypervisor.guests()
    assert hypervisor._named("db") is other is not read
    read.is_silent = False  # type: ignore[misc]
    hypervisor.guests()
    assert hypervisor._named("db") is read
    del hypervisor._guests[read.path]
    (other,) = hypervisor._met().values()
    assert other is not read
    assert hypervisor._named("db") is other


RARELY = ("qom-list", "query-memory-size-summary", "query-memory-devices", "query-status", "query-migrate")
"""What is asked every few seconds only."""


@pytest.mark.parametrize("answer", [None, {"nonsense": []}, [1]])
@pytest.mark.parametrize("command", RARELY)
async def test_a_peer_that_refuses_is_not_asked_without_end(tmp_path: Path, command: str, answer: object) -> None:
    """Once it is known: whatever it says to one question, it is asked a few times a second at most, and stays looked at."""
    asked: list[str] = []
    is_well = True
    peer = ScriptedGuest("a", 0, 1 << 30)

    class Refusing(ScriptedGuest):
        def answer(self, name: str, arguments: dict[str, object]) -> object:
            asked.append(name)
            return answer if name == command and not is_well else peer.answer(name, arguments)

    server = await asyncio.start_unix_server(Refusing("a", 0, 1 << 30).serve, str(tmp_path / "a.sock"))
    hypervisor = QemuHypervisor((str(tmp_path / "*.sock"),))
    await hypervisor.open()
    try:
        await holds_soon(lambda: bool(hypervisor.guests()) and hypervisor.guests()[0].can_balloon)
        is_well = False
        for guest in hypervisor._guests.values():
            guest._described_at = guest._facts_at = 0.0
            guest._wake.set()
        await holds_soon(lambda: command in asked[-50:])
        asked.clear()
        await asyncio.sleep(2.2)
        assert asked.count(command) <= 12
        assert "qom-get" in asked
    finally:
        await hypervisor.close()
        server.close()


async def test_a_guest_without_a_balloon_is_told_so_and_not_called_silent(tmp_path: Path) -> None:
    """Nothing is asked of it on beats, and it answers what is asked of it rarely."""
    peer = ScriptedGuest("a", 0, 1 << 30)

    class Bare(ScriptedGuest):
        def answer(self, name: str, arguments: dict[str, object]) -> object:
            return [] if name == "qom-list" else peer.answer(name, arguments)

    server = await asyncio.start_unix_server(Bare("a", 0, 1 << 30).serve, str(tmp_path / "a.sock"))
    hypervisor = QemuHypervisor((str(tmp_path / "*.sock"),))
    await hypervisor.open()
    try:
        await holds_soon(lambda: bool(hypervisor.guests()) and "no balloon device" in hypervisor.guests()[0].leave_alone)
        await asyncio.sleep(3.5)  # longer than a guest may be silent
        assert "no balloon device" in hypervisor.guests()[0].leave_alone
    finally:
        await hypervisor.close()
        server.close()


async def test_an_answer_that_comes_too_late_is_none_to_the_next_question(tmp_path: Path) -> None:
    """What a QEMU says two seconds after it was asked is as old as the question, and is not taken for news of now."""
    peer = ScriptedGuest("a", 0, 1 << 30)
    server = await asyncio.start_unix_server(peer.serve, str(tmp_path / "a.sock"))
    hypervisor = QemuHypervisor((str(tmp_path / "*.sock"),))
    await hypervisor.open()
    try:
        await holds_soon(lambda: bool(hypervisor.guests()) and hypervisor.guests()[0].can_balloon)
        guest = next(iter(hypervisor._guests.values()))
        await holds_soon(lambda: not guest._awaited)
        guest.read()
        late = next(number for number in guest._awaited if number % 2)
        guest._asked_at -= 2.0  # nothing has come for so long
        guest.read()
        assert late not in guest._awaited
        before = guest._stats
        answer = b'{"stats": {"stat-total-memory": 4096, "stat-available-memory": 1}, "last-update": 9}'
        guest._on_answer(late, msgspec.Raw(answer), None)
        assert guest._stats is before
    finally:
        await hypervisor.close()
        server.close()
