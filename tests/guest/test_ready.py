"""Making memory ready: in which order, and what is said of it."""

import os
import select
import sys
import time
from pathlib import Path

import pytest

from ballonet.guest import ready
from ballonet.guest.care import Care
from ballonet.guest.kernel import Memory
from ballonet.guest.ready import SLICE_BYTES, Ready
from ballonet.guest.settings import Settings

MIB = 1 << 20


class Guest:
    """Recorded /proc files and control groups whose `memory.reclaim` frees what it is told to."""

    def __init__(self, folder: Path, free_mib: int, **cache_mib: int) -> None:
        self.folder, self.settings = folder, Settings()
        self.free, self.cache = free_mib * MIB, {name: mib * MIB for name, mib in cache_mib.items()}
        (folder / "vmstat").write_text("")
        for name in self.cache:
            (folder / "groups" / name).mkdir(parents=True)
        self.write()

    def write(self) -> None:
        with (self.folder / "meminfo").open("r+" if (self.folder / "meminfo").exists() else "w") as file:
            file.write(f"MemTotal: 524288 kB\nMemFree: {self.free >> 10:9} kB\nMemAvailable: 99 kB\n")
        for name, cache in self.cache.items():
            (self.folder / "groups" / name / "memory.stat").write_text(f"anon 7\ninactive_file {cache}\n")
            (self.folder / "groups" / name / "memory.reclaim").write_text("0")

    def reclaim(self) -> list[str]:
        """Does what was written to the groups. Gives which were told."""
        told = []
        for name in self.cache:
            if wanted := int((self.folder / "groups" / name / "memory.reclaim").read_text()):
                told.append(name)
                self.free += wanted
                self.cache[name] -= wanted
        self.write()
        return told

    def ready(self, wanted_mib: int) -> tuple[dict[str, int], list[str]]:
        """What is said in the end, and which groups gave, in their order."""
        memory = Memory(str(self.folder))
        care = Care(self.settings, select.poll(), str(self.folder / "nothing"))
        one = Ready(memory, care, self.settings, str(self.folder / "groups"))
        one.begin(wanted_mib * MIB, time.monotonic())
        told: list[str] = []
        while (done := one.step(time.monotonic())) is None:
            told += self.reclaim()
            time.sleep(0.01)
        assert not one.is_busy
        return done, told


def test_what_is_free_is_ready(tmp_path: Path) -> None:
    """Nothing is touched for it."""
    done, told = Guest(tmp_path, 100, system=200).ready(80)
    assert done == {"ready_bytes": 80 * MIB, "freed_bytes": 0}
    assert told == []


def test_page_cache_gives_what_is_missing_and_no_more(tmp_path: Path) -> None:
    """In small slices, from where most of it is."""
    guest = Guest(tmp_path, 100, system=50, user=200)
    done, told = guest.ready(150)
    assert done["ready_bytes"] == 150 * MIB
    assert 50 * MIB <= done["freed_bytes"] <= 50 * MIB + SLICE_BYTES
    assert set(told) == {"user"}
    assert len(told) >= 3


def test_a_part_of_the_cache_stays_and_commands_come_after_it(tmp_path: Path) -> None:
    """Reclaiming all of it would page out other memory. Then the administrator's commands run, each to its end."""
    guest = Guest(tmp_path, 10, system=100)
    mark = tmp_path / "trimmed"
    guest.settings.trim = [["/nonexistent"], [sys.executable, "-c", f"open({str(mark)!r}, 'w').write('x')"]]
    done, _ = guest.ready(500)
    assert guest.cache["system"] >= 20 * MIB
    assert mark.read_text() == "x"
    assert done["ready_bytes"] < 110 * MIB


def test_reclaim_off_leaves_page_cache_alone(tmp_path: Path) -> None:
    """One line of the settings."""
    guest = Guest(tmp_path, 10, system=100)
    guest.settings.reclaim = False
    assert guest.ready(50) == ({"ready_bytes": 10 * MIB, "freed_bytes": 0}, [])


def test_a_command_that_hangs_is_ended_however_often_the_host_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request would else give it more time. It runs without the agent's real-time priority."""
    monkeypatch.setattr(ready, "LONGEST_S", 0.5)
    guest = Guest(tmp_path, 10)
    told = tmp_path / "told"
    script = f"import os, time; open({str(told)!r}, 'w').write(f'{{os.getpid()}} {{os.sched_getscheduler(0)}}'); time.sleep(600)"
    guest.settings.trim = [[sys.executable, "-c", script]]
    one = Ready(Memory(str(tmp_path)), Care(guest.settings, select.poll(), str(tmp_path / "nothing")), guest.settings, "/nowhere")
    start = time.monotonic()
    while time.monotonic() - start < 60:
        one.begin(500 * MIB, time.monotonic())
        one.step(time.monotonic())
        time.sleep(0.05)
        if told.exists() and len(told.read_text().split()) == 2 and not Path(f"/proc/{told.read_text().split()[0]}").exists():
            break
    assert told.read_text().split()[1] == str(os.SCHED_OTHER)
    assert one._child is None
