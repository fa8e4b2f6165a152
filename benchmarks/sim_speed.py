"""How many guest-ticks a second one core simulates, the production loop and `decide` inside, into benchmarks/results.

A guest-tick is one guest in one tick of the daemon's loop. Each scenario is multiplied: overheads of a tick are shared.
"""

import datetime as dt
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ballonet.model.settings import Size
from ballonet.model.tick import Tick
from ballonet.scenarios.scenario import Scenario, load
from ballonet.sim.run import order, run_arm

WORLDS = (("steady", 25, 1200.0), ("consolidation", 10, 1000.0), ("storm-3", 12, 600.0), ("density-50", 10, 70.0))
"""Scenario, how many of it, and for how long (simulated seconds)."""
PATH = Path(__file__).parent / "results" / "sim_speed.json"


def larger(scenario: Scenario, times: int, duration_s: float) -> Scenario:
    """The same with so many times the guests and the host."""
    groups = tuple(replace(group, count=group.count * times) for group in scenario.guests)
    host = replace(scenario.host, memory=Size(scenario.host.memory * times))
    return replace(scenario, guests=groups, host=host, duration_s=duration_s)


def measure(name: str, times: int, duration_s: float) -> dict[str, Any]:
    """One scenario, timed as a whole: building the world and checking its books are in it."""
    done = 0

    def count(_at: float, tick: Tick, _world: object) -> None:
        nonlocal done
        done += len(tick.plan.guests)

    what = order(larger(load(name), times, duration_s))
    start = time.process_time()
    run_arm(what, on_tick=count)
    took_s = time.process_time() - start
    per_s = round(done / took_s)
    return {"scenario": name, "guests": len(what.scripts), "guest_ticks": done, "cpu_s": round(took_s, 2), "per_s": per_s}


def main() -> None:
    """Measures, prints and writes the results file."""
    rows = [measure(*world) for world in WORLDS]
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"date": now, "machine": machine, "rows": rows}, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
