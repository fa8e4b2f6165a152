"""R13 on real QEMU processes without an operating system: what must be left alone is seen from outside."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.lab.machine import QEMU

pytestmark = [pytest.mark.lab, pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"no {QEMU}")]
BALLOON = ("-device", "virtio-balloon-pci")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "no balloon device"),
        (BALLOON, "still booting"),
        ((*BALLOON, "-S"), "not running (prelaunch)"),
        ((*BALLOON, "-incoming", "defer"), "migrated"),
        ((*BALLOON, "-overcommit", "mem-lock=on"), "locked"),
    ],
)
async def test_left_alone_with_its_reason(words: tuple[str, ...], why: str) -> None:
    """The adapter says so, and why."""
    with tempfile.TemporaryDirectory(prefix="ballonet-test-") as folder:
        socket = Path(folder) / "x.sock"
        process = await asyncio.create_subprocess_exec(
            QEMU,
            "-nodefaults",
            "-display",
            "none",
            "-accel",
            "tcg",
            "-m",
            "64",
            "-qmp",
            f"unix:{socket},server=on,wait=off",
            *words,
        )
        hypervisor = QemuHypervisor((str(socket),), discover_s=0.1)
        await hypervisor.open()
        try:
            async with asyncio.timeout(60):
                while not (guests := hypervisor.guests()) or why not in guests[0].leave_alone:
                    assert process.returncode is None, "QEMU ended"
                    await asyncio.sleep(0.1)
            assert not guests[0].can_balloon
        finally:
            await hypervisor.close()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
