"""Guests for benchmarks of the daemon: one process each, with open files like a QEMU's, on a host whose memory follows them.

    python cost_peers.py FOLDER COUNT SIZE_MIB HOST_SHARE USED_SHARE

forks COUNT guests that answer QMP (ballonet.lab.scripted) below FOLDER, and keeps FOLDER/root/proc true: what each of them
occupies, and what the host has available of HOST_SHARE of all that is promised. A guest uses USED_SHARE of its size and 2 MiB
of noise; each tenth one rises and falls by a tenth of its size within two minutes. Simulated: no RAM is touched.
"""

import asyncio
import math
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from ballonet.lab.scripted import ScriptedGuest

NOISE_BYTES: Final = 2 << 20
SWING_S: Final = 120.0
SWING_SHARE: Final = 0.1
OPEN_FILES: Final = 25
PAGE: Final = 4096
OVERHEAD_BYTES: Final = 8 << 20
"""Of the process itself."""
WRITE_S: Final = 0.5
"""Between two looks of the host at what its guests occupy."""


class CostGuest(ScriptedGuest):
    """One of them."""

    def __init__(self, folder: Path, number: int, size_bytes: int, keep_bytes: int, used_share: float) -> None:
        super().__init__(f"g{number}", number, size_bytes)
        self._actual, self._target = float(keep_bytes), keep_bytes
        self._share, self._source = used_share, random.Random(number)  # noqa: S311 noise
        self._proc = folder / "root" / "proc" / str(os.getpid())

    def _used(self) -> int:
        swing = 0.0
        if self._number % 10 == 0:
            swing = SWING_SHARE / 2 * math.sin(2 * math.pi * (time.monotonic() / SWING_S + self._number / 7))
        return int(self._size_bytes * (self._share + swing)) + self._source.randrange(NOISE_BYTES)

    def begin(self) -> None:
        """What the host sees of it."""
        self._proc.mkdir(parents=True)
        for name in ("stat", "fd", "cgroup"):
            (self._proc / name).symlink_to(f"/proc/{os.getpid()}/{name}")
        (self._proc / "status").write_text("VmLck:\t0 kB\nVmSwap:\t0 kB\n")
        for _ in range(OPEN_FILES):
            os.open("/dev/null", os.O_RDONLY)
        self.occupy()

    def occupy(self) -> None:
        """It has touched what it uses, as far as its balloon leaves it that."""
        pages = min(self._moved(), self._used() + OVERHEAD_BYTES) // PAGE
        path = self._proc / "statm"
        path.with_suffix(".new").write_text(f"{pages} {pages} 0 0 0 0 0\n")
        path.with_suffix(".new").rename(path)


async def _serve(guest: CostGuest, path: Path) -> None:
    await asyncio.start_unix_server(guest.serve, path)
    while True:
        await asyncio.sleep(WRITE_S)
        guest.occupy()


def _host(folder: Path, pids: list[int], total_bytes: int) -> None:
    """What is available: all that its guests do not occupy."""
    proc = folder / "root" / "proc"
    for name in ("self", "uptime", "pressure"):
        (proc / name).symlink_to(f"/proc/{name}")
    while True:
        used = 0
        for pid in pids:
            try:
                used += int((proc / str(pid) / "statm").read_text().split()[1]) * PAGE
            except (OSError, IndexError):
                continue  # not there yet
        with tempfile.NamedTemporaryFile("w", dir=proc, delete=False) as file:
            file.write(f"MemTotal: {total_bytes >> 10} kB\nMemAvailable: {max(0, total_bytes - used) >> 10} kB\n")
        Path(file.name).rename(proc / "meminfo")
        time.sleep(WRITE_S)


def main() -> None:
    """As the module says, until it is ended."""
    folder, count, size_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) << 20
    host_share, used_share = float(sys.argv[4]), float(sys.argv[5])
    (folder / "root" / "proc").mkdir(parents=True)
    keep_bytes = int(size_bytes * min(1.0, 0.99 * host_share))
    pids = []
    for number in range(count):
        if pid := os.fork():
            pids.append(pid)
            continue
        guest = CostGuest(folder, number, size_bytes, keep_bytes, used_share)
        guest.begin()
        asyncio.run(_serve(guest, folder / f"{guest.name}.sock"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _host(folder, pids, int(count * size_bytes * host_share))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
