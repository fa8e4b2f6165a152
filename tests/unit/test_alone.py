"""R13: what must be left alone is recognised, from QEMU's words and from /proc."""

import os
from pathlib import Path
from typing import Any

import pytest

from ballonet.hypervisors.alone import is_migrating, why_alone
from ballonet.hypervisors.process import Process, ProcessFacts
from ballonet.model.units import MIB

FREE = ProcessFacts(locked_bytes=0, hugetlb_bytes=0, has_vfio=False, age_s=500)
NORMAL: dict[str, Any] = {
    "has_balloon": True,
    "has_driver": True,
    "has_vfio": False,
    "is_moving": False,
    "run_state": "running",
    "ceiling_bytes": 512 * MIB,
    "facts": FREE,
}


def test_a_normal_guest_is_not_left_alone() -> None:
    """Nothing speaks against it, also where /proc cannot be read."""
    assert why_alone(**NORMAL) == ""
    assert why_alone(**NORMAL | {"facts": None}) == ""


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"has_balloon": False}, "no balloon device"),
        ({"is_moving": True}, "migrated"),
        ({"run_state": "paused"}, "not running (paused)"),
        ({"has_vfio": True}, "VFIO"),
        ({"facts": ProcessFacts(locked_bytes=0, hugetlb_bytes=0, has_vfio=True, age_s=500)}, "VFIO"),
        ({"facts": ProcessFacts(locked_bytes=0, hugetlb_bytes=2 * MIB, has_vfio=False, age_s=500)}, "huge pages"),
        ({"facts": ProcessFacts(locked_bytes=512 * MIB, hugetlb_bytes=0, has_vfio=False, age_s=500)}, "locked"),
        ({"has_driver": False}, "no balloon driver"),
        ({"has_driver": False, "facts": ProcessFacts(locked_bytes=0, hugetlb_bytes=0, has_vfio=False, age_s=5)}, "booting"),
    ],
)
def test_reasons(changed: dict[str, Any], why: str) -> None:
    """Each reason alone is enough, and is named."""
    assert why in why_alone(**NORMAL | changed)


@pytest.mark.parametrize(
    ("migration", "state", "moves"),
    [("none", "running", False), ("completed", "running", False), ("active", "running", True), ("none", "inmigrate", True)],
)
def test_migration(migration: str, state: str, moves: bool) -> None:
    """Both ends of a migration count."""
    assert is_migrating(migration, state) is moves


def test_facts_of_a_process(tmp_path: Path) -> None:
    """Locked memory, huge pages, VFIO and age are read from /proc."""
    folder = tmp_path / "proc/77"
    (folder / "fd").mkdir(parents=True)
    (tmp_path / "proc/uptime").write_text("1000.00 3000.00\n")
    (folder / "status").write_text("Name:\tqemu\nVmLck:\t  524288 kB\nHugetlbPages:\t    2048 kB\n")
    started = 900 * os.sysconf("SC_CLK_TCK")
    (folder / "stat").write_text(f"77 (qemu (a b)) S {' '.join(['0'] * 18)} {started} 0\n")
    (folder / "statm").write_text("0 256 0 0 0 0 0\n")
    (folder / "fd/3").symlink_to("/dev/vfio/12")
    process = Process(77, tmp_path)
    assert process.facts() == ProcessFacts(locked_bytes=512 * MIB, hugetlb_bytes=2 * MIB, has_vfio=True, age_s=100.0)
    assert process.resident_bytes(1 << 30) == 256 * os.sysconf("SC_PAGE_SIZE")


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    """Nothing is known, and nothing fails."""
    process = Process(78, tmp_path)
    assert process.facts() is None
    assert process.resident_bytes(1 << 30) is None


def test_all_of_a_guests_memory_is_counted() -> None:
    """RAM in several memfds (base and virtio-mem, NUMA nodes) is their sum, each once; what is not all memfds is the RSS."""
    made = [os.memfd_create(f"ram-{number}") for number in range(2)]
    made.append(os.dup(made[0]))
    try:
        for fd, mib in zip(made, (8, 4), strict=False):
            os.ftruncate(fd, 64 << 20)
            os.write(fd, b"x" * (mib << 20))
        process = Process(os.getpid(), Path("/"))
        assert process.resident_bytes(128 << 20) == 12 << 20
        rss = process.resident_bytes(1 << 30)
        assert rss is not None
        assert rss > 20 << 20
    finally:
        for fd in made:
            os.close(fd)
