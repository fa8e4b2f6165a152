"""The host end of an agent's channel against agents that are broken or hostile."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from ballonet.hypervisors.local import agent
from ballonet.hypervisors.local.agent import AgentChannel, Message

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def line(sequence: int, why: str = "report", available: int = 100 << 20, **more: object) -> bytes:
    message = {"agent": 1, "sequence": sequence, "why": why, "total_bytes": 512 << 20, "available_bytes": available, **more}
    return json.dumps(message).encode() + b"\n"


@contextlib.asynccontextmanager
async def listening(folder: Path, talk: Talk) -> AsyncIterator[tuple[AgentChannel, list[Message]]]:
    """A channel that listens to a scripted agent."""
    heard: list[Message] = []
    path = folder / "agent.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await talk(reader, writer)

    server = await asyncio.start_unix_server(serve, path)
    channel = AgentChannel(str(path), "g", heard.append)
    task = asyncio.create_task(channel.run())
    try:
        yield channel, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()


async def until(holds: Callable[[], bool], deadline_s: float = 60.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not holds():
            await asyncio.sleep(0.01)


async def test_hears_and_sends_the_line(tmp_path: Path) -> None:
    """Messages arrive as statistics, and the line goes to the guest once for each value."""
    got: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line(1, "hello") + line(2, available=7 << 20, swap_free_bytes=5))
        while data := await reader.readline():
            got.append(data)
        writer.close()

    async with listening(tmp_path, talk) as (channel, heard):
        await until(lambda: len(heard) == 2)
        assert channel.stats is not None
        assert (channel.stats.available_bytes, channel.stats.swap_free_bytes) == (7 << 20, 5)
        for wanted in (4096, 4096, 8192):
            channel.set_line(wanted)
        await until(lambda: len(got) == 2)
        assert got == [b'{"line_bytes":4096}\n', b'{"line_bytes":8192}\n']


async def test_a_flood_is_read_slowly(tmp_path: Path) -> None:
    """A guest that sends as fast as it can is read at a hundred lines a second, after a burst."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for sequence in range(100_000):
                writer.write(line(sequence))
                await writer.drain()
        writer.close()

    async with listening(tmp_path, talk) as (_, heard):
        start = time.monotonic()
        await until(lambda: len(heard) >= agent.BURST)
        await asyncio.sleep(1)
        most = agent.BURST + agent.LINES_PER_S * (time.monotonic() - start) + 2
        assert len(heard) <= most


async def test_nonsense_costs_the_guest_its_voice(tmp_path: Path) -> None:
    """Long lines, wrong types, sizes that cannot be, replays: the channel closes, and is not read for a while."""
    wrong = (
        b"x" * 10_000_000 + b"\n",
        b'{"agent": 1, "sequence": 3, "why": "report"}\n',
        line(3, available=-1),
        line(3, available=1 << 60),
        line(3, psi_some_share=7.0),
        line(1),
        b"\xff\xfe\n",
        b"[[[[[[[[[[\n",
        b"[" * 1900 + b"\n",
        line(3).replace(b"report", b"rep\xffrt"),
    )
    for number, words in enumerate(wrong):
        talks = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: bytes = words) -> None:
            nonlocal talks
            talks += 1
            writer.write(line(1, "hello") + line(2) + words + line(4))
            await reader.read()  # until the channel closes
            writer.close()

        folder = tmp_path / str(number)
        folder.mkdir()
        async with listening(folder, talk) as (channel, heard):
            await until(lambda channel=channel: channel._penalty_s > 0)  # type: ignore[misc]  # bound in this turn
            assert [one.sequence for one in heard] == [1, 2], words[:40]
            assert channel._penalty_s == agent.PENALTY_S
            assert talks == 1


async def test_half_a_message_is_no_message(tmp_path: Path) -> None:
    """An agent that dies in the middle of a line has said nothing with it; its next start is heard."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line(1, "hello") + line(2)[:30])
        await writer.drain()
        writer.close()

    async with listening(tmp_path, talk) as (channel, heard):
        await until(lambda: len(heard) == 2)  # two hellos of two connections
        assert channel._penalty_s == 0


async def test_silence_is_no_voice(tmp_path: Path) -> None:
    """After two and a half seconds without a report the agent's numbers are not taken any more."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line(1, "hello"))
        await reader.read()
        writer.close()

    async with listening(tmp_path, talk) as (channel, _):
        await until(lambda: channel.stats is not None)
        channel._heard_at -= agent.OLD_S
        assert channel.stats is None


async def test_a_port_that_nobody_reads_holds_nothing_up(tmp_path: Path) -> None:
    """A guest that reads nothing is told nothing more, and closing the channel does not wait for it."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's own transports all have it
        for sequence in range(1, 10_000):
            writer.write(line(sequence, "hello" if sequence == 1 else "report"))
            await asyncio.sleep(0.02)

    start = time.monotonic()
    async with listening(tmp_path, talk) as (channel, _):
        await until(lambda: channel.stats is not None)
        for wanted in range(1, 200_000):
            channel.set_line(wanted)
        assert channel._writer is not None
        assert channel._writer.transport.get_write_buffer_size() <= 2 * agent.LINE_BYTES
        start = time.monotonic()
    assert time.monotonic() - start < 2


async def test_a_port_without_an_agent_is_told_nothing(tmp_path: Path) -> None:
    """Lines that nobody reads would lie in the port until an agent starts, and be old then."""
    got: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(100))
        writer.close()

    async with listening(tmp_path, talk) as (channel, _):
        await until(lambda: channel._writer is not None)
        channel.set_line(4096)
        await channel.make_ready(4096, 0.1)
        await asyncio.sleep(0.1)
        assert got == []
