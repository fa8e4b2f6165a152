"""Proxmox VE's automatic allocation (PVE::AutoBalloon, pve-manager, 2026-08): host use to 80 %, 100 MiB a guest a round.

Decides as Proxmox does, arithmetic included. It knows: min = the floor (a guest without one is skipped), max = the
ceiling, shares (0 = skipped), MemFree (so page cache counts as used) and the host's use. It keeps nothing between rounds.

Options: `target_share` (0.8 of the host used) or `goal_bytes` (what to hand out; negative to take back), and
`max_change_bytes` (100 MiB).
"""

from collections.abc import Iterable
from typing import Final

from ballonet.decide.seat import Seat
from ballonet.decide.table import Table
from ballonet.model.plan import Reason
from ballonet.model.units import MIB

PERIOD_S: Final = 10.0
TARGET_SHARE: Final = 0.8
MAX_CHANGE_BYTES: Final = 100 * MIB
DEAD_BYTES: Final = 10 * MIB
IDLE_FREE_SHARE: Final = 0.25
DEFAULT_SHARES: Final = 1000


def divide(table: Table) -> None:
    """One round."""
    goal = goal_bytes(table)
    step = int(table.option("max_change_bytes", MAX_CHANGE_BYTES))
    seats = [seat for seat in table.seats if _takes_part(seat)]
    idle = [seat for seat in seats if _is_idle(seat)]
    pressured = [seat for seat in seats if not _is_idle(seat)]
    pending: dict[str, int] = {}
    if goal > DEAD_BYTES:
        left = _change(pending, pressured, goal, step)
        if left >= goal:
            _change(pending, seats, left, step)
    elif goal < -DEAD_BYTES:
        left = _change(pending, idle, goal, step)
        if left <= goal:
            _change(pending, seats, left, step)
    for seat in table.seats:
        if seat.is_movable:
            keep = pending.get(seat.guest.name, seat.keep_bytes)
            what = "pressured" if seat in pressured else "idle" if seat in idle else "not taking part"
            seat.say(keep, Reason.PEER, peer="Proxmox VE", what=f"{what}, host goal", goal_bytes=goal)


def goal_bytes(table: Table) -> int:
    """What is to be handed out (> 0) or taken back until the host's use is at its target."""
    if "goal_bytes" in table.options:
        return int(table.options["goal_bytes"])
    share = table.option("target_share", TARGET_SHARE)
    # Percent, as the node's setting is: 0.8 as a binary fraction would be a byte off.
    return int(table.total_bytes * round(share * 100, 6) / 100 - (table.total_bytes - table.available_bytes))


def _takes_part(seat: Seat) -> bool:
    return bool(seat.is_movable and seat.keep_bytes and seat.guest.floor_bytes and seat.guest.shares != 0)


def _is_idle(seat: Seat) -> bool:
    least = seat.guest.floor_bytes or 0
    free = seat.guest.stats.free_bytes if seat.guest.stats else None
    return bool(free and free > least * IDLE_FREE_SHARE and seat.keep_bytes >= least)


def _change(pending: dict[str, int], seats: Iterable[Seat], goal: int, step: int) -> int:
    """Divides `goal` among the seats, pass by pass; what of it is left."""
    left, goes_on = goal, True
    unfinished = list(seats)
    while left and goes_on:
        left, goes_on = _pass(pending, unfinished, goal, left, step)
    return left


def _pass(pending: dict[str, int], unfinished: list[Seat], goal: int, left: int, step: int) -> tuple[int, bool]:
    shares = sum(seat.guest.shares for seat in unfinished)
    want = left + sum(pending.get(seat.guest.name, seat.keep_bytes) - (seat.guest.floor_bytes or 0) for seat in unfinished)
    changed, has_moved = 0, False
    for seat in tuple(unfinished):
        least, here = seat.guest.floor_bytes or 0, seat.keep_bytes
        raw = least + int(want / shares * seat.guest.shares)
        desired = max(least, min(raw, seat.guest.ceiling_bytes))
        # Always against what the guest keeps now, not against what is pending: so a step is a step in all passes.
        if goal > 0 and desired > here:
            to = min(desired, here + step)
        elif desired < here:
            to = max(desired, here - step)
        else:
            unfinished.remove(seat)
            continue
        change = to - pending.get(seat.guest.name, here)
        pending[seat.guest.name] = to
        changed += change
        has_moved = has_moved or change != 0
    # The peer's loop goes on while a pass clipped or changed something and something changed: that is, while it changed.
    return left - changed, has_moved
