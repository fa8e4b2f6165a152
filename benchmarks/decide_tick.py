"""One tick of decide at 10, 100 and 1,000 guests: median and 99th percentile, into benchmarks/results."""

import datetime as dt
import json
import os
import platform
import random
import time
from pathlib import Path

from ballonet.decide.step import START, step
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, GuestStats, Host, Snapshot
from ballonet.model.units import GIB, MIB

TICKS = 200


def snapshot(count: int, source: random.Random) -> Snapshot:
    """Guests of 16 GiB with uses that wander, on three quarters of what is promised."""
    guests = []
    for number in range(count):
        used = source.randint(3 * GIB, 8 * GIB)
        keep = 12 * GIB
        stats = GuestStats(total_bytes=keep - 300 * MIB, available_bytes=keep - used, swap_in_bytes=0, swap_out_bytes=0)
        one = Guest(name=f"g{number}", ceiling_bytes=16 * GIB, keep_bytes=keep, resident_bytes=used, stats=stats, stats_age_s=0.1)
        guests.append(one)
    held = sum(guest.resident_bytes or 0 for guest in guests)
    return Snapshot(host=Host(total_bytes=12 * GIB * count, available_bytes=12 * GIB * count - held), guests=tuple(guests))


def measure(count: int) -> dict[str, float]:
    """Median and p99 of one tick, in milliseconds."""
    source = random.Random(1)  # noqa: S311 a benchmark's input
    worlds = [snapshot(count, source) for _ in range(10)]
    state, took = START, []
    for tick in range(TICKS):
        start = time.perf_counter()
        state, _ = step(state, worlds[tick % 10], Limits(), float(tick))
        took.append((time.perf_counter() - start) * 1e3)
    took.sort()
    return {"guests": count, "median_ms": round(took[TICKS // 2], 3), "p99_ms": round(took[TICKS * 99 // 100], 3)}


def main() -> None:
    """Measures, prints and writes the results file."""
    rows = [measure(count) for count in (10, 100, 1000)]
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    path = Path(__file__).parent / "results" / "decide_tick.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"date": now, "machine": machine, "ticks": TICKS, "rows": rows}, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
