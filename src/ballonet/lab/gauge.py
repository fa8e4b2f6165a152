"""How fast one real guest's balloon and swap are on this machine, for the simulator to be held against."""

import asyncio
from typing import Final

from msgspec import Struct

from ballonet.lab.machine import Charge, Machine
from ballonet.lab.mortal import mortal_folder
from ballonet.lab.template import template
from ballonet.model.units import MIB

MEMORY_BYTES: Final = 512 * MIB
TAKEN_BYTES: Final = 256 * MIB
USED_BYTES: Final = 120 * MIB
"""What the guest's workload holds meanwhile."""
PAGED_BYTES: Final = 100 * MIB
"""By how much it is squeezed below that, to see it page."""
LOOK_S: Final = 0.01
DEADLINE_S: Final = 60.0
PACED: Final = 4000
"""Touches a second: more than a disk of 400 requests a second can serve."""


class Gauge(Struct, frozen=True, kw_only=True):
    """What one guest showed."""

    take_untouched_s: float
    """To take TAKEN_BYTES that the guest had never touched."""
    return_s: float
    """To give them back."""
    take_touched_s: float
    """To take them when they hold page cache."""
    swap_in_pages_per_s: float
    """While nearly every touch hits a page that is out."""
    accelerator: str


async def gauge() -> Gauge:
    """Starts a guest, measures, and ends it. About half a minute.

    Raises:
        LabUnavailableError, LabError: as of a lab run.
    """
    made = await template(MEMORY_BYTES)
    with mortal_folder("ballonet-gauge-") as folder:
        machine = await made.restore("gauge", folder, Charge(None))
        try:
            reports: asyncio.Queue[list[str]] = asyncio.Queue()
            machine.on_report = lambda _name, words: reports.put_nowait(words)
            untouched_s = await _move(machine, MEMORY_BYTES - TAKEN_BYTES)
            return_s = await _move(machine, MEMORY_BYTES)
            machine.tell("cache", MEMORY_BYTES - USED_BYTES)
            await _said(reports)
            touched_s = await _move(machine, MEMORY_BYTES - TAKEN_BYTES)
            return Gauge(
                take_untouched_s=round(untouched_s, 3),
                return_s=round(return_s, 3),
                take_touched_s=round(touched_s, 3),
                swap_in_pages_per_s=round(await _page(machine, reports), 1),
                accelerator=machine.hardware.accelerator,
            )
        finally:
            await machine.close()


async def _move(machine: Machine, keep_bytes: int) -> float:
    """Seconds until the balloon is where it was sent."""
    clock = asyncio.get_running_loop().time
    start = clock()
    await machine.command("balloon", value=keep_bytes)
    async with asyncio.timeout(DEADLINE_S):
        while (await machine.command("query-balloon"))["actual"] != keep_bytes:
            await asyncio.sleep(LOOK_S)
    return clock() - start


async def _page(machine: Machine, reports: asyncio.Queue[list[str]]) -> float:
    """Pages swapped in a second, by a guest that is squeezed below what it touches."""
    machine.tell("size", USED_BYTES, USED_BYTES)
    machine.tell("pace", PACED)
    await _said(reports)
    words = await _said(reports)
    base_bytes = int(words[6]) - int(words[7]) - int(words[5])
    await machine.command("balloon", value=USED_BYTES + base_bytes - PAGED_BYTES + machine.hardware.memory_bytes // 10)
    await asyncio.sleep(5)
    first = await _said(reports)
    await asyncio.sleep(5)
    last = await _said(reports)
    return (int(last[3]) - int(first[3])) / max(0.1, float(last[0]) - float(first[0]))


async def _said(reports: asyncio.Queue[list[str]]) -> list[str]:
    """The next report that is not made yet."""
    while not reports.empty():
        reports.get_nowait()
    async with asyncio.timeout(DEADLINE_S):
        return await reports.get()
