"""One tick's read of a vSphere API with 10, 100 and 1,000 VMs, into benchmarks/results/vsphere_read.json; a minute.

govmomi's simulator (tests/vsphere/vcenter.go) on this machine: not an ESXi, and no network between. Goal at 1,000: under 1 s.
"""

import datetime as dt
import json
import os
import platform
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ballonet.hypervisors.vsphere.config import VsphereConfig
from ballonet.hypervisors.vsphere.session import VsphereSession

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from vsphere.build import build

PATH = Path(__file__).parent / "results" / "vsphere_read.json"
READS = 20


def measured(program: Path, vms: int) -> dict[str, object]:
    """Reads, and the calls that each took."""
    words = [str(program), "-vms", str(vms), "-host", "4000000"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 our own program
    try:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().strip().partition(":")
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(ssl.get_server_certificate((host, int(port))))
            file.flush()
            where = VsphereConfig(server=host, port=int(port), user="ballonet", ca_file=file.name)
            session = VsphereSession(where, "secret")
        session.calls.clear()
        took = []
        for _ in range(READS):
            start = time.monotonic()
            rows = session.read().rows
            took.append(time.monotonic() - start)
        calls = sum(session.calls.values()) / READS
        session.close()
        return {
            "vms": len(rows),
            "read_median_s": round(statistics.median(took), 3),
            "read_max_s": round(max(took), 3),
            "calls": calls,
        }
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Measures, prints and writes."""
    program, found = build(), []
    for vms in (10, 100, 1000):
        found.append(measured(program, vms))
        print(found[-1], flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, govmomi's simulator"
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"when": now, "machine": machine, "reads": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
