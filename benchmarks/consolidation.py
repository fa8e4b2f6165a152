"""`consolidation` on real guests: three seeds, three sizes of the host, against the same seed's `ideal`; about 22 minutes."""

import asyncio
import datetime as dt
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ballonet.lab.arm import Progress
from ballonet.lab.run import run_arms
from ballonet.scenarios.scenario import load

SEEDS = (1, 2, 3)
PATH = Path(__file__).parent / "results" / "consolidation.json"


async def measure() -> None:
    """Runs the arms one after the other and writes the results file after each seed: a long run that breaks keeps its rows."""
    scenario = load("consolidation")
    rows: list[dict[str, Any]] = []

    async def fly(seed: int, share: float, policies: Sequence[str], ideal: Any = None) -> Any:
        flight = await run_arms(scenario, policies, scale=32, host_share=share, seed=seed, progress=lambda _policy: Progress())
        ideal = ideal or flight.records[0]
        for record in flight.records[policies[0] == "ideal" :]:
            result = record.result(ideal)
            rows.append({"seed": seed, "host_share": share, "policy": result.policy} | msgspec.to_builtins(result.summary))
            print(json.dumps(rows[-1]), flush=True)
        return ideal

    for seed in SEEDS:
        ideal = await fly(seed, 0.75, ("ideal", "static", "adaptive"))
        for share in (0.6, 0.5):
            await fly(seed, share, ("adaptive",), ideal)
        _write(rows, ideal.accelerator)


def _write(rows: list[dict[str, Any]], accelerator: str) -> None:
    machine = {
        "cpus": os.cpu_count(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "guests_under": accelerator,
    }
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"date": now, "machine": machine, "scale": 32, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(measure())
