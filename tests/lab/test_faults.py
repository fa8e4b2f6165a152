"""Real guests whose QEMU dies, hangs or talks nonsense: no crash, a clear log line, the next tick right."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ballonet.lab.machine import Machine, qmp_folder
from ballonet.model.plan import Decision, Reason
from ballonet.model.snapshot import Guest
from ballonet.model.tick import Tick
from ballonet.model.units import MIB
from flights import Flight, flying

pytestmark = pytest.mark.lab
BUDGET = 560 * MIB
NOT_HEARD = {Reason.ALONE, Reason.STALE, Reason.UNKNOWN}


def named(tick: Tick, name: str) -> Guest | None:
    return next((guest for guest in tick.snapshot.guests if guest.name == name), None)


def decision(tick: Tick, name: str) -> Decision:
    return next(one for one in tick.plan.guests if one.name == name)


def keep_mib(tick: Tick, name: str) -> int:
    guest = named(tick, name)
    return (guest.keep_bytes or 0) // MIB if guest else 0


def is_heard(tick: Tick, name: str) -> bool:
    """Whether there is news of a guest's memory, and it is decided on."""
    return named(tick, name) is not None and decision(tick, name).reason not in NOT_HEARD


async def in_the_middle(flight: Flight, name: str) -> None:
    """Until the guest's balloon is on its way."""
    await flight.until(lambda tick: 250 < keep_mib(tick, name) < 440)


async def test_qemu_killed_in_the_middle_of_an_inflation(machines: list[Machine], caplog: pytest.LogCaptureFixture) -> None:
    """The dead guest is forgotten with a log line, and the other gets the memory that is free now."""
    caplog.set_level(logging.INFO)
    victim = machines[0]
    async with flying((f"{qmp_folder(victim.folder)}/*.sock",), machines, BUDGET) as flight:
        await in_the_middle(flight, "a")
        victim.signal(signal.SIGKILL)
        gone = await flight.until(lambda tick: named(tick, "a") is None)
        assert [one.name for one in gone.plan.guests] == ["b"]
        await flight.until(lambda tick: keep_mib(tick, "b") > 400)
    assert any(record.message == "guest gone" and record.guest == "a" for record in caplog.records)  # type: ignore[attr-defined]


async def test_hung_qemu_delays_nobody(machines: list[Machine]) -> None:
    """A stopped QEMU: ticks go on, the other guest is still heard and moved; the hung one loses nothing and comes back."""
    async with flying((f"{qmp_folder(machines[0].folder)}/*.sock",), machines, 800 * MIB) as flight:
        await in_the_middle(flight, "a")
        machines[0].signal(signal.SIGSTOP)
        leave_alone = await flight.until(lambda tick: tick.plan.guests[0].reason is Reason.ALONE)
        assert "not answered" in leave_alone.plan.guests[0].sentence
        machines[1].tell("size", 200 * MIB, 1e12)
        await flight.until(lambda tick: keep_mib(tick, "b") > 300 and not tick.plan.guests[0].is_command)
        machines[0].signal(signal.SIGCONT)
        await flight.until(lambda tick: is_heard(tick, "a"))


class Proxy:
    """Stands between ballonet and a real QEMU's QMP socket, and spoils what QEMU says when told to."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.spoils: bytes | None = None
        """What is said instead of QEMU's next words; None = its own."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self.target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, up_writer))
                both.create_task(self._spoil(up_reader, writer))
        except* ConnectionError:
            pass
        finally:
            up_writer.close()
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        raise ConnectionError

    async def _spoil(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_spoiled = False
        while data := await reader.read(65536):
            if self.spoils is None and not is_spoiled:
                writer.write(data)
            elif not is_spoiled:
                writer.write(self.spoils or b"")
                is_spoiled = True
        raise ConnectionError


@pytest.fixture
async def proxied(machines: list[Machine], tmp_path: Path) -> AsyncIterator[tuple[Proxy, tuple[str, ...]]]:
    """A proxy before guest `a`, and the sockets of both guests."""
    proxy = Proxy(machines[0].qmp_path)
    server = await asyncio.start_unix_server(proxy.serve, str(tmp_path / "a.sock"))
    yield proxy, (str(tmp_path / "a.sock"), str(machines[1].qmp_path))
    server.close()


@pytest.mark.parametrize(
    "spoils", [b"\x00\xff garbage\r\n", b'{"return": {"act', b"", b'{"return": {"actual": "much"}}\r\n', b"[1]\r\n"]
)
async def test_qmp_that_talks_nonsense(
    machines: list[Machine], proxied: tuple[Proxy, tuple[str, ...]], spoils: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Garbage, half a line, nothing, a wrong answer, wrong JSON in a running session: a warning that names the guest,
    ticks go on, the guest loses nothing on old news, and is back when its QEMU talks sense again.
    """
    caplog.set_level(logging.WARNING)
    proxy, sockets = proxied
    async with flying(sockets, machines, 900 * MIB) as flight:
        await flight.until(lambda tick: is_heard(tick, "a") and is_heard(tick, "b"))
        caplog.clear()
        proxy.spoils = spoils
        alone = await flight.until(lambda tick: decision(tick, "a").reason in NOT_HEARD)
        assert not decision(alone, "a").is_command
        await flight.until(lambda tick: is_heard(tick, "b"))
        await flight.until(
            lambda _: any(getattr(one, "guest", "") == "a" and getattr(one, "trouble", "") for one in caplog.records)
        )
        proxy.spoils = None
        await flight.until(lambda tick: is_heard(tick, "a"), 60)
    assert not [record for record in caplog.records if record.exc_info]
