"""24 simulated hours of a daemon, with history, metrics and explanations: that nothing grows; into results/day.json; minutes.

Twenty simulated guests whose use changes each ten minutes, a tick a second at the least, on a clock that jumps.
"""

import asyncio
import datetime as dt
import json
import random
import tempfile
import time
from pathlib import Path

from agent_cost import resident_bytes
from ballonet.daemon.answers import DaemonAnswers
from ballonet.daemon.changes import Changes
from ballonet.history.tidy import Retention
from ballonet.model.snapshot import Mode
from ballonet.model.tick import Tick
from ballonet.model.units import GIB, MIB
from ballonet.scenarios.trace import traced
from ballonet.sim.run import order, run_arm
from ballonet.sim.world import SimWorld
from ballonet.status.explain import explain

HOURS, GUESTS = 24, 20
BEGIN = 1_800_000_000.0
PATH = Path(__file__).parent / "results" / "day.json"


def main() -> None:
    """Measures, prints and writes."""
    dice = random.Random(1)  # noqa: S311 any will do
    rows = {
        f"vm-{number}": [(600.0 * turn, int(dice.uniform(0.15, 0.5) * 4 * GIB), 0) for turn in range(HOURS * 6 + 1)]
        for number in range(GUESTS)
    }
    scenario = traced("day", rows, {})
    found: list[dict[str, float]] = []
    ticks, at = 0, BEGIN
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        desk = DaemonAnswers(folder, Path("/"), Retention(size_bytes=64 * MIB), lambda: Mode.ACT, lambda: None, lambda: at)
        changes = Changes()

        def told(now: float, tick: Tick, _world: SimWorld) -> None:
            nonlocal ticks, at
            ticks, at = ticks + 1, BEGIN + now
            desk.note(tick, changes.of(tick))
            while desk.backlog > 8:  # noqa: PLR2004 the disk is as fast as it is, the clock is not
                time.sleep(0.001)
            if ticks % 15 == 0:
                desk.metrics()
                explain(tick, f"vm-{ticks % GUESTS}", at=at, mode=Mode.ACT)
            if now >= 3600.0 * len(found):
                size = sum(path.stat().st_size for path in folder.iterdir())
                found.append({"hour": len(found), "resident_mib": resident_bytes("self") / MIB, "history_mib": size / MIB})
                print({key: round(value, 1) for key, value in found[-1].items()}, ticks, flush=True)

        run_arm(order(scenario), on_tick=told)
        lost = desk.counters.lost
        asyncio.run(desk.close())
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"date": now, "guests": GUESTS, "ticks": ticks, "lost": lost, "hours": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
