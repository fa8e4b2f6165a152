"""The densities over many seeds, simulated, beside an allocator that knows every need before it comes; into benchmarks/results.

One seed is one throw of the dice: when guests peak at the same moment. Quote the median and the worst of many. The allocator
moves memory in no time; `spare_least_bytes` says how much room one with real balloons would have at the tightest moment,
without any margin or reserve.
"""

import datetime as dt
import json
import os
import platform
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import track

from ballonet.scenarios.scenario import load
from ballonet.sim import clairvoyant
from ballonet.sim.run import SimOrder, order, run_arm

SCENARIOS = ("consolidation", "density-60", "density-50")
SEEDS = range(1, 25)
PATH = Path(__file__).parent / "results" / "density_seeds.json"
STEP_S = 0.1
Job = tuple[str, int]


def spare_least_bytes(what: SimOrder) -> int:
    """What is left of the host where least is left, when each guest keeps what it needs at that moment and not a byte more, and a
    balloon takes back what is needed no longer as fast as it can. Below 0, no allocator could have served all.
    """
    courses = [script.course() for script in what.scripts]
    keep, least = [course.used_bytes(0) for course in courses], float(what.budget_bytes)
    fall = what.speeds.take_touched_per_s * STEP_S
    for step in range(int(what.scenario.duration_s / STEP_S)):
        keep = [max(course.used_bytes(step * STEP_S), kept - fall) for course, kept in zip(courses, keep, strict=True)]
        least = min(least, what.budget_bytes - sum(keep))
    return int(least)


def one(job: Job) -> dict[str, Any]:
    """One scenario with one seed: `adaptive`, and what the clairvoyant does."""
    name, seed = job
    what = order(load(name), seed=seed)
    mine = run_arm(what).result(None).summary
    best = run_arm(replace(what, policy=clairvoyant.NAME)).result(None).summary
    mean, worst = mine.throughput_share or 0.0, mine.throughput_share_worst or 0.0
    return {
        "scenario": name,
        "seed": seed,
        "mean": mean,
        "worst": worst,
        "clairvoyant_mean": best.throughput_share,
        "clairvoyant_worst": best.throughput_share_worst,
        "swap_in_pages": mine.swap_in_pages,
        "shortage_s": mine.shortage_s,
        "spare_least_bytes": spare_least_bytes(what),
    }


def of_many(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and worst of a scenario's rows."""
    found: dict[str, Any] = {"scenario": rows[0]["scenario"], "seeds": len(rows)}
    for key in ("mean", "worst"):
        values = [row[key] for row in rows]
        behind = [row[f"clairvoyant_{key}"] - row[key] for row in rows]
        found |= {f"{key}_median": round(statistics.median(values), 4), f"{key}_least": min(values)}
        found |= {f"{key}_behind_median": round(statistics.median(behind), 4), f"{key}_behind_most": round(max(behind), 4)}
    found["spare_least_bytes"] = min(row["spare_least_bytes"] for row in rows)
    pages = [row["swap_in_pages"] for row in rows]
    return found | {"swap_in_pages_median": statistics.median(pages), "swap_in_pages_most": max(pages)}


def main() -> None:
    """Runs, prints and writes the results file. Argument: how many seeds (24)."""
    seeds = SEEDS[: int(sys.argv[1])] if len(sys.argv) > 1 else SEEDS
    jobs = [(name, seed) for name in SCENARIOS for seed in seeds]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = list(track(pool.map(one, jobs), "seeds", total=len(jobs)))
    found = [of_many([row for row in rows if row["scenario"] == name]) for name in SCENARIOS]
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"date": now, "machine": machine, "summary": found, "rows": rows}, indent=1) + "\n")
    for row in found:
        print(row)


if __name__ == "__main__":
    main()
