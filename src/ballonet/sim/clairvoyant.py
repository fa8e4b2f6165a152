"""The clairvoyant allocator: knows every guest's true need before it comes, and moves memory in no time.

What it reaches is the bound for every controller (`regret_share`). When not all fits it first cuts what files are read again and
again, all by the same share, then all needs, so that nobody pages more than the others.
"""

import asyncio
from typing import Final

from ballonet.sim.guest import SimGuest
from ballonet.sim.ledger import EXTENT_BYTES
from ballonet.sim.world import STEP_S, SimWorld

NAME: Final = "clairvoyant"
AHEAD_S: Final = 2 * STEP_S
MARGIN_EXTENTS: Final = 2
AT_ONCE: Final = 1e9


async def allocate(world: SimWorld) -> None:
    """Sets every balloon, step by step, for ever."""
    world.is_effortless = True
    for guest in world.guests:
        guest.take_factor = guest.give_factor = AT_ONCE
    clock = asyncio.get_running_loop().time
    while True:
        world.advance(clock())
        at = max(0.0, clock() - world.start_s)
        needs = {guest: _need(guest, at) for guest in world.guests if _is_movable(guest)}
        fixed = sum(
            guest.memory.resident for guest in world.guests if not (_is_movable(guest) or guest.is_gone or guest.script.huge)
        )
        pool = max(0, world.ledger.total - fixed - world.own_bytes // EXTENT_BYTES)
        share = min(1.0, pool / max(1, sum(needs.values())))
        files = {guest: guest.files.live_extents(at) for guest in needs if guest.files}
        cached = min(1.0, max(0, pool - sum(needs.values())) / max(1.0, sum(files.values())))
        for guest, need in needs.items():
            guest.ask(int(need * share + files.get(guest, 0.0) * cached))
        await asyncio.sleep(STEP_S)


def _is_movable(guest: SimGuest) -> bool:
    return not (guest.is_gone or guest.has_no_driver or guest.leave_alone or guest.script.huge)


def _need(guest: SimGuest, at: float) -> int:
    """In extents. What a collector walks is needed, garbage or not."""
    need = int(max(guest.course.used_bytes(at), guest.course.used_bytes(at + AHEAD_S))) // EXTENT_BYTES
    return max(need, guest.size if guest.script.jvm else 0) + MARGIN_EXTENTS
