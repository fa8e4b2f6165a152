"""What the agent costs: CPU and memory, on this machine's own kernel, into benchmarks/results/agent_cost.json; a minute.

Calm: no line near, a report each second. Alert: memory a hair above the line, which is then looked at 100 times a second.
"""

import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path

from ballonet.guest.bundle import bundle

SECONDS = 20.0
PATH = Path(__file__).parent / "results" / "agent_cost.json"


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int | str) -> int:
    """What it occupies."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def drain(host: int, seconds: float) -> int:
    """Reads what the agent says for a while. Gives how many messages."""
    until, lines = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        try:
            lines += os.read(host, 65536).count(b"\n")
        except BlockingIOError:
            time.sleep(0.05)
    return lines


def main() -> None:
    """Measures, prints and writes."""
    host, guest = os.openpty()
    os.set_blocking(host, False)
    tty.setraw(guest)
    with tempfile.NamedTemporaryFile(suffix="-ballonet-agent") as file:
        file.write(bundle())
        file.flush()
        words = [sys.executable, "-S", "-E", file.name, "--port", os.ttyname(guest)]
        agent = subprocess.Popen(words)  # noqa: S603 our own program
        drain(host, 3.0)
        found: dict[str, object] = {}
        available = int(Path("/proc/meminfo").read_text().split()[7]) * 1024
        for state, line in (("calm", 0), ("alert", int(available * 0.999))):
            os.write(host, b'{"line_bytes":%d}\n' % line)
            before, start = cpu_s(agent.pid), time.monotonic()
            messages = drain(host, SECONDS)
            share = (cpu_s(agent.pid) - before) / (time.monotonic() - start)
            found[state] = {"cpu_share": round(share, 4), "messages_per_s": round(messages / SECONDS, 1)}
        found["resident_mib"] = round(resident_bytes(agent.pid) / (1 << 20), 1)
        agent.kill()
        agent.wait()
    print(found)
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    date = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"date": date, "machine": machine, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
