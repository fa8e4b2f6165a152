"""One tick of decide at 10, 100 and 1,000 guests: median and 99th percentile, into benchmarks/results.

Worlds in which every guest has fresh statistics at every tick and does what it is asked: `calm`, in which uses wander by 16 MiB,
`storm`, in which one guest in ten rises or falls by gigabytes at any time and the host is short, and `files`, the calm one with
guests whose disks are counted and read at each tick.
"""

import datetime as dt
import gc
import json
import os
import platform
import random
import time
from pathlib import Path

from ballonet.decide.step import START, step
from ballonet.model.limits import Limits
from ballonet.model.plan import Plan
from ballonet.model.snapshot import Guest, GuestStats, Host, Snapshot
from ballonet.model.units import GIB, MIB

TICKS = 300
WARM_UP = 50
CEILING = 16 * GIB
HOST_SHARE = {"calm": 0.75, "storm": 0.45, "files": 0.75}


class World:
    """Guests of 16 GiB that do as they are asked."""

    def __init__(self, kind: str, count: int) -> None:
        self._kind, self._source = kind, random.Random(1)  # noqa: S311 a benchmark's input
        self._used = [self._source.randint(4 * GIB, 8 * GIB) for _ in range(count)]
        self._keep = [12 * GIB] * count
        self._reads = 0
        self._total = int(HOST_SHARE[kind] * CEILING * count)

    def picture(self, plan: Plan | None) -> Snapshot:
        """The next picture, after a plan was carried out."""
        for number, one in enumerate(plan.guests if plan else ()):
            self._keep[number] = one.keep_bytes or self._keep[number]
        self._wander()
        guests = tuple(self._guest(*one) for one in zip(range(len(self._used)), self._used, self._keep, strict=True))
        held = sum(guest.resident_bytes or 0 for guest in guests)
        return Snapshot(host=Host(total_bytes=self._total, available_bytes=max(0, self._total - held)), guests=guests)

    def _wander(self) -> None:
        source = self._source
        self._reads += 100
        for number, used in enumerate(self._used):
            is_wild = self._kind == "storm" and source.random() < 0.1  # noqa: PLR2004 one in ten
            step_bytes = 2 * GIB if is_wild else 16 * MIB
            self._used[number] = min(14 * GIB, max(2 * GIB, used + source.randint(-step_bytes, step_bytes)))

    def _guest(self, number: int, used: int, keep: int) -> Guest:
        available = max(0, keep - used)
        is_counted = self._kind == "files"
        stats = GuestStats(
            total_bytes=keep,
            free_bytes=min(available, GIB) if is_counted else None,
            available_bytes=available,
            swap_in_bytes=0,
            swap_out_bytes=max(0, used - keep),
        )
        return Guest(
            name=f"g{number}",
            ceiling_bytes=CEILING,
            keep_bytes=keep,
            resident_bytes=min(used, keep),
            disk_reads=self._reads if is_counted else None,
            disk_read_ns=self._reads * 500_000 if is_counted else None,
            stats=stats,
            stats_age_s=0.1,
        )


def measure(kind: str, count: int) -> dict[str, object]:
    """Median and p99 of one tick, in milliseconds."""
    world = World(kind, count)
    state, plan, took = START, None, []
    for tick in range(TICKS + WARM_UP):
        picture = world.picture(plan)
        gc.collect()  # the pictures' garbage is the benchmark's, not the decision's
        start = time.perf_counter()
        state, plan = step(state, picture, Limits(), float(tick))
        took.append((time.perf_counter() - start) * 1e3)
    took = sorted(took[WARM_UP:])
    median, p99 = took[TICKS // 2], took[TICKS * 99 // 100]
    return {"world": kind, "guests": count, "median_ms": round(median, 3), "p99_ms": round(p99, 3)}


def main() -> None:
    """Measures, prints and writes the results file."""
    rows = [measure(kind, count) for kind in HOST_SHARE for count in (10, 100, 1000)]
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    path = Path(__file__).parent / "results" / "decide_tick.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"date": now, "machine": machine, "ticks": TICKS, "rows": rows}, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
