"""One QMP socket and what lives behind it in turn: what is known of one is never said of another."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ballonet.hypervisors.contract import NoAnswerError
from ballonet.hypervisors.local import guest as local_guest
from ballonet.hypervisors.qemu import guest as qemu_guest
from ballonet.hypervisors.qemu import qmp
from ballonet.hypervisors.qemu.guest import QemuGuest
from ballonet.hypervisors.qemu.shared_socket import SharedSocketGuest
from ballonet.lab.scripted import GREETING, ScriptedGuest, _requests
from ballonet.model.snapshot import Guest
from ballonet.model.units import GIB
from daemons import holds_soon

SET_UP = {"status": {"statuses": ["VIRTIO_CONFIG_S_DRIVER_OK: driver setup and ready"]}}
BARE = {"status": {"statuses": ["VIRTIO_CONFIG_S_ACKNOWLEDGE: guest OS has recognized this device"]}}


class Life(ScriptedGuest):
    """A process behind a socket, whose answers can be late or others."""

    def __init__(self, name: str, pid: int, size: int = 8 * GIB) -> None:
        super().__init__(name, 0, size)
        self.pid, self.late, self.answers, self.asked = pid, dict[str, float](), dict[str, Any](), list[str]()
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        writer.write(json.dumps(GREETING).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            async for asked in _requests(reader):
                words = asked.get("arguments", {})
                command = words.get("property", asked["execute"]) if asked["execute"] == "qom-get" else asked["execute"]
                self.asked.append(command)
                await asyncio.sleep(self.late.pop(command, 0.0))
                found = self.answers[command] if command in self.answers else self.answer(asked["execute"], words)
                told: dict[str, Any] = (
                    {"error": {"class": "CommandNotFound", "desc": "no"}} if found is None else {"return": found}
                )
                writer.write(json.dumps(told | {"id": asked.get("id")}).encode() + b"\n")
        self._writers.discard(writer)
        writer.close()

    def tell(self, event: str) -> None:
        for one in self._writers:
            one.write(json.dumps({"event": event, "data": {}, "timestamp": {"seconds": 0, "microseconds": 0}}).encode() + b"\n")

    def hang_up(self) -> None:
        for one in list(self._writers):
            one.transport.abort()


class Socket:
    """A path at which lives follow each other, and the made-up /proc of their processes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.path = folder, folder / "x.sock"
        self._server: asyncio.Server | None = None
        self.life: Life | None = None
        monkeypatch.setattr(qmp, "_peer_pid", lambda _sock: self.life.pid if self.life else None)
        (folder / "proc").mkdir()
        (folder / "proc/uptime").write_text("1000.0 0\n")

    async def lives(self, life: Life) -> Life:
        self.end()
        proc = self.folder / f"proc/{life.pid}"
        (proc / "fd").mkdir(parents=True, exist_ok=True)
        (proc / "stat").write_text(f"{life.pid} (qemu) S {' '.join(['0'] * 18)} {100 * os.sysconf('SC_CLK_TCK')} 0\n")
        (proc / "status").write_text("Name:\tqemu\nVmRSS:\t1000 kB\n")
        (proc / "statm").write_text("0 1000 0 0 0 0 0\n")
        self.path.unlink(missing_ok=True)
        self.life = life
        self._server = await asyncio.start_unix_server(life.serve, str(self.path))
        return life

    def end(self) -> None:
        if self._server is not None:
            self._server.close()
        if self.life is not None:
            self.life.hang_up()

    @contextlib.asynccontextmanager
    async def guest(self, kind: type[QemuGuest] = QemuGuest) -> AsyncIterator[QemuGuest]:
        guest = kind(str(self.path), self.folder, lambda: None)
        task = asyncio.create_task(guest.run())
        try:
            yield guest
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.end()


@pytest.fixture
def sock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Socket:
    return Socket(tmp_path, monkeypatch)


def is_up(guest: QemuGuest) -> bool:
    found = guest.reading()
    return found is not None and found.can_balloon and bool(found.uuid)


async def readings(guest: QemuGuest, for_s: float) -> list[Guest]:
    found, start = [], time.monotonic()
    while time.monotonic() - start < for_s:
        if (one := guest.reading()) is not None:
            found.append(one)
        await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("kind", [QemuGuest, SharedSocketGuest])
@pytest.mark.parametrize("command", ["query-uuid", "query-version", "query-chardev", "query-status"])
async def test_one_late_answer_at_the_start_leaves_nothing_unknown(sock: Socket, kind: type[QemuGuest], command: str) -> None:
    """It is asked again until all is known."""
    life = Life("a", 4242)
    life.late[command] = 1.3
    await sock.lives(life)
    async with sock.guest(kind) as guest:
        await holds_soon(lambda: is_up(guest) and bool(guest.version))


@pytest.mark.parametrize("kind", [QemuGuest, SharedSocketGuest])
async def test_another_vm_at_the_same_socket_never_bears_the_first_one_s_uuid(sock: Socket, kind: type[QemuGuest]) -> None:
    """Orders belong to UUIDs: what waits for one by name would be the other's."""
    first, second = Life("a", 4242), Life("b", 4343)
    second.late["query-uuid"] = 0.7
    await sock.lives(first)
    async with sock.guest(kind) as guest:
        await holds_soon(lambda: is_up(guest))
        await sock.lives(second)
        pairs = {(one.name, one.uuid) for one in await readings(guest, 2.5)}
        assert pairs <= {("a", first._uuid), ("b", second._uuid)}
        await holds_soon(lambda: is_up(guest) and guest.name == "b")


@pytest.mark.parametrize("answer", [{"status": "paused", "running": False}, [1]])
async def test_nobody_is_moved_before_it_is_known_how_it_runs(sock: Socket, answer: object) -> None:
    """Not for a moment, and it counts at all that it may take; where nobody ever says it, not at all."""
    life = Life("a", 4242)
    life.answers["query-status"] = answer
    life.late["query-uuid"] = 0.5
    await sock.lives(life)
    async with sock.guest() as guest:
        found = await readings(guest, 1.5)
        assert found
        assert not any(one.can_balloon for one in found)
        assert isinstance(answer, dict) or all(one.is_starting for one in found)


async def test_what_moved_while_nobody_listened_is_seen_at_once(sock: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same process, a new session: no event told of it."""
    life = await sock.lives(Life("a", 4242))
    async with sock.guest() as guest:
        await holds_soon(lambda: is_up(guest))
        monkeypatch.setattr(qemu_guest, "KEEP_EVERY_S", 300.0)  # it would be asked some time anyway
        life._actual, life._target = 2.0 * GIB, 2 * GIB
        life.hang_up()
        await holds_soon(lambda: (found := guest.reading()) is not None and found.keep_bytes == 2 * GIB)


@pytest.mark.parametrize("at_first", [SET_UP, BARE])
@pytest.mark.parametrize("is_listening", [True, False])
async def test_a_reset_is_seen_whenever_it_comes(sock: Socket, is_listening: bool, at_first: object) -> None:
    """While it is asked who it is; and while nobody listens at all, by its balloon device; one that booted when met, too."""
    life = await sock.lives(Life("a", 4242))
    life.answers["x-query-virtio-status"] = at_first
    async with sock.guest() as guest:
        await holds_soon(lambda: is_up(guest))
        said_at = int(time.time()) - 1  # and never again: nobody is up
        life.answers["guest-stats"] = {"last-update": said_at, "stats": life._stats()["stats"]}
        await holds_soon(lambda: guest._spoke_at == said_at)
        if is_listening:
            life.late["query-uuid"] = 0.5
            life.asked.clear()
            life.hang_up()
            await holds_soon(lambda: "query-uuid" in life.asked)
            life.tell("RESET")
        else:
            life.answers["x-query-virtio-status"] = BARE
            life.hang_up()
        await holds_soon(lambda: (found := guest.reading()) is not None and found.is_starting and not found.can_balloon)
        await asyncio.sleep(1.0)
        found = guest.reading()
        assert found is not None
        assert not found.can_balloon


async def test_a_command_for_one_life_does_not_reach_the_next(sock: Socket) -> None:
    """Behind a shared socket another process may answer by then; it is looked at first."""
    await sock.lives(Life("a", 4242))
    async with sock.guest(SharedSocketGuest) as guest:
        await holds_soon(lambda: is_up(guest))
        await holds_soon(lambda: guest._looking is not None and guest._looking.done())
        second = await sock.lives(Life("a", 4343, 32 * GIB))
        with pytest.raises(NoAnswerError, match="another process"):
            await guest.set_keep(4 * GIB, 1.0)
        assert "balloon" not in second.asked


async def test_a_command_keeps_its_deadline_behind_a_slow_look(sock: Socket) -> None:
    """Waiting for one's turn at a shared socket counts."""
    life = await sock.lives(Life("a", 4242))
    async with sock.guest(SharedSocketGuest) as guest:
        await holds_soon(lambda: is_up(guest))
        assert isinstance(guest, SharedSocketGuest)
        async with guest._turn:
            with pytest.raises(NoAnswerError, match=r"in 0\.2 s"):
                await guest.set_keep(6 * GIB, 0.2)
        assert "balloon" not in life.asked


@pytest.mark.parametrize("kind", [QemuGuest, SharedSocketGuest])
@pytest.mark.parametrize("command", ["query-balloon", "query-status", "guest-stats"])
async def test_a_refusal_counts_as_long_as_it_lasts(
    sock: Socket, monkeypatch: pytest.MonkeyPatch, kind: type[QemuGuest], command: str
) -> None:
    """A guest whose QEMU refuses to say what it must is left alone, all the while; one that says it again is ballooned again."""
    monkeypatch.setattr(qemu_guest, "FACTS_EVERY_S", 0.3)
    monkeypatch.setattr(qemu_guest, "KEEP_EVERY_S", 0.3)
    life = await sock.lives(Life("a", 4242))
    async with sock.guest(kind) as guest:
        await holds_soon(lambda: is_up(guest))
        life.answers[command] = None
        await holds_soon(lambda: not is_up(guest))
        assert not any(one.can_balloon for one in await readings(guest, 2.0))
        del life.answers[command]
        await holds_soon(lambda: is_up(guest))


async def test_a_storm_of_events_costs_no_storm_of_questions(sock: Socket) -> None:
    """Whatever a guest brings about: it is looked at some times a second."""
    life = await sock.lives(Life("a", 4242))
    async with sock.guest() as guest:
        await holds_soon(lambda: is_up(guest))
        life.asked.clear()
        start = time.monotonic()
        while time.monotonic() - start < 2.0:
            life.tell("ACPI_DEVICE_OST")
            await asyncio.sleep(0.002)
        assert life.asked.count("query-status") <= 10 * (time.monotonic() - start) + 2


def disks(reads: int) -> list[dict[str, Any]]:
    stats = {"rd_operations": reads, "rd_bytes": 4096 * reads, "rd_total_time_ns": 1000 * reads}
    return [{"device": "a", "stats": stats}, {"device": "b", "stats": stats, "parent": {"stats": stats}}]


@pytest.mark.parametrize("kind", [QemuGuest, SharedSocketGuest])
async def test_what_its_disks_read_is_known(sock: Socket, kind: type[QemuGuest]) -> None:
    """All of them together, without what lies below them; asked again while it reads, and rarely when it does not."""
    life = Life("a", 4242)
    life.answers["query-blockstats"] = disks(50)
    await sock.lives(life)
    async with sock.guest(kind) as guest:
        await holds_soon(lambda: (one := guest.reading()) is not None and one.disk_reads == 100)
        found = guest.reading()
        assert found is not None
        assert (found.disk_read_bytes, found.disk_read_ns) == (409600, 100000)
        life.answers["query-blockstats"] = disks(80)
        await holds_soon(lambda: (one := guest.reading()) is not None and one.disk_reads == 160)


@pytest.mark.parametrize("kind", [QemuGuest, SharedSocketGuest])
@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        [1],
        [{"stats": {"rd_operations": -1}}],
        [{"stats": {"rd_operations": "many"}}],
        [{"stats": {"rd_bytes": 10**40}}],
    ],
    ids=str,
)
async def test_who_does_not_say_what_it_reads_is_ballooned_all_the_same(sock: Socket, kind: type[QemuGuest], answer: Any) -> None:
    """Refused, or nonsense: nothing is known of its disks, and nothing else is the worse for it."""
    life = Life("a", 4242)
    life.answers["query-blockstats"] = answer
    await sock.lives(life)
    async with sock.guest(kind) as guest:
        await holds_soon(lambda: "query-blockstats" in life.asked and is_up(guest))
        found = await readings(guest, 0.5)
        assert {one.leave_alone for one in found} == {""}
        assert all(one.disk_reads is None for one in found)


async def test_a_disk_is_asked_when_its_guest_was_moved(sock: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of a step is counted before the next one, however calm the guest was: one at rest would not be asked here."""
    monkeypatch.setattr(local_guest, "DISK_REST_S", 1e9)
    life = Life("a", 4242)
    life.answers["query-blockstats"] = disks(50)
    await sock.lives(life)
    async with sock.guest() as guest:
        await holds_soon(lambda: (one := guest.reading()) is not None and one.disk_reads == 100)
        guest._disk_busy_at, guest._disk_asked_at = -1e9, time.monotonic()
        life.answers["query-blockstats"] = disks(60)
        await guest.set_keep(6 * GIB, 1.0)
        await holds_soon(lambda: (one := guest.reading()) is not None and one.disk_reads == 120)
