"""QEMU's guest agent as a voice, against peers that answer, refuse, or talk nonsense."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ballonet.hypervisors.local import guest_agent
from ballonet.hypervisors.local.guest_agent import GuestAgent, stats_of
from ballonet.model.snapshot import GuestStats

MEMINFO = (
    b"MemTotal:  524288 kB\nMemFree:  1024 kB\nMemAvailable:  7168 kB\nCached:  2048 kB\nSwapTotal: 524288 kB\nSwapFree: 99 kB\n"
)
VMSTAT = b"nr_free_pages 1\npgmajfault 7\npswpin 3\npswpout 5\n"
PRESSURE = b"some avg10=1.25 avg60=0.50 avg300=0.10 total=12345\nfull avg10=0.50 avg60=0.20 avg300=0.05 total=2345\n"
FILES = {"/proc/meminfo": MEMINFO, "/proc/vmstat": VMSTAT, "/proc/pressure/memory": PRESSURE}

Answer = Callable[[str, dict[str, Any]], Any]


def honest(command: str, words: dict[str, Any]) -> Any:
    """What a guest agent answers."""
    names = list(FILES)
    if command == "guest-sync-delimited":
        return words["id"]
    if command == "guest-file-open":
        return 1000 + names.index(words["path"])
    if command == "guest-file-read":
        content = FILES[names[words["handle"] - 1000]]
        return {"count": len(content), "buf-b64": base64.b64encode(content).decode(), "eof": True}
    return {"position": 0, "eof": False}


@contextlib.asynccontextmanager
async def looking(folder: Path, answer: Answer, says_first: bytes = b"") -> AsyncIterator[tuple[GuestAgent, list[str]]]:
    """A guest agent's voice over a scripted peer, and the commands that it got."""
    commands: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says_first)
        while line := await reader.readline():
            request = json.loads(line.strip(b"\xff"))
            commands.append(request["execute"])
            said = answer(request["execute"], request.get("arguments", {}))
            if said is not None:
                prefix = b"\xff" if request["execute"] == "guest-sync-delimited" else b""
                writer.write(prefix + (said if isinstance(said, bytes) else json.dumps({"return": said}).encode()) + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(serve, folder / "qga.sock")
    heard: list[GuestStats] = []
    voice = GuestAgent(str(folder / "qga.sock"), "g", heard.append)
    task = asyncio.create_task(voice.run())
    try:
        yield voice, commands
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()


async def test_reads_proc_through_it(tmp_path: Path) -> None:
    """Memory, swap, faults and stalls; what another client left unread does not matter; files are opened once."""
    async with looking(tmp_path, honest, b'{"return": {"left": "over"}}\n') as (voice, commands):
        voice.watch(0.15)
        async with asyncio.timeout(60):
            while commands.count("guest-sync-delimited") < 3:
                await asyncio.sleep(0.02)
        assert voice.stats == GuestStats(
            total_bytes=512 << 20,
            free_bytes=1 << 20,
            available_bytes=7 << 20,
            cache_bytes=2 << 20,
            swap_total_bytes=512 << 20,
            swap_free_bytes=99 << 10,
            swap_in_bytes=3 * 4096,
            swap_out_bytes=5 * 4096,
            major_faults=7,
            psi_full_us=2345,
        )
        assert commands.count("guest-file-open") == 3


WRONG: dict[str, Answer] = {
    "silence": lambda _command, _words: None,
    "garbage": lambda _command, _words: b"[[[[",
    "deep": lambda _command, _words: b"[" * 20_000,
    "long": lambda _command, _words: b"x" * 10_000_000,
    "refusal": lambda command, words: (
        b'{"error": {"class": "CommandNotFound", "desc": "not allowed"}}' if "file" in command else honest(command, words)
    ),
    "types": lambda command, words: "seven" if "open" in command else honest(command, words),
    "base64": lambda command, words: {"buf-b64": "!!!"} if "read" in command else honest(command, words),
    "empty": lambda command, words: {"buf-b64": ""} if "read" in command else honest(command, words),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_one_that_does_not_answer_is_no_voice_and_is_left_alone(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No numbers, no crash, and no second look for a while: the port is others' too."""
    monkeypatch.setattr(guest_agent, "LOOK_S", 0.2)
    async with looking(tmp_path, WRONG[kind]) as (voice, commands):
        await asyncio.sleep(0.4)
        voice.watch(0.15)  # however close a look is wished for
        await asyncio.sleep(0.4)
        assert voice.stats is None
        assert commands.count("guest-sync-delimited") == 1


def test_an_old_kernel_has_no_pressure() -> None:
    """What is missing is left out; without MemAvailable there are no statistics."""
    found = stats_of(MEMINFO + VMSTAT)
    assert found is not None
    assert found.psi_full_us is None
    assert stats_of(VMSTAT) is None
    assert stats_of(b"MemTotal: 99999999999999999999 kB\nMemAvailable: 1 kB\n") is None


async def test_files_of_a_look_that_failed_are_closed_at_the_next_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that lives on keeps them open: hundreds of looks that fail would use them up."""
    monkeypatch.setattr(guest_agent, "BACKOFF_S", 0.01)
    closed: list[int] = []
    reads = 0

    def sometimes(command: str, words: dict[str, Any]) -> Any:
        nonlocal reads
        if command == "guest-file-close":
            closed.append(words["handle"])
            return {}
        if command == "guest-file-read" and (reads := reads + 1) == 3:
            return b'{"error": {"class": "GenericError", "desc": "busy"}}'
        return honest(command, words)

    async with looking(tmp_path, sometimes) as (voice, _), asyncio.timeout(60):
        while voice.stats is None or len(closed) < 3:
            await asyncio.sleep(0.02)
        assert sorted(closed) == [1000, 1001, 1002]
