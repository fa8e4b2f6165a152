"""MOM, oVirt's memory overcommitment manager (git 3de1c8e, its balloon rules): below 20 % free every guest shrinks.

Monitors each 5 s, decides each 10 s on averages over 10 samples, 5 % a round. `unused` is MemFree, so page cache counts
as used. MOM's own measure of a free host is (MemFree + Buffers + Cached) / MemTotal; here it is MemAvailable / MemTotal.

Option: `samples` (10; vdsm sets 30).
"""

from typing import Any, Final

from ballonet.decide.seat import Seat
from ballonet.decide.table import Table
from ballonet.model.plan import Reason

SAMPLE_S: Final = 5.0
PERIOD_S: Final = 10.0
SAMPLES: Final = 10
THRESHOLD_SHARE: Final = 0.20
CRITICAL_SHARE: Final = 0.05
STEP_SHARE: Final = 0.05
LEAST_CHANGE_SHARE: Final = 0.0025


def divide(table: Table) -> None:
    """A sample when one is due, a decision when one is due; in between the last word stands."""
    past = table.past
    if table.now - past.get("sampled_at", -1e9) >= SAMPLE_S:
        _sample(table)
    decides = table.now - past.get("decided_at", -1e9) >= PERIOD_S
    if decides:
        past["decided_at"] = table.now
    host_free = _average([[share] for share in past["host"]], 0)
    targets: dict[str, int] = past.setdefault("targets", {})
    for seat in table.seats:
        if not seat.is_movable:
            continue
        if decides:
            targets[seat.guest.name] = _target(seat, past["guests"].get(seat.guest.name), host_free)
        verb = "shrinks" if host_free < THRESHOLD_SHARE else "grows"
        keep = targets.get(seat.guest.name, seat.keep_bytes)
        seat.say(
            keep, Reason.PEER, peer="MOM", what=f"every guest {verb} with {host_free:.0%} of the host free:", goal_bytes=keep
        )


def _sample(table: Table) -> None:
    past, most = table.past, int(table.option("samples", SAMPLES))
    past["sampled_at"] = table.now
    past["host"] = [*past.get("host", ()), table.available_bytes / max(1, table.total_bytes)][-most:]
    old: dict[str, Any] = past.get("guests", {})
    past["guests"] = {
        seat.guest.name: [*old.get(seat.guest.name, ()), (seat.keep_bytes, free)][-most:]
        for seat in table.seats
        if seat.guest.stats is not None and (free := seat.guest.stats.free_bytes) is not None
    }


def _target(seat: Seat, samples: list[tuple[int, int]] | None, host_free: float) -> int:
    here = seat.keep_bytes
    if not samples:
        return here
    least = seat.guest.floor_bytes or 0
    used = _average(samples, 0) - _average(samples, 1)
    if host_free < THRESHOLD_SHARE:
        guest_free = host_free if host_free > CRITICAL_SHARE else host_free - CRITICAL_SHARE
        keep = max((1 - STEP_SHARE) * here, least, used + guest_free * here)
        keep = min(keep, here)
    else:
        need = max(least, used + THRESHOLD_SHARE * here)
        keep = min(seat.guest.ceiling_bytes, max((1 + STEP_SHARE) * here, need))
    return int(keep) if abs(keep - here) > LEAST_CHANGE_SHARE * here else here


def _average(samples: Any, column: int) -> float:
    return float(sum(sample[column] for sample in samples) / max(1, len(samples)))
