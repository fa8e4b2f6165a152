"""How often a real guest's reads of files come to its disk, by how much of them its balloon leaves in its page cache: for the
simulator to be held against.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from ballonet.lab.machine import Charge, Machine
from ballonet.lab.mortal import mortal_folder
from ballonet.lab.template import template
from ballonet.model.units import MIB, PAGE_BYTES

MEMORY_BYTES: Final = 512 * MIB
USED_BYTES: Final = 100 * MIB
"""What the guest's programs hold besides."""
PACE: Final = 200
SET_BYTES: Final = 240 * MIB
READS_PER_S: Final = 800
SHAPES: Final = ("uniform", "zipf", "hot-0.1")
KEEPS_MIB: Final = (430, 400, 370, 340, 310)
SETTLE_S: Final = 3.0
SORT_S: Final = 30.0
"""For a kernel to learn which pages are read often: what was read once lies in one list with what is."""
COUNT_S: Final = 8.0
DEADLINE_S: Final = 60.0
BALLOON: Final = "/machine/peripheral/balloon0"


class Point(Struct, frozen=True, kw_only=True):
    """One size."""

    shape: str
    keep_bytes: int
    cached_bytes: int
    """Of its memory: page cache, by its driver's word."""
    reads_per_s: float
    """That came to its disk, as the host counts them."""
    wait_s: float
    """Of one of them."""


async def curves(on_progress: Callable[[str], None]) -> list[Point]:
    """A guest for each shape, smaller step by step. About four minutes.

    Raises:
        LabUnavailableError, LabError: as of a lab run.
    """
    made = await template(MEMORY_BYTES, has_data=True)
    found = []
    for shape in SHAPES:
        with mortal_folder("ballonet-curves-") as folder:
            machine = await made.restore("reader", folder, Charge(None))
            try:
                found += await _curve(machine, shape, on_progress)
            finally:
                await machine.close()
    return found


async def _curve(machine: Machine, shape: str, on_progress: Callable[[str], None]) -> list[Point]:
    reports: asyncio.Queue[list[str]] = asyncio.Queue()
    machine.on_report = lambda _name, words: reports.put_nowait(words)
    await machine.command("qom-set", path=BALLOON, property="guest-stats-polling-interval", value=1)
    machine.tell("size", USED_BYTES, USED_BYTES)
    machine.tell("pace", PACE)
    machine.tell("files", 0, SET_BYTES, READS_PER_S, shape, PAGE_BYTES, 0)
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(8):  # all of it has been read in once
            await reports.get()
    await asyncio.sleep(SORT_S)
    found = []
    for keep_mib in KEEPS_MIB:
        on_progress(f"files, {shape}: {keep_mib} MiB kept")
        await machine.command("balloon", value=keep_mib * MIB)
        await asyncio.sleep(SETTLE_S)
        before, began = await _disk(machine), asyncio.get_running_loop().time()
        await asyncio.sleep(COUNT_S)
        after, ended = await _disk(machine), asyncio.get_running_loop().time()
        stats = (await machine.command("qom-get", path=BALLOON, property="guest-stats"))["stats"]
        reads = after[0] - before[0]
        found.append(
            Point(
                shape=shape,
                keep_bytes=keep_mib * MIB,
                cached_bytes=stats["stat-available-memory"] - stats["stat-free-memory"],
                reads_per_s=round(reads / (ended - began), 1),
                wait_s=round((after[1] - before[1]) / 1e9 / max(1, reads), 6),
            )
        )
    return found


async def _disk(machine: Machine) -> tuple[int, int]:
    """Reads of its disk of files, and what they waited in nanoseconds."""
    devices: list[dict[str, Any]] = await machine.command("query-blockstats")
    stats = next(one["stats"] for one in devices if one.get("device") == "data")
    return stats["rd_operations"], stats["rd_total_time_ns"]
