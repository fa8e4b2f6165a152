"""What guests wanted in recorded ticks, as a scenario for the simulator."""

import statistics
from collections.abc import Sequence

from ballonet.model.settings import SettingsError, Size
from ballonet.model.tick import Tick
from ballonet.scenarios.scenario import Group, HostPart, Scenario
from ballonet.scenarios.trace import Rows, traced

LEAST_S = 30.0
"""Less than this says nothing."""


def demand(ticks: Sequence[Tick]) -> Scenario:
    """The recorded demand: each guest with its memory, floor and weight, on the memory that the host had for guests.

    Guests of which nobody knows what they use are left out. Raises SettingsError when there is too little.
    """
    if len(ticks) < 2 or ticks[-1].at - ticks[0].at < LEAST_S:  # noqa: PLR2004 a beginning and an end
        raise SettingsError(f"less than {LEAST_S:.0f} s were recorded in that time; give an earlier --from")
    rows: dict[str, Rows] = {}
    known: dict[str, Group] = {}
    for tick in ticks:
        for guest, decision in zip(tick.snapshot.guests, tick.plan.guests, strict=True):
            if decision.used_bytes is None or guest.leave_alone:
                continue
            cache = (guest.stats.cache_bytes or 0) if guest.stats else 0
            mine = rows.setdefault(guest.name, [])
            if not mine or tick.at > mine[-1][0]:
                mine.append((tick.at, min(decision.used_bytes, guest.ceiling_bytes), cache))
            known[guest.name] = Group(
                name=guest.name,
                memory=Size(guest.ceiling_bytes),
                phases=(),
                floor_bytes=guest.floor_bytes,
                guaranteed_bytes=guest.guaranteed_bytes,
                shares=guest.shares,
                swap=not (guest.stats and guest.stats.swap_total_bytes == 0),
            )
    if not rows:
        raise SettingsError("no guest said what it uses in that time")
    memory = statistics.median(tick.plan.memory_bytes for tick in ticks)
    return traced("recorded", rows, known, HostPart(memory=Size(int(memory))))
