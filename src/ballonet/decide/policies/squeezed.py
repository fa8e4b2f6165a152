"""squeezed, Xen's balloon daemon (xen-api, ocaml/squeezed): what is free is divided in proportion to max - min.

It knows no guest statistics: min = the floor, max = the ceiling, actual = what the guest keeps. Guests that are off their
target and have not moved for 5 s are out of the sums, and judged anew on each run.

Options: `wanted_free_bytes` (72 MiB of the host stay free) and `inaccuracy_bytes` (4 KiB).
"""

from typing import Final

from ballonet.decide.seat import Seat
from ballonet.decide.table import Table
from ballonet.model.plan import Reason
from ballonet.model.units import KIB, MIB

PERIOD_S: Final = 10.0
WANTED_FREE_BYTES: Final = 72 * MIB
INACCURACY_BYTES: Final = 4 * KIB
STUCK_S: Final = 5.0


def divide(table: Table) -> None:
    """One run."""
    inaccuracy = int(table.option("inaccuracy_bytes", INACCURACY_BYTES))
    movable = [seat for seat in table.seats if seat.is_movable]
    able = [seat for seat in movable if not _is_stuck(table, seat, inaccuracy)]
    freeable = sum(max(0, seat.keep_bytes - seat.floor_bytes - 2 * inaccuracy) for seat in able)
    surplus = max(0, table.available_bytes + freeable - int(table.option("wanted_free_bytes", WANTED_FREE_BYTES)))
    width = sum(seat.guest.ceiling_bytes - seat.floor_bytes for seat in able)
    gamma = min(1.0, surplus / width) if width else 0.0
    for seat in able:
        room_kib = (seat.guest.ceiling_bytes - seat.floor_bytes) // KIB
        keep = seat.floor_bytes + int(gamma * room_kib) * KIB
        seat.say(keep, Reason.PEER, peer="squeezed", what=f"{gamma:.3f} of the way from min to max, surplus", goal_bytes=surplus)
    for seat in movable:
        if seat not in able:
            seat.say(seat.keep_bytes, Reason.PEER, peer="squeezed", what="stuck, out of the sums, surplus", goal_bytes=surplus)
    _note(table)


def _is_stuck(table: Table, seat: Seat, inaccuracy: int) -> bool:
    asked = seat.memory.motion.asked_bytes
    keep, since = table.past.get("still", {}).get(seat.guest.name, (None, table.now))
    is_off = asked is not None and abs(asked - seat.keep_bytes) > max(MIB, inaccuracy)
    return is_off and keep == seat.keep_bytes and table.now - since > STUCK_S


def _note(table: Table) -> None:
    """Since when each guest has stood where it stands."""
    old = table.past.get("still", {})
    table.past["still"] = {
        seat.guest.name: was if (was := old.get(seat.guest.name)) and was[0] == seat.keep_bytes else (seat.keep_bytes, table.now)
        for seat in table.seats
    }
