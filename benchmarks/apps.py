"""Real applications on real guests: what their clients saw, fully backed, under ballonet and under each peer, at 75 and 60 % of
what was promised, into benchmarks/results/apps.json; about 75 minutes, 18 with `--policy adaptive` alone.

    python apps.py [--share SHARE ...] [--policy POLICY ...] [--seed SEED]

A ratio is to the fully backed arm of the same run. The results file keeps the arms of earlier runs that were not measured anew.
"""

import argparse
import datetime as dt
import json
import os
import platform
import sys
from pathlib import Path

from ballonet.bench.work import COMPARED, fly
from ballonet.model.result import GuestResult, Result
from ballonet.scenarios.scenario import load

PATH = Path(__file__).parent / "results" / "apps.json"
SHARES = (0.75, 0.6)


def row(one: GuestResult, backed: GuestResult) -> dict[str, object]:
    """One application under one policy."""
    assert one.latency_p50_s is not None
    return {
        "done": one.done,
        "work": one.throughput_share,
        "p50_ms": round(1000 * one.latency_p50_s, 1),
        "p99_ms": round(1000 * one.latency_p99_s, 1),
        "p99_times_backed": round(one.latency_p99_s / backed.latency_p99_s, 2) if backed.latency_p99_s else None,
        "swap_in_pages": one.swap_in_pages,
    }


def keep(share: float, seed: int, results: tuple[Result, ...]) -> None:
    """Writes the arms of one run into the results file."""
    known = json.loads(PATH.read_text()) if PATH.exists() else {}
    backed = {one.name: one for one in results[0].guests}
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, guests of 512 MiB under {results[0].accelerator}"
    for one in results:
        rows = {guest.name: row(guest, backed[guest.name]) for guest in one.guests}
        mean, worst = one.summary.throughput_share, one.summary.throughput_share_worst
        arm = {"date": now, "machine": machine, "work_mean": round(mean, 4), "work_worst": round(worst, 4), "guests": rows}
        known.setdefault(f"{share:g}", {}).setdefault(f"seed {seed}", {})[one.policy] = arm
        print(f"{share:.0%} {one.policy:9} mean {mean:.3f} worst {worst:.3f}")
        for name, found in rows.items():
            print(f"    {name:11} {found}", flush=True)
    PATH.write_text(json.dumps(known, indent=1) + "\n")


def main() -> None:
    """Measures, prints and writes after each share: a long run that breaks keeps what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, action="append")
    parser.add_argument("--policy", action="append")
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    for share in words.share or SHARES:
        arms = ("ideal", *(words.policy or COMPARED))
        flight = fly("lab", load("apps"), arms, share, words.seed, lambda text: print(text, file=sys.stderr, flush=True))
        keep(share, words.seed, flight.results)


if __name__ == "__main__":
    main()
