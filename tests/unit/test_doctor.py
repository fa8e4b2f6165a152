"""What the doctor finds, and its remedies."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from ballonet.model.finding import Level
from ballonet.model.snapshot import Budget, Guest, GuestStats, Host, Mechanism, Snapshot, Voice
from ballonet.model.units import GIB
from ballonet.sense import contradictions
from ballonet.sense.doctor import HostDoctor, guest_findings, limit_findings

BAD = {
    "proc/meminfo": "MemTotal: 16777216 kB\nSwapTotal: 0 kB\nHugePages_Total: 512\nHugepagesize: 2048 kB\n",
    "proc/sys/vm/overcommit_memory": "2\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
    "sys/kernel/mm/ksm/run": "1\n",
    "sys/module/zswap/parameters/enabled": "Y\n",
    "proc/77/comm": "pvestatd\n",
}
GOOD = {
    "proc/meminfo": "MemTotal: 16777216 kB\nSwapTotal: 1024 kB\nHugePages_Total: 0\nHugepagesize: 2048 kB\n",
    "proc/sys/vm/overcommit_memory": "0\n",
    "proc/pressure/memory": "some avg10=0 avg60=0 avg300=0 total=1\nfull avg10=0 avg60=0 avg300=0 total=1\n",
    "proc/pressure/cpu": "some avg10=0 avg60=0 avg300=0 total=1\n",
    "proc/pressure/io": "some avg10=0 avg60=0 avg300=0 total=1\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/kernel/mm/ksm/run": "0\n",
}


def host(root: Path, files: dict[str, str]) -> HostDoctor:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return HostDoctor(root)


def test_a_host_with_everything_in_the_way(tmp_path: Path) -> None:
    """Each of it is found, with a remedy, the fault first."""
    found = host(tmp_path, BAD).findings()
    words = "\n".join(one.what for one in found)
    for what in ("no swap", "1 GiB are set aside", "overcommit_memory = 2", "no PSI", "always on", "KSM", "zswap", "pvestatd"):
        assert what in words
    assert [one.level for one in found] == sorted((one.level for one in found), key=list(Level).index, reverse=True)
    assert found[0].level is Level.FAULT
    assert all(one.remedy for one in found)


def test_what_surrounds_guests_is_named(tmp_path: Path) -> None:
    """lxcfs, NUMA nodes, the host's swap, pressure that cannot be read, limits around some guests."""
    files = {
        "proc/meminfo": "MemTotal: 16777216 kB\nSwapTotal: 4194304 kB\nSwapFree: 1048576 kB\n",
        "proc/self/mountinfo": "45 30 0:40 /proc/meminfo /proc/meminfo rw - fuse.lxcfs lxcfs rw\n",
        "proc/pressure/memory": GOOD["proc/pressure/memory"],
        "sys/devices/system/node/node0/x": "",
        "sys/devices/system/node/node1/x": "",
    }
    words = "\n".join(one.what for one in host(tmp_path, files).findings())
    for what in ("3 GiB are in the host's swap", "lxcfs", "2 NUMA nodes", "no PSI of cpu and io"):
        assert what in words
    budget = Budget(name="/machine.slice", limit_bytes=13 * GIB, available_bytes=GIB, guests=("a", "b", "c", "d", "e"))
    (found,) = limit_findings(Host(total_bytes=16 * GIB, available_bytes=GIB, budgets=(budget,)))
    assert found.what == "/machine.slice limits a, b, c, d and 1 more to 13 GiB together"


def test_a_good_host_is_left_in_peace(tmp_path: Path) -> None:
    """But for what it could do in an emergency; and so is one of which nothing can be read but that there is no PSI."""
    assert ["emergency.ksm" in one.remedy for one in host(tmp_path, GOOD).findings()] == [True]
    assert [one.what[:6] for one in HostDoctor(tmp_path / "nowhere").findings()] == ["no PSI"]


STATS = GuestStats(total_bytes=GIB, available_bytes=GIB // 2, swap_total_bytes=GIB)
FINE = Guest(name="g", ceiling_bytes=2 * GIB, keep_bytes=GIB, resident_bytes=GIB, stats=STATS, voice=Voice.AGENT)


@pytest.mark.parametrize(
    ("guest", "says"),
    [
        (FINE, []),
        (replace(FINE, stats=None), ["says nothing"]),
        (replace(FINE, limit_bytes=GIB), ["limits it to 1 GiB"]),
        (replace(FINE, swapped_bytes=GIB), ["1 GiB of it are in the host's swap"]),
        (replace(FINE, stats=replace(STATS, available_bytes=None)), ["what is available"]),
        (replace(FINE, stats=replace(STATS, total_bytes=2 * GIB)), ["MemTotal stays"]),
        (replace(FINE, stats=replace(STATS, swap_total_bytes=0)), ["no swap"]),
        (replace(FINE, voice=Voice.BALLOON), ["balloon driver alone"]),
        (replace(FINE, resident_bytes=2 * GIB), ["occupies 1 GiB more"]),
        (replace(FINE, mechanisms=(Mechanism.VIRTIO_MEM,)), ["no balloon"]),
        (replace(FINE, leave_alone="pvestatd balloons it; to hand it over: qm set 1 --shares 0"), ["left alone: pvestatd"]),
    ],
)
def test_guests(guest: Guest, says: list[str]) -> None:
    """One thing wrong, one finding, and a remedy."""
    found = guest_findings(guest)
    assert len(found) == len(says)
    for one, what in zip(found, says, strict=True):
        assert what in one.what
        assert one.remedy


def test_a_meminfo_that_is_nonsense_ends_no_doctor(tmp_path: Path) -> None:
    """It tells what else there is."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_bytes(b"MemTotal: x kB\nSwapTotal:\nHugePages_Total: \xe9\n")
    assert any("PSI" in one.what for one in HostDoctor(tmp_path).findings())


def test_settings_that_nobody_has_and_promises_that_nobody_can_keep() -> None:
    """A name that is wrong, more guaranteed than the host has, a floor above what a guest may have."""
    guests = (
        Guest(name="web", ceiling_bytes=8 << 30, keep_bytes=8 << 30, guaranteed_bytes=8 << 30, floor_bytes=9 << 30, uuid="u-1"),
        Guest(name="db", ceiling_bytes=8 << 30, keep_bytes=8 << 30, guaranteed_bytes=8 << 30),
    )
    snapshot = Snapshot(host=Host(total_bytes=12 << 30, available_bytes=1 << 30), guests=guests)
    found = {one.where: one.what for one in contradictions.findings(snapshot, ["default", "wbe", "web", "w?b", "u-1"])}
    assert "[guest.wbe] is in the configuration" in found["wbe"]
    assert "its floor of 9 GiB is above the 8 GiB" in found["web"]
    assert "16 GiB are guaranteed to guests, and the host has 12 GiB" in found["host"]
    assert set(found) == {"wbe", "web", "host"}
