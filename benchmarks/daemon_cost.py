"""What the daemon costs, in shares of a core, beside the least that the same input and output can cost; about 10 min.

    python daemon_cost.py [WORLD ...] [--tree NAME=FOLDER ...]

Worlds: `roomy-100`, `tight-100`, `roomy-1000`, `tight-1000`: guests that use 60 % of what they were promised, on a host with
twice and with 62 % of that (cost_peers.py: one process each). Real QMP sockets, scripted answers, ticks of 1 s, in mode act,
with history and the control API on, and one scrape of the metrics every 15 s as Prometheus does it. The floor asks each guest
for its statistics once a second and reads its statm, by asyncio, and does nothing with them. `--tree` measures another source
tree in the same run; without one, this one. Results: benchmarks/results/daemon_cost.json.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from agent_cost import cpu_s, resident_bytes
from ballonet.history import reader
from ballonet.hypervisors.local.process import read

SECONDS = 60.0
WARM_S = 30.0
FLOOR_S = 20.0
SCRAPE_S = 15.0
SIZE_MIB = 4096
"""Of each guest."""
USED_SHARE = 0.6
HOST_SHARE = {"roomy": 2.0, "tight": 0.62}
"""Of all that is promised: what the host has."""
HERE = Path(__file__).parent
PATH = HERE / "results" / "daemon_cost.json"
CONFIG = """
[loop]
mode = "act"
[qemu]
sockets = ["{folder}/*.sock"]
[host]
root = "{folder}/root"
[control]
socket = "{folder}/control"
state = "{folder}"
"""


@contextlib.contextmanager
def peers(folder: Path, guests: int, host_share: float) -> Iterator[None]:
    """So many guests at sockets in `folder`, on a host that `folder`/root tells of."""
    words = [
        sys.executable,
        str(HERE / "cost_peers.py"),
        str(folder),
        str(guests),
        str(SIZE_MIB),
        str(host_share),
        str(USED_SHARE),
    ]
    one = subprocess.Popen(words)  # noqa: S603 our own program
    try:
        while len(list(folder.glob("*.sock"))) < guests or not (folder / "root/proc/meminfo").exists():
            time.sleep(0.1)
        yield
    finally:
        one.terminate()
        one.wait()


@contextlib.contextmanager
def daemon(folder: Path, tree: Path) -> Iterator[int]:
    """The daemon of a source tree over them: its process."""
    config = folder / "ballonet.toml"
    config.write_text(CONFIG.format(folder=folder))
    environment = os.environ | {"PYTHONPATH": str(tree)}
    with (folder / "log").open("wb") as log:
        one = subprocess.Popen([sys.executable, "-m", "ballonet.daemon", config], stderr=log, env=environment)  # noqa: S603 our own program
    try:
        yield one.pid
    finally:
        one.terminate()
        one.wait()


def measured(world: str, tree: Path) -> dict[str, object]:
    """CPU, memory and ticks of one daemon."""
    kind, _, guests = world.partition("-")
    with tempfile.TemporaryDirectory() as name, peers(Path(name), int(guests), HOST_SHARE[kind]), daemon(Path(name), tree) as pid:
        time.sleep(WARM_S)
        before, start, begin = cpu_s(pid), time.monotonic(), time.time()
        scrapes = []
        with httpx.Client(transport=httpx.HTTPTransport(uds=f"{name}/control"), base_url="http://ballonet") as http:
            while time.monotonic() - start < SECONDS:
                asked = time.monotonic()
                http.get("/metrics").raise_for_status()
                scrapes.append(time.monotonic() - asked)
                time.sleep(SCRAPE_S)
        core_share = (cpu_s(pid) - before) / (time.monotonic() - start)
        took = [tick.took_s for tick in reader.ticks(Path(name) / "history.db", begin, time.time())]
        return {
            "core_share": round(core_share, 4),
            "resident_mib": round(resident_bytes(pid) / 2**20, 1),
            "ticks": len(took),
            "tick_median_ms": round(1000 * statistics.median(took), 1),
            "tick_p99_ms": round(1000 * statistics.quantiles(took, n=100)[98], 1),
            "scrape_ms": round(1000 * statistics.median(scrapes), 1),
        }


class _Asker(asyncio.Protocol):
    """One guest of the floor: its answers are counted."""

    def data_received(self, data: bytes) -> None:
        del data


async def _ask_all(sockets: list[Path], statm: list[Path]) -> float:
    loop, asking = asyncio.get_running_loop(), []
    for path in sockets:
        transport, _ = await loop.create_unix_connection(_Asker, str(path))
        transport.write(b'{"execute":"qmp_capabilities"}\n')
        asking.append(transport)
    line = b'{"execute":"qom-get","arguments":{"path":"/machine/peripheral/balloon0","property":"guest-stats"},"id":1}\n'
    await asyncio.sleep(1.0)
    before, start = time.process_time(), time.monotonic()
    while (passed := time.monotonic() - start) < FLOOR_S:
        for transport in asking:
            transport.write(line)
        for path in statm:
            read(str(path))
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - start - passed)))
    found = (time.process_time() - before) / (time.monotonic() - start)
    for transport in asking:
        transport.close()
    return found


def floor(world: str) -> float:
    """The least that asking and reading costs."""
    kind, _, guests = world.partition("-")
    with tempfile.TemporaryDirectory() as name, peers(Path(name), int(guests), HOST_SHARE[kind]):
        return round(asyncio.run(_ask_all([*Path(name).glob("*.sock")], [*Path(name).glob("root/proc/[0-9]*/statm")])), 5)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("worlds", nargs="*", default=["roomy-100", "tight-100", "roomy-1000"])
    parser.add_argument("--tree", action="append", default=[], help="NAME=FOLDER of another source tree")
    words = parser.parse_args()
    trees = dict(word.split("=", 1) for word in words.tree) or {"this": str(HERE.parent / "src")}
    found = []
    for world in words.worlds:
        least = floor(world)
        for name, tree in trees.items():
            row = {"world": world, "tree": name, "floor_share": least} | measured(world, Path(tree))
            row["times_the_floor"] = round(float(str(row["core_share"])) / least, 1)
            found.append(row)
            print(row, flush=True)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    PATH.write_text(json.dumps({"when": now, "machine": machine, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
