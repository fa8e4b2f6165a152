"""A host that is made up, with scripted guests at real QMP sockets and the real daemon in mode act."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ballonet.control.client import Client
from ballonet.control.routes import EXPLANATION, STATUS
from ballonet.status.errors import ControlError
from ballonet.status.words import Explanation, GuestStatus, Status

PEER = Path(__file__).with_name("field") / "peer.py"
MIB = 1 << 20
CONFIG = """
[host]
root = "{folder}/root"
{reserve}
[loop]
mode = "act"
[qemu]
sockets = ["{folder}/q/*.sock"]
agents = false
[control]
socket = "{folder}/control.sock"
state = "{folder}/state-of-daemon"
{more}
"""


@dataclass
class Field:
    """One case: a host of so many MiB, its guests, and the daemon."""

    folder: Path
    total: int = 0
    own: int = 0
    """What the host's own programs use."""
    meminfo: str = ""
    """Further lines."""
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    daemon: "subprocess.Popen[bytes] | None" = None
    is_over: bool = False
    least_available: int = 1 << 40
    groups: dict[str, int] = field(default_factory=dict)
    """Limits of cgroups, by path."""

    def host(self, total: int, own: int = 0, meminfo: str = "", groups: dict[str, int] | None = None) -> None:
        self.total, self.own, self.meminfo, self.groups = total, own, meminfo, groups or {}

    def guest(self, name: str, size: int, **script: Any) -> None:
        """Starts one; sizes in MiB."""
        words = [sys.executable, str(PEER), str(self.folder), name, json.dumps({"size": size, **script})]
        self.processes.append(subprocess.Popen(words))

    def run(self, reserve: int | None = None, more: str = "", seen: int | None = None) -> None:
        """Starts the daemon, once all guests are there, and waits until it has seen them, or so many."""
        self.until(lambda: len(list((self.folder / "q").glob("*.sock"))) >= len(self.processes))
        self.until(lambda: len(self.states()) == len(self.processes))
        self._breathe()
        threading.Thread(target=self._live, daemon=True).start()
        line = f'reserve = "{reserve}MiB"' if reserve is not None else ""
        config = self.folder / "ballonet.toml"
        config.write_text(CONFIG.format(folder=self.folder, reserve=line, more=more))
        self.restart(len(self.processes) if seen is None else seen)

    def restart(self, seen: int | None = None) -> None:
        """Starts the daemon, by itself, and waits until it has seen so many guests; all of them without a number."""
        with (self.folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "ballonet.daemon", str(self.folder / "ballonet.toml")], stderr=log
            )
        self.until(lambda: len(self.status().guests) == (len(self.processes) if seen is None else seen))

    def _live(self) -> None:
        while not self.is_over:
            self._breathe()
            time.sleep(0.04)

    def _breathe(self) -> None:
        states = self.states()
        available = max(0, self.total - self.own - sum(one["resident"] for one in states.values()))
        self.least_available = min(self.least_available, available)
        proc = self.folder / "root/proc"
        rows = {"MemTotal": self.total, "MemFree": available, "MemAvailable": available}
        text = "".join(f"{key}: {mib * 1024} kB\n" for key, mib in rows.items()) + self.meminfo
        (proc / "meminfo.new").write_text(text)
        (proc / "meminfo.new").rename(proc / "meminfo")
        (proc / "uptime").write_text(f"{time.monotonic() + 10000:.2f} 0\n")
        for group, limit in self.groups.items():
            folder = self.folder / f"root/sys/fs/cgroup{group}"
            folder.mkdir(parents=True, exist_ok=True)
            inside = sum(one["resident"] for one in states.values() if one["group"].startswith(group))
            rows = {"memory.max": str(limit * MIB), "memory.current": str(inside * MIB), "memory.stat": "inactive_file 0\n"}
            for name, text in rows.items():  # at once, as the kernel's are
                (folder / f"{name}.new").write_text(text)
                (folder / f"{name}.new").rename(folder / name)

    def states(self) -> dict[str, dict[str, Any]]:
        found = {}
        for path in (self.folder / "state").glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                found[path.stem] = json.loads(path.read_text())
        return found

    def state(self, name: str) -> dict[str, Any]:
        return self.states()[name]

    def say(self, name: str, **change: Any) -> None:
        """Changes how a guest behaves from now on."""
        path = self.folder / f"say/{name}.json"
        path.with_suffix(".new").write_text(json.dumps(change))
        path.with_suffix(".new").rename(path)

    def status(self) -> Status:
        client = Client(self.folder / "control.sock")
        try:
            return client.ask(STATUS)
        except ControlError:
            return Status(host=None, guests=())  # type: ignore[arg-type]  # not up yet
        finally:
            client.close()

    def told(self, name: str) -> GuestStatus:
        return next(one for one in self.status().guests if one.name == name)

    def metrics(self) -> str:
        """As Prometheus reads them."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.folder / "control.sock")), base_url="http://b") as http:
            return http.get("/metrics").text

    def explain(self, name: str) -> Explanation:
        client = Client(self.folder / "control.sock")
        try:
            return client.ask(EXPLANATION, name)
        finally:
            client.close()

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def until(self, holds: Callable[[], bool], deadline_s: float = 60.0) -> None:
        """Waits for an event; the deadline is there for what never comes."""
        start = time.monotonic()
        while True:
            with contextlib.suppress(KeyError, StopIteration):
                if holds():
                    return
            assert time.monotonic() - start < deadline_s, f"it does not come to hold: {self.states()} {self.log[-2000:]}"
            time.sleep(0.05)

    def always(self, holds: Callable[[], bool], for_s: float) -> None:
        """Whether something holds all the time."""
        start = time.monotonic()
        while time.monotonic() - start < for_s:
            assert holds(), (self.states(), [one.sentence for one in self.status().guests])
            time.sleep(0.1)


@contextlib.contextmanager
def made_up(folder: Path) -> Iterator[Field]:
    """One in a folder, gone at the end with all of its processes."""
    for name in ("q", "state", "say", "root/proc", "state-of-daemon"):
        (folder / name).mkdir(parents=True)
    found = Field(folder)
    try:
        yield found
    finally:
        found.is_over = True
        for process in (found.daemon, *found.processes):
            if process is not None:
                process.kill()
                process.wait()
