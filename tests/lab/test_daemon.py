"""`ballonet run` as a process of its own over real guests."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ballonet.lab.machine import Machine, qmp_folder
from ballonet.model.units import MIB

pytestmark = pytest.mark.lab

# A reserve that no host has: whatever guests can spare is asked for.
CONFIG = """
[loop]
mode = "{mode}"
[host]
reserve = "64TiB"
[qemu]
sockets = ["{folder}/*.sock"]
[control]
socket = "{own}/control.sock"
state = "{own}/state"
[guest.default]
floor = "150MiB"
"""


class Daemon:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def until(self, holds: Callable[[dict[str, Any]], bool], deadline_s: float = 60.0) -> dict[str, Any]:
        """The next log line of which something holds."""
        assert self.process.stderr is not None
        async with asyncio.timeout(deadline_s):
            while line := await self.process.stderr.readline():
                self.lines.append(json.loads(line))
                if holds(self.lines[-1]):
                    return self.lines[-1]
        raise AssertionError(f"the daemon ended: {self.lines[-3:]}")

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 10)


@contextlib.asynccontextmanager
async def daemon(tmp_path: Path, machines: list[Machine], mode: str) -> AsyncIterator[Daemon]:
    config = tmp_path / "ballonet.toml"
    config.write_text(CONFIG.format(mode=mode, folder=qmp_folder(machines[0].folder), own=tmp_path))
    program = Path(sys.executable).with_name("ballonet")
    process = await asyncio.create_subprocess_exec(program, "run", "-c", config, stderr=asyncio.subprocess.PIPE)
    try:
        yield Daemon(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def keeps_mib(machine: Machine) -> int:
    return int((await machine.command("query-balloon"))["actual"]) // MIB


async def at_rest_mib(machine: Machine) -> int:
    """What it keeps once that no longer changes."""
    before = -1
    while (now := await keeps_mib(machine)) != before:
        before = now
        await asyncio.sleep(1.5)
    return now


async def test_killed_in_the_middle_of_a_plan_and_started_again(tmp_path: Path, machines: list[Machine]) -> None:
    """After a kill -9 the next start adopts what it finds and goes on; floors hold; SIGTERM leaves guests as they are."""
    async with daemon(tmp_path, machines, "act") as first:
        await first.until(lambda line: line["event"] == "decision" and line["is_command"])
        assert await first.end(signal.SIGKILL) == -signal.SIGKILL
    async with daemon(tmp_path, machines, "act") as second:
        told = await second.until(lambda line: line["event"] == "decision" and line["keep_bytes"] is not None)
        assert told["kept_bytes"] <= 512 * MIB
        # In whichever order: a line that was read is not read again.
        await second.until(lambda _: {line.get("guest") for line in second.lines if line.get("reason") == "donor"} >= {"a", "b"})
        await asyncio.sleep(4)
        reached = [await at_rest_mib(machine) for machine in machines]
        assert all(148 <= keep < 400 for keep in reached), reached
        assert await second.end(signal.SIGTERM) == 0
        await second.until(lambda line: line["event"].startswith("stopped"))
    assert [await at_rest_mib(machine) for machine in machines] == reached


@pytest.mark.parametrize(("mode", "has_commands"), [("observe", False), ("advise", True)])
async def test_modes_that_touch_nothing(tmp_path: Path, machines: list[Machine], mode: str, has_commands: bool) -> None:
    """`observe` only watches, `advise` says what it would do; neither moves a balloon. SIGINT ends it in order."""
    async with daemon(tmp_path, machines, mode) as one:

        def told() -> set[str]:  # in whichever order: a line that was read is not read again
            decisions = [line for line in one.lines if line["event"] == "decision"]
            return {line["guest"] for line in decisions if line["is_command"] is has_commands}

        await one.until(lambda _: told() >= {"a", "b"})
        await asyncio.sleep(2)
        assert await one.end(signal.SIGINT) == 0
    assert [await keeps_mib(machine) for machine in machines] == [512, 512]
    assert any(line.get("is_command") for line in one.lines) is has_commands


async def test_reload_keeps_the_last_good_configuration(tmp_path: Path, machines: list[Machine]) -> None:
    """SIGHUP: a wrong file is told and changes nothing; a good one counts from then on, and guests stay known."""
    async with daemon(tmp_path, machines, "observe") as one:
        await one.until(lambda line: line["event"] == "decision")
        config = tmp_path / "ballonet.toml"
        good = config.read_text()
        config.write_text(good.replace('"observe"', '"perhaps"'))
        one.process.send_signal(signal.SIGHUP)
        told = await one.until(lambda line: "not reloaded" in line["event"])
        assert "loop.mode" in told["trouble"]
        assert [await keeps_mib(machine) for machine in machines] == [512, 512]
        config.write_text(good.replace('"observe"', '"act"'))
        one.process.send_signal(signal.SIGHUP)
        await one.until(lambda line: line["event"] == "reloaded")
        await one.until(lambda line: line.get("is_command") is True)
        assert min([await at_rest_mib(machine) for machine in machines]) < 400
        assert await one.end(signal.SIGTERM) == 0
