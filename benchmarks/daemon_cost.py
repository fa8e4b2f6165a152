"""What the daemon costs with 100, 500 and 1,000 guests, into benchmarks/results/daemon_cost.json; about 5 min.

Real QMP sockets, scripted answers (ballonet.lab.scripted), ticks of 1 s, in mode act, with history and the control API on, and
one scrape of the metrics every 15 s as Prometheus does it. Goal at 100: 1 % of a core, 60 MB.
"""

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

SECONDS = 60.0
WARM_S = 30.0
SCRAPE_S = 15.0
SIZE_MIB = 4096
"""Of each guest."""
A_PROCESS = 20
"""Guests that one scripted process serves."""
PATH = Path(__file__).parent / "results" / "daemon_cost.json"
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
def scripted(folder: Path, guests: int) -> Iterator[None]:
    """So many guests at sockets in `folder`, on a host that `folder`/root tells of: large enough for all of them."""
    peers = []
    try:
        for number in range(-(-guests // A_PROCESS)):
            count = min(A_PROCESS, guests - number * A_PROCESS)
            words = [sys.executable, "-m", "ballonet.lab.scripted", str(folder), f"v{number}", str(count), str(SIZE_MIB)]
            peers.append(subprocess.Popen(words))  # noqa: S603 our own program
        while len(list(folder.glob("*.sock"))) < guests:
            time.sleep(0.1)
        _root(folder, guests, [peer.pid for peer in peers])
        yield
    finally:
        for peer in peers:
            peer.kill()
        for peer in peers:
            peer.wait()


def _root(folder: Path, guests: int, pids: list[int]) -> None:
    """/proc of a host with room for the guests, and the true one for their processes."""
    proc = folder / "root" / "proc"
    proc.mkdir(parents=True)
    total_kib = 2 * guests * SIZE_MIB * 1024
    (proc / "meminfo").write_text(f"MemTotal: {total_kib} kB\nMemAvailable: {total_kib // 3} kB\n")
    for name in ("self", "uptime", "pressure", *map(str, pids)):
        (proc / name).symlink_to(f"/proc/{name}")


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[int]:
    """`ballonet run` over them: its process."""
    config = folder / "ballonet.toml"
    config.write_text(CONFIG.format(folder=folder))
    program = Path(sys.executable).with_name("ballonet")
    with (folder / "log").open("wb") as log:
        one = subprocess.Popen([program, "run", "-c", config], stderr=log)  # noqa: S603 our own program
    try:
        yield one.pid
    finally:
        one.terminate()
        one.wait()


def measured(guests: int) -> dict[str, object]:
    """CPU, memory and ticks with so many guests."""
    with tempfile.TemporaryDirectory() as name, scripted(Path(name), guests), daemon(Path(name)) as pid:
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
            "guests": guests,
            "core_share": round(core_share, 4),
            "resident_mib": round(resident_bytes(pid) / 2**20, 1),
            "ticks": len(took),
            "tick_median_ms": round(1000 * statistics.median(took), 1),
            "tick_p99_ms": round(1000 * statistics.quantiles(took, n=100)[98], 1),
            "scrape_ms": round(1000 * statistics.median(scrapes), 1),
        }


def main() -> None:
    """Measures, prints and writes."""
    found = []
    for guests in [int(word) for word in sys.argv[1:]] or [100, 500, 1000]:
        found.append(measured(guests))
        print(found[-1], flush=True)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    if len(sys.argv) == 1:
        PATH.write_text(json.dumps({"when": now, "machine": machine, "guests": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
