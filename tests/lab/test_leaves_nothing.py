"""However a lab run ends, no QEMU, no file and no cgroup is left."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ballonet.lab.cgroup import group_folder
from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.template import template

pytestmark = pytest.mark.lab


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child} | descendants(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_qemu(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "qemu" in Path(f"/proc/{pid}/comm").read_text()
    return False


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM)]
)
async def test_a_run_that_is_ended(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """Ctrl-C, a kill and a kill -9 in the middle of a run: all is gone within seconds."""
    try:
        await template(512 << 20)
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    program = Path(sys.executable).with_name("ballonet")
    quiet = asyncio.subprocess.DEVNULL
    # Whoever runs this in the background has told its children to ignore Ctrl-C; a person at a terminal has not.
    command = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    words = (sys.executable, "-c", command, program, "lab", "run", "overinflate")
    env = os.environ | {"TMPDIR": str(tmp_path)}
    run = await asyncio.create_subprocess_exec(*words, env=env, stdout=quiet, stderr=quiet)
    async with asyncio.timeout(60):
        while sum(map(is_qemu, family := descendants(run.pid))) < 4:
            await asyncio.sleep(0.1)
    assert list(tmp_path.iterdir())
    run.send_signal(number)
    assert await asyncio.wait_for(run.wait(), 20) == code
    deadline = time.monotonic() + 10
    while any(map(is_alive, family)) or list(tmp_path.iterdir()) or group_folder(run.pid).exists():
        assert time.monotonic() < deadline, (list(filter(is_alive, family)), list(tmp_path.iterdir()))
        await asyncio.sleep(0.1)
