"""ESX: memory states, and min-funding revocation with an idle tax (Waldspurger, OSDI'02; ESXi 6 thresholds).

State by free memory against minFree: high >= 400 %, clear >= 100 %, soft >= 64 %, hard >= 32 %, else low. From soft on
memory is ballooned away from the guest that pays least, rho = S / (P (f + k (1 - f))), k = 1 / (1 - tax), until minFree is free
again; above clear what is free beyond minFree goes back to the guest that pays most. A balloon takes at most 65 % of the
configured size (Mem.CtlMaxPercent). It looks each 15 s, and at once when the state falls.

ESXi estimates f, the active share, by sampling pages; here it is used / keep, the largest of now and two averages.

Options: `idle_tax_share` (0.75), `min_free_bytes` (by the sliding scale).
"""

import math
from typing import Final

from ballonet.decide.reserve import least_bytes
from ballonet.decide.seat import Seat
from ballonet.decide.states import NAMES, state_of
from ballonet.decide.table import Table
from ballonet.model.plan import Reason

PERIOD_S: Final = 15.0
IDLE_TAX_SHARE: Final = 0.75
MOST_BALLOON_SHARE: Final = 0.65
FAST_S: Final = 15.0
SLOW_S: Final = 60.0
PARTS: Final = 256
"""The amount to move is cut into this many parts: each goes from or to the guest that is first in line then."""


def divide(table: Table) -> None:
    """The state, each guest's active share, and what moves when it is time."""
    past = table.past
    min_free = table.option("min_free_bytes", least_bytes(table.total_bytes))
    old = past.get("state", "high")
    state = state_of(table.available_bytes / max(1.0, min_free), old)
    past["state"] = state
    seats = [seat for seat in table.seats if seat.is_movable]
    active = _active_shares(table, seats)
    targets: dict[str, int] = past.setdefault("targets", {})
    if table.now - past.get("ran_at", -1e9) >= PERIOD_S or NAMES.index(state) > NAMES.index(old):
        past["ran_at"] = table.now
        targets |= _moved(seats, active, table.available_bytes - min_free, table.option("idle_tax_share", IDLE_TAX_SHARE))
    for seat in seats:
        name = seat.guest.name
        what = f"state {state}, {active[name]:.0%} active, above minFree by"
        over = int(table.available_bytes - min_free)
        seat.say(targets.get(name, seat.keep_bytes), Reason.PEER, peer="ESX", what=what, goal_bytes=over)


def rho(shares: int, held_bytes: float, active_share: float, tax_share: float) -> float:
    """What a guest pays for each byte that it holds; idle ones cost k times as much."""
    k = 1 / (1 - tax_share)
    return shares / max(1.0, held_bytes * (active_share + k * (1 - active_share)))


def _moved(seats: list[Seat], active: dict[str, float], over: float, tax: float) -> dict[str, int]:
    """Where each guest goes: with `over` < 0 bytes are revoked from the cheapest, else handed to the dearest."""
    keeps = {seat.guest.name: float(seat.keep_bytes) for seat in seats}
    part, left = abs(over) / PARTS, abs(over)
    open_seats = list(seats)
    while left > 1 and open_seats:
        sign, pick = (-1, min) if over < 0 else (1, max)
        seat = pick(open_seats, key=lambda one: rho(one.guest.shares, keeps[one.guest.name], active[one.guest.name], tax))
        bound = _least_bytes(seat) if sign < 0 else seat.guest.ceiling_bytes
        step = min(part, left, max(0.0, sign * (bound - keeps[seat.guest.name])))
        keeps[seat.guest.name] += sign * step
        left -= step
        if step < min(part, left + step):
            open_seats.remove(seat)
    return {name: int(keep) for name, keep in keeps.items()}


def _least_bytes(seat: Seat) -> int:
    least = int((1 - MOST_BALLOON_SHARE) * seat.guest.ceiling_bytes)
    return min(seat.keep_bytes, max(least, seat.floor_bytes, seat.guest.guaranteed_bytes))


def _active_shares(table: Table, seats: list[Seat]) -> dict[str, float]:
    """Of what each guest keeps: rises fast, falls slowly."""
    past = table.past
    dt = table.now - past.get("averaged_at", table.now)
    past["averaged_at"] = table.now
    averages: dict[str, tuple[float, float]] = past.get("active", {})
    found, kept = {}, {}
    for seat in seats:
        now = min(1.0, seat.used_bytes / max(1, seat.keep_bytes))
        fast, slow = averages.get(seat.guest.name, (now, now))
        fast += (now - fast) * (1 - math.exp(-dt / FAST_S))
        slow += (now - slow) * (1 - math.exp(-dt / SLOW_S))
        kept[seat.guest.name] = (fast, slow)
        found[seat.guest.name] = max(now, fast, slow)
    past["active"] = kept
    return found
