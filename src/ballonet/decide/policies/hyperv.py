"""Hyper-V's Dynamic Memory: demand, buffer, priority, pressure; a look each second.

pressure = demand / assigned; ideal = demand x (1 + buffer), which at the default buffer of 20 % is a pressure of 83 %.
Demand is commit, not residency: MemTotal - MemAvailable and what is paged out. Memory is added while the host has some,
by priority and pressure; it is taken from the lowest pressure when a guest, or the reserve, is short. What guests were
promised at most (Maximum) plays no part beyond its bound.

Microsoft publishes neither step nor rate: here one look moves what is needed, at most an eighth of a guest.

Options: `buffer_share` (0.2), `buffer_share.NAME` for one guest, `host_reserve_bytes` (by the sliding scale). Priority is the
guest's shares.
"""

from typing import Final

from ballonet.decide.reserve import least_bytes
from ballonet.decide.seat import Seat
from ballonet.decide.table import Table
from ballonet.model.plan import Reason

PERIOD_S: Final = 1.0
BUFFER_SHARE: Final = 0.2
STEP_SHARE: Final = 0.125


def divide(table: Table) -> None:
    """One look."""
    buffer = table.option("buffer_share", BUFFER_SHARE)
    seats = [seat for seat in table.seats if seat.is_movable]
    buffers = {seat.guest.name: table.option(f"buffer_share.{seat.guest.name}", buffer) for seat in seats}
    ideals = {seat.guest.name: _ideal_bytes(seat, buffers[seat.guest.name]) for seat in seats}
    free = table.available_bytes - table.option("host_reserve_bytes", least_bytes(table.total_bytes))
    keeps = {seat.guest.name: seat.keep_bytes for seat in seats}
    short = max(0, int(-free))
    for seat in sorted(seats, key=lambda one: (-one.guest.shares, -pressure(one))):
        more = max(0, min(ideals[seat.guest.name] - seat.keep_bytes, _step_bytes(seat)))
        given = int(max(0, min(more, free)))
        keeps[seat.guest.name] += given
        free -= given
        short += more - given
    for seat in sorted(seats, key=pressure):
        spare = max(0, min(seat.keep_bytes - ideals[seat.guest.name], _step_bytes(seat)))
        taken = min(spare, short)
        keeps[seat.guest.name] -= taken
        short -= taken
    for seat in seats:
        what = f"pressure {pressure(seat):.0%}, ideal"
        seat.say(keeps[seat.guest.name], Reason.PEER, peer="Hyper-V", what=what, goal_bytes=ideals[seat.guest.name])


def pressure(seat: Seat) -> float:
    """Demand over what is assigned."""
    return seat.used_bytes / max(1, seat.keep_bytes)


def _ideal_bytes(seat: Seat, buffer_share: float) -> int:
    return max(seat.floor_bytes, min(int(seat.used_bytes * (1 + buffer_share)), seat.guest.ceiling_bytes))


def _step_bytes(seat: Seat) -> int:
    return int(STEP_SHARE * seat.guest.ceiling_bytes)
