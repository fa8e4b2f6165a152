"""One scripted guest behind a real QMP socket, in a process of its own, with a made-up /proc that shows what it occupies.

    python tests/field/peer.py FOLDER NAME SCRIPT

SCRIPT is JSON, the fields of `Script`. The peer writes FOLDER/root/proc/PID, serves FOLDER/q/NAME.sock, and writes
FOLDER/state/NAME.json several times a second: what it occupies, keeps, and has paged, for the test and for the host's
meminfo. A file FOLDER/say/NAME.json, when it appears, changes fields of the script.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from ballonet.lab.scripted import BALLOON, ScriptedGuest

MIB = 1 << 20
STEP_S = 0.2
"""A step is no longer, whatever the machine does: one that stands still for seconds stops guests and their host alike."""
UNHEARD_S = 1.5
"""So long a guest goes on after it was asked for statistics; then its time waits for a daemon that the machine keeps waiting."""
PAGE = os.sysconf("SC_PAGE_SIZE")
ABSENT = 2**64 - 1


class Script(msgspec.Struct, kw_only=True):
    """How it behaves; sizes in MiB, times in seconds."""

    size: int
    keep: int | None = None
    """At the start; None = all."""
    use: list[tuple[float, float, float]]
    """From when on it uses how much, and how fast it goes there a second."""
    cache: int = 0
    """Page cache that it has at the start, resident and available."""
    moves: float = 1024
    """A second, by its balloon."""
    read: float = 100
    """A second, from its swap."""
    has_driver: bool = True
    is_inert: bool = False
    """What its balloon takes stays where it was."""
    resident: int | None = None
    """What the host sees of it, whatever it does."""
    swapped: int = 0
    """What the host has paged out of that."""
    huge: int = 0
    inside: int = 0
    """An untouched pool of huge pages inside: neither available nor touched."""
    claims_swap_in: float = 0.0
    """A second, beside the truth."""
    says: str = "all"
    """`nothing`: all statistics are absent; `total`: all but one."""
    update_ahead: float | None = None
    """`last-update` stands still, so far ahead of the clock."""
    devices: list[str] = []
    """Types of its further devices."""
    objects: list[str] = []
    memory_devices: list[dict[str, Any]] = []
    migration: str = "none"
    run_state: str = "running"
    group: str = ""
    """Its cgroup."""
    files: list[str] = []
    """What else it has open."""
    answers: dict[str, Any] = {}
    """What it says instead, by command; of qom-get by property."""
    late: dict[str, float] = {}
    """How long its first answer to a command takes."""
    socket: str = ""
    """Its file's name, in which \\xNN stands for that byte; empty = its own name."""
    says_name: bool = True


class Peer(ScriptedGuest):
    """The guest."""

    def __init__(self, name: str, script: Script, folder: Path) -> None:
        super().__init__(name, 0, script.size * MIB)
        self.script, self.folder = script, folder
        self.began = self.at = self.asked_at = time.monotonic()
        self.lived = 0.0
        """How long it has run, in its own time."""
        self.is_known = False
        if script.keep is not None:
            self._actual = self._target = script.keep * MIB
        self.used = script.use[0][1] * MIB
        self.swapped = self.came_in = self.went_out = self.least_lack = self.paged_in = 0.0
        self.resident = min(self._actual, self.used + script.cache * MIB)
        self.lowest = self._actual
        self.commands: list[int] = []
        self.proc = folder / f"root/proc/{os.getpid()}"
        (self.proc / "fd").mkdir(parents=True, exist_ok=True)
        (self.proc / "stat").write_text(f"{os.getpid()} (qemu) S {' '.join(['0'] * 18)} 0 0\n")
        for number, target in enumerate(script.files):
            (self.proc / f"fd/{number + 10}").symlink_to(target)
        self.step()

    def goal(self) -> float:
        at, value = self.lived, self.script.use[0][1]
        for (since, goal, per_s), until in zip(self.script.use, [*(one[0] for one in self.script.use[1:]), 1e18], strict=True):
            way = per_s * max(0.0, min(at, until) - since)
            if at >= since:
                value = min(goal, value + way) if goal > value else max(goal, value - way)
        return value * MIB

    def step(self) -> None:
        now, script = time.monotonic(), self.script
        until = self.asked_at + UNHEARD_S if self.is_known else now
        dt = max(0.0, min(now, until, self.at + STEP_S) - self.at)
        self.at = now
        self.lived += dt
        way = script.moves * MIB * dt
        if script.has_driver:
            self._actual += max(-way, min(way, self._target - self._actual))
        self.used = self.goal()
        out = max(0.0, self.used - self._actual)
        if out > self.swapped:
            self.went_out += out - self.swapped
        else:
            back = min(self.swapped - out, script.read * MIB * dt)
            self.came_in += back
            self.paged_in += back
            out = self.swapped - back
        thrash = min(out, script.read * MIB * dt)
        self.came_in += thrash + script.claims_swap_in * MIB * dt
        self.paged_in += thrash
        self.went_out += thrash
        self.swapped = out
        touched = min(self.used - self.swapped, self._actual)
        self.resident = max(touched, self.resident if script.is_inert else min(self.resident, self._actual))
        self.lowest = min(self.lowest, self._actual)
        self.show()

    @property
    def resident_mib(self) -> int:
        fixed = self.script.resident
        return int(self.resident / MIB) if fixed is None else min(fixed, max(0, int(self._actual / MIB) - self.script.swapped))

    def show(self) -> None:
        swapped = min(self.script.swapped, int(self._actual / MIB))
        kib = (
            f"VmRSS:\t{self.resident_mib * 1024} kB\nVmSwap:\t{swapped * 1024} kB\nHugetlbPages:\t{self.script.huge * 1024} kB\n"
        )
        _put(self.proc / "status", f"Name:\tqemu\n{kib}VmLck:\t0 kB\n")
        _put(self.proc / "statm", f"0 {self.resident_mib * MIB // PAGE} 0 0 0 0 0\n")
        if self.script.group:
            _put(self.proc / "cgroup", f"0::{_odd(self.script.group)}\n")
        state = {
            "pid": os.getpid(),
            "resident": self.resident_mib,
            "keep": int(self._actual / MIB),
            "asked": int(self._target / MIB),
            "used": int(self.used / MIB),
            "lowest": int(self.lowest / MIB),
            "paged_in": int(self.paged_in / MIB),
            "paged_out": int(self.went_out / MIB),
            "commands": len(self.commands),
            "group": _odd(self.script.group),
        }
        _put(self.folder / f"state/{self.name}.json", json.dumps(state))

    def answer(self, command: str, arguments: dict[str, Any]) -> Any:
        self.step()
        script = self.script
        time.sleep(script.late.pop(arguments.get("path", command), 0.0))
        answers = script.answers if script.says_name else script.answers | {"query-name": {}}
        if (said := answers.get(arguments["property"] if command == "qom-get" else command)) is not None:
            return said
        return self.act(command, arguments)

    def act(self, command: str, arguments: dict[str, Any]) -> Any:
        script = self.script
        if command == "balloon":
            self.commands.append(int(arguments["value"]))
            self._target = int(arguments["value"])
            return {}
        if command == "query-balloon":
            return {"actual": int(self._actual)}
        if command == "qom-get" and arguments["property"] == "guest-stats":
            self.is_known, self.asked_at = True, self.at
            return self.report()
        if command == "qom-list":
            return self.listed(arguments["path"])
        return {
            "query-memory-devices": script.memory_devices,
            "query-memory-size-summary": {"base-memory": self._size_bytes, "plugged-memory": 0},
            "query-migrate": {"status": script.migration},
            "query-status": {"status": script.run_state, "running": script.run_state == "running"},
        }.get(command) or super().answer(command, arguments)

    def listed(self, path: str) -> list[dict[str, str]]:
        if path == "/objects":
            return [{"name": f"o{number}", "type": kind} for number, kind in enumerate(self.script.objects)]
        if path != BALLOON.rsplit("/", 1)[0]:
            return []
        kinds = ["child<virtio-balloon-pci>", *self.script.devices]
        return [{"name": f"balloon{number}", "type": kind} for number, kind in enumerate(kinds)]

    def report(self) -> dict[str, Any]:
        script = self.script
        if not script.has_driver:
            return {"last-update": 0, "stats": {}}
        if script.update_ahead is not None:
            return {"last-update": int(self.began + time.time() - time.monotonic() + script.update_ahead), "stats": self.first}
        stats = self.stats()
        if script.says != "all":
            stats = {key: value if script.says in key else ABSENT for key, value in stats.items()}
        return {"last-update": int(time.time()), "stats": stats}

    def stats(self) -> dict[str, int]:
        total = int(self._actual)
        free = max(0, total - int(self.used - self.swapped) - self.script.inside * MIB)
        cache = min(free, self.script.cache * MIB)
        return {
            "stat-total-memory": total,
            "stat-free-memory": free - cache,
            "stat-available-memory": free,
            "stat-disk-caches": cache,
            "stat-swap-in": int(self.came_in) // PAGE * PAGE,
            "stat-swap-out": int(self.went_out) // PAGE * PAGE,
            "stat-major-faults": int(self.came_in) // PAGE,
        }

    async def live(self) -> None:
        self.first = self.stats()
        while True:
            self.step()
            change = self.folder / f"say/{self.name}.json"
            if change.exists():
                for name, value in json.loads(change.read_text()).items():
                    setattr(self.script, name, value)
                change.unlink()
            await asyncio.sleep(0.05)


def _odd(text: str) -> str:
    """With bytes for what stands for them."""
    return os.fsdecode(text.encode().decode("unicode_escape").encode("latin-1"))


def _put(path: Path, text: str) -> None:
    """Whole, or not at all."""
    path.with_suffix(".new").write_text(text, errors="surrogateescape")
    path.with_suffix(".new").rename(path)


async def main(folder: Path, name: str, script: Script) -> None:
    peer = Peer(name, script, folder)
    await asyncio.start_unix_server(peer.serve, f"{folder}/q/{_odd(script.socket or name)}.sock")
    await peer.live()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], msgspec.json.decode(sys.argv[3], type=Script)))
