"""Hosts like ESXi and Hyper-V, alone and with ballonet on top: every standard scenario at 75, 60 and 50 % of what is promised,
over seeds, simulated; into benchmarks/results. Names each case in which the mean or the worst guest is worse off with ballonet.
"""

import datetime as dt
import json
import os
import platform
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.progress import track

from ballonet.model.settings import SettingsError
from ballonet.scenarios.scenario import STANDARD, load
from ballonet.sim.run import order, run_arm

SHARES = (0.75, 0.6, 0.5)
SEEDS = range(1, 6)
LOOPS = ("hyperv", "esx")
SAME = 0.0005
"""Of throughput: less is no difference."""
PATH = Path(__file__).parent / "results" / "own_loops.json"
Job = tuple[str, str, float, int]


def one(job: Job) -> dict[str, Any] | None:
    """One host with one seed: mean and worst throughput, alone and with ballonet. None = its guests do not fit there at all."""
    loop, name, share, seed = job
    row: dict[str, Any] = {"loop": loop, "scenario": name, "host_share": share, "seed": seed}
    for arm, policy in (("alone", loop), ("on_top", f"{loop}+ballonet")):
        try:
            found = run_arm(order(load(name), policy=policy, host_share=share, seed=seed)).result(None).summary
        except SettingsError:
            return None
        row[arm] = [found.throughput_share or 0.0, found.throughput_share_worst or 0.0]
    return row


def gains(row: dict[str, Any]) -> tuple[float, float]:
    """By how much mean and worst are better with ballonet."""
    (mean, worst), (more, most) = row["alone"], row["on_top"]
    return more - mean, most - worst


def of_many(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The seeds of one scenario on one host: what is gained on average, and at the least."""
    means, worsts = zip(*map(gains, rows), strict=True)
    kept = {key: rows[0][key] for key in ("loop", "scenario", "host_share")}
    average = [round(sum(each) / len(rows), 4) for each in (means, worsts)]
    return kept | {"gain": average, "least_gain": [round(min(means), 4), round(min(worsts), 4)]}


def main() -> None:
    """Runs, prints what is lost and writes the results file. Argument: how many seeds (5)."""
    seeds = SEEDS[: int(sys.argv[1])] if len(sys.argv) > 1 else SEEDS
    names = sorted(path.name.removesuffix(".toml") for path in STANDARD.iterdir() if path.name.endswith(".toml"))
    jobs = [(loop, name, share, seed) for loop in LOOPS for name in names for share in SHARES for seed in seeds]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = [row for row in track(pool.map(one, jobs, chunksize=4), "hosts", total=len(jobs)) if row is not None]
    groups = defaultdict(list)
    for row in rows:
        groups[row["loop"], row["scenario"], row["host_share"]].append(row)
    found = [of_many(some) for some in groups.values()]
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"date": now, "machine": machine, "seeds": len(seeds), "summary": found}, indent=1) + "\n")
    for each in found:
        if min(each["least_gain"]) < -SAME:
            print(each)
    better = sum(min(each["least_gain"]) >= -SAME for each in found)
    print(f"{better} of {len(found)} hosts: nobody is worse off with ballonet in any of {len(seeds)} seeds")


if __name__ == "__main__":
    main()
