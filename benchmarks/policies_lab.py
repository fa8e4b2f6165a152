"""Every policy on real guests, on the same work: five scenarios, eight arms each, into benchmarks/results; about 65 minutes.

Arguments: scenarios, to measure fewer. The results file keeps those of an earlier run that were not measured anew.
"""

import datetime as dt
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ballonet.bench.work import COMPARED, fly
from ballonet.model.result import Result
from ballonet.scenarios.scenario import load

SCENARIOS = ("consolidation", "density-60", "density-50", "spike", "storm-3")
PATH = Path(__file__).parent / "results" / "policies_lab.json"


def keep(results: Sequence[Result]) -> None:
    """Writes the summaries of one scenario's arms into the results file."""
    known = json.loads(PATH.read_text())["scenarios"] if PATH.exists() else {}
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    machine["guests_under"] = results[0].accelerator
    known[results[0].scenario] = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "host_share": round(results[-1].host.budget_bytes / results[-1].host.promised_bytes, 3),
        "policies": {one.policy: msgspec.to_builtins(one.summary) for one in results},
    }
    PATH.write_text(json.dumps({"scale": 32, "seed": 1, "scenarios": known}, indent=1) + "\n")


def main() -> None:
    """Measures, prints and writes after each scenario: a long run that breaks keeps what it has."""
    for name in sys.argv[1:] or SCENARIOS:
        flight = fly("lab", load(name), ("ideal", *COMPARED), None, 1, lambda text: print(text, file=sys.stderr, flush=True))
        keep(flight.results)
        for one in flight.results:
            s = one.summary
            shares = f"{s.throughput_share:.3f} {s.throughput_share_worst:.3f}"
            print(f"{name:14} {one.policy:10} {shares} {s.swap_in_pages:8,} swap-ins {s.shortage_s:6.1f} s short")


if __name__ == "__main__":
    main()
