"""JVMs with four fifths of garbage in their heaps, on real guests with OpenJDK, into benchmarks/results/java.json; 8 minutes.

Never ballooned (`ideal`), ballooned without JVM care, and with it, on the same work in one run. Recovered is what guests occupy
less at the end than those that were never ballooned, of the garbage that was made.
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
from ballonet.scenarios.scenario import load, scripts

ARMS = ("ideal", "adaptive+agent-nojvm", "adaptive+agent")
SCALE = 32
PATH = Path(__file__).parent / "results" / "java.json"


def main() -> None:
    """Measures, prints and writes."""
    scenario = load("java")
    print(", ".join(ARMS), file=sys.stderr, flush=True)
    flight = asyncio.run(run_arms(scenario, ARMS, scale=SCALE, host_share=None, seed=1, progress=lambda _: Progress()))
    guests = scripts(scenario, SCALE, 1)
    garbage = sum(max(used for _, used, _ in one.phases) - one.phases[-1][1] for one in guests)
    kept = flight.records[0].occupied[-1][1]
    found = {}
    for record, result in zip(flight.records, flight.results, strict=True):
        found[result.policy] = {
            "recovered_share": round((kept - record.occupied[-1][1]) / garbage, 3),
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
