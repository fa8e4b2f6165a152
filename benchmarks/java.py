"""JVMs with four fifths of garbage in their heaps, on real guests with OpenJDK, into benchmarks/results/java.json; 8 minutes.

Never ballooned (`ideal`), ballooned without JVM care, and with it, on the same work in one run. Of the garbage that was made:
recovered is what guests use less at the end than those that were never ballooned, as their kernels see it and with what is paged
out; taken is what they occupy less, so what the host has got of it. The host takes no more than it has use for.
"""

import asyncio
import datetime as dt
import json
import os
import platform
import sys
from pathlib import Path

from ballonet.lab.arm import Progress
from ballonet.lab.run import run_arms
from ballonet.model.tick import Tick
from ballonet.scenarios.scenario import load, scripts

ARMS = ("ideal", "adaptive+agent-nojvm", "adaptive+agent")
SCALE = 32
PATH = Path(__file__).parent / "results" / "java.json"


class Last:
    """The newest picture of each arm."""

    def __init__(self) -> None:
        self.seen: dict[str, Tick] = {}

    def progress(self, arm: str) -> Progress:
        """For one arm."""
        return Progress(on_tick=lambda _at, tick: self.seen.__setitem__(arm, tick))

    def used_bytes(self, arm: str) -> int:
        """What all guests used and had paged out."""
        stats = [guest.stats for guest in self.seen[arm].snapshot.guests if guest.stats]
        used = sum((one.total_bytes or 0) - (one.available_bytes or 0) for one in stats)
        return used + sum(max(0, (one.swap_out_bytes or 0) - (one.swap_in_bytes or 0)) for one in stats)


def main() -> None:
    """Measures, prints and writes."""
    last = Last()
    scenario = load("java")
    print(", ".join(ARMS), file=sys.stderr, flush=True)
    flight = asyncio.run(run_arms(scenario, ARMS, scale=SCALE, host_share=None, seed=1, progress=last.progress))
    guests = scripts(scenario, SCALE, 1)
    garbage = sum(max(used for _, used, _ in one.phases) - one.phases[-1][1] for one in guests)
    kept = flight.records[0].occupied[-1][1]
    found = {}
    for arm, record, result in zip(ARMS, flight.records, flight.results, strict=True):
        found[result.policy] = {
            "recovered_share": round((last.used_bytes(ARMS[0]) - last.used_bytes(arm)) / garbage, 3),
            "taken_share": round((kept - record.occupied[-1][1]) / garbage, 3),
            "throughput_share": round(result.summary.throughput_share, 4),
            "throughput_share_worst": round(result.summary.throughput_share_worst, 4),
            "latency_p99_s": max(one.latency_p99_s for one in result.guests),
            "swap_in_pages": result.summary.swap_in_pages,
        }
        print(result.policy, found[result.policy], flush=True)
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "guests_under": flight.results[0].accelerator}
    date = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"date": date, "machine": machine, "garbage_bytes": garbage, "arms": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
