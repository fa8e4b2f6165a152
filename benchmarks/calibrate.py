"""The simulator against real guests, side by side, into benchmarks/results; exits 1 when a figure misses its goal."""

import datetime as dt
import json
import os
import platform
import sys
from pathlib import Path

import msgspec

from ballonet.bench.calibrate import calibrate

PATH = Path(__file__).parent / "results" / "calibration.json"


def main() -> int:
    """Measures, prints and writes the results file."""
    rows = calibrate(lambda text: print(text, file=sys.stderr, flush=True))
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"date": now, "machine": machine, "rows": msgspec.to_builtins(rows)}, indent=1) + "\n")
    for row in rows:
        verdict = "" if row.is_met else "  misses its goal"
        print(f"{row.case:24} {row.figure:24} lab {row.lab:10.3f}  sim {row.sim:10.3f}  error {row.error:+.3f}{verdict}")
    missed = [row for row in rows if not row.is_met]
    print(f"{len(rows) - len(missed)} of {len(rows)} figures within their goals")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
