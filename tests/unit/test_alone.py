"""R13: what must be left alone is recognised, from QEMU's words and from /proc."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ballonet.hypervisors.local import process as processes
from ballonet.hypervisors.local.alone import is_migrating, why_alone
from ballonet.hypervisors.local.process import Occupied, Process, ProcessFacts
from ballonet.model.units import MIB

FREE = ProcessFacts(age_s=500)
NORMAL: dict[str, Any] = {
    "has_balloon": True,
    "has_driver": True,
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
        ({"pins": {"vfio"}}, "VFIO"),
        ({"pins": {"vhost-vdpa"}}, "vDPA"),
        ({"pins": {"confidential"}}, "encrypted"),
        ({"facts": ProcessFacts(pins=frozenset({"vfio"}), age_s=500)}, "VFIO"),
        ({"facts": ProcessFacts(pins=frozenset({"vhost-vdpa"}), age_s=500)}, "vDPA"),
        ({"facts": ProcessFacts(pins=frozenset({"kvm-gmem"}), age_s=500)}, "guest_memfd"),
        ({"facts": ProcessFacts(hugetlb_bytes=2 * MIB, age_s=500)}, "huge pages"),
        ({"facts": ProcessFacts(locked_bytes=512 * MIB, age_s=500)}, "locked"),
        ({"unknown_memory": "it has several virtio-mem devices"}, "several virtio-mem"),
        ({"is_resetting": True}, "starting anew"),
        ({"has_driver": False}, "no balloon driver"),
        ({"has_driver": False, "facts": ProcessFacts(age_s=5)}, "booting"),
        ({"has_driver": False, "is_new": True}, "not been heard yet"),
    ],
)
def test_reasons(changed: dict[str, Any], why: str) -> None:
    """Each reason alone is enough, and is named."""
    assert why in why_alone(**NORMAL | changed)


@pytest.mark.parametrize("state", ["", "none", "completed", "failed", "cancelled"])
def test_a_clear_end_is_no_migration(state: str) -> None:
    """And so is none at all."""
    assert not is_migrating(state, "running")


@pytest.mark.parametrize(
    "state",
    [
        "setup",
        "active",
        "device",
        "postcopy-active",
        "postcopy-paused",
        "postcopy-recover-setup",
        "postcopy-recover",
        "pre-switchover",
        "colo",
        "wait-unplug",
        "cancelling",
        "what-comes-next",
    ],
)
def test_every_other_state_is_a_migration(state: str) -> None:
    """Those of QEMU 9.2 (qapi/migration.json), and whatever there will be."""
    assert is_migrating(state, "running")
    assert is_migrating("none", "inmigrate")


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
    pins = frozenset({"vfio"})
    assert process.facts() == ProcessFacts(locked_bytes=512 * MIB, hugetlb_bytes=2 * MIB, pins=pins, age_s=100.0)
    assert process.occupied(1 << 30) == Occupied(256 * os.sysconf("SC_PAGE_SIZE"), 0, 2 * MIB)


def proc(root: Path, pid: int, *, status: str = "", statm_mib: int = 0, cgroup: str = "", **files: str) -> Process:
    """A process in a made-up /proc, with open files by descriptor."""
    folder = root / f"proc/{pid}"
    (folder / "fd").mkdir(parents=True)
    (folder / "status").write_text(f"Name:\tqemu\n{status}")
    (folder / "statm").write_text(f"0 {statm_mib * MIB // os.sysconf('SC_PAGE_SIZE')} 0 0 0 0 0\n")
    if cgroup:
        (folder / "cgroup").write_text(f"0::{cgroup}\n")
    for number, target in files.items():
        (folder / "fd" / number.removeprefix("fd")).symlink_to(target)
    return Process(pid, root)


def test_huge_pages_count_before_they_are_touched() -> None:
    """A real file of them: what lies in a pool never comes out of ordinary memory, and a guest that starts has touched little."""
    try:
        number = os.memfd_create("ram", os.MFD_HUGETLB)
    except OSError as error:
        pytest.skip(f"this kernel has no huge pages: {error.strerror}")
    try:
        os.ftruncate(number, 64 * MIB)
        process = Process(os.getpid(), Path("/"))
        assert process.occupied(64 * MIB).huge_bytes == 64 * MIB
        facts = process.facts()
        assert facts is not None
        assert facts.hugetlb_bytes == 64 * MIB
    finally:
        os.close(number)
    assert Process(os.getpid(), Path("/")).occupied(64 * MIB).huge_bytes == 0


def test_where_files_of_huge_pages_lie(tmp_path: Path) -> None:
    """By the host's mounts."""
    (tmp_path / "proc").mkdir()
    mounts = "proc /proc proc rw 0 0\nhugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\nnone /big/ hugetlbfs rw 0 0\nodd\n"
    assert processes.hugetlbfs(tmp_path) == ()
    (tmp_path / "proc/mounts").write_text(mounts)
    assert processes.hugetlbfs(tmp_path) == ("/dev/hugepages/", "/big/")


def test_what_the_host_has_swapped_out_is_occupied(tmp_path: Path) -> None:
    """VmSwap, and for shared memory what its own cgroup says."""
    assert proc(tmp_path, 1, status="VmSwap:\t 4096 kB\n", statm_mib=2).occupied(1 << 30) == Occupied(2 * MIB, 4 * MIB, 0)
    scope = tmp_path / "sys/fs/cgroup/machine.slice/machine-qemu-1-a.scope"
    (scope / "libvirt/emulator").mkdir(parents=True)
    (scope / "memory.swap.current").write_text(f"{3 * MIB}\n")
    (scope / "libvirt/emulator/cgroup.procs").write_text("2\n")
    found = proc(tmp_path, 2, statm_mib=2, cgroup="/machine.slice/machine-qemu-1-a.scope/libvirt/emulator").occupied(1 << 30)
    assert found == Occupied(2 * MIB, 3 * MIB, 0)


def test_a_group_that_two_guests_share_says_nothing_of_one(tmp_path: Path) -> None:
    """What is swapped out of it is not one's alone."""
    group = tmp_path / "sys/fs/cgroup/user.slice/session-3.scope"
    group.mkdir(parents=True)
    (group / "memory.swap.current").write_text(f"{3 * MIB}\n")
    (group / "cgroup.procs").write_text("3\n4\n")
    (tmp_path / "proc/4").mkdir(parents=True)
    (tmp_path / "proc/4/comm").write_text("qemu-system-x86\n")
    assert proc(tmp_path, 3, statm_mib=2, cgroup="/user.slice/session-3.scope").occupied(1 << 30) == Occupied(2 * MIB, 0, 0)


def test_a_group_shared_with_other_programs_says_nothing_of_a_guest(tmp_path: Path) -> None:
    """8 GiB of a browser's in the same session are not the guest's."""
    group = tmp_path / "sys/fs/cgroup/user.slice/session-4.scope"
    group.mkdir(parents=True)
    (group / "memory.swap.current").write_text(f"{8192 * MIB}\n")
    (group / "cgroup.procs").write_text("3\n9\n")
    assert proc(tmp_path, 3, statm_mib=2, cgroup="/user.slice/session-4.scope").occupied(1 << 30) == Occupied(2 * MIB, 0, 0)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_what_cannot_be_read_now_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """An error is never "there is nothing": locked memory stays locked, and what is swapped out swapped out."""
    process = proc(tmp_path, 4, status="VmLck:\t 4194304 kB\nVmSwap:\t 4096 kB\nVmRSS:\t 8 kB\n", statm_mib=2)

    def fails(_path: str) -> bytes:
        raise OSError(code, "told so")

    before = process.facts(), process.occupied(1 << 30).swapped_bytes
    assert before[0] is not None
    assert before[0].locked_bytes == 4096 * MIB
    monkeypatch.setattr(processes, "read", fails)
    process._status_at = -1e9
    assert (process.facts(), process.occupied(1 << 30).swapped_bytes) == before


def test_guest_memfd_cannot_be_measured(tmp_path: Path) -> None:
    """SEV-SNP's and TDX's memory is in no count of the process."""
    process = proc(tmp_path, 5, statm_mib=9, fd7="anon_inode:[kvm-gmem]")
    assert process.occupied(1 << 30).resident_bytes is None


def test_facts_are_read_each_by_itself(tmp_path: Path) -> None:
    """One file that cannot be read hides nothing of the others."""
    folder = tmp_path / "proc/6"
    folder.mkdir(parents=True)
    (folder / "status").write_text("Name:\tqemu\nHugetlbPages:\t 2048 kB\nVmSwap:\n")
    facts = Process(6, tmp_path).facts()
    assert facts is not None
    assert (facts.hugetlb_bytes, facts.age_s) == (2 * MIB, None)


def test_memfds_that_are_no_ram_hide_none_of_it() -> None:
    """Of a process with 100 MiB in no file, and a memfd for something else beside (ivshmem, vhost-user): that counts."""
    held = bytearray(os.urandom(1 << 20)) * 100
    number = os.memfd_create("shmem")
    try:
        os.ftruncate(number, 4 << 30)
        occupied = Process(os.getpid(), Path("/")).occupied(512 << 20).resident_bytes
        assert occupied is not None
        assert occupied >= len(held)
    finally:
        os.close(number)


def test_a_number_that_another_process_has_by_now(tmp_path: Path) -> None:
    """Is a process that has died: the start tells."""
    process_of = "{} (qemu) S " + " ".join(["0"] * 18) + " {} 0\n"
    folder = tmp_path / "proc/8"
    folder.mkdir(parents=True)
    (folder / "stat").write_text(process_of.format(8, 100))
    process = Process(8, tmp_path)
    assert not process.has_died
    (folder / "stat").write_text(process_of.format(8, 900))
    assert process.has_died


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    """Nothing is known, and nothing fails."""
    process = Process(78, tmp_path)
    assert process.facts() is None
    assert process.occupied(1 << 30).resident_bytes is None


def test_all_of_a_guests_memory_is_counted() -> None:
    """RAM in several memfds (base and virtio-mem, NUMA nodes) is their sum, each once; what is not all memfds is the RSS."""
    made = [os.memfd_create(f"ram-{number}") for number in range(2)]
    made.append(os.dup(made[0]))
    try:
        for fd, mib in zip(made, (8, 4), strict=False):
            os.ftruncate(fd, 64 << 20)
            os.write(fd, b"x" * (mib << 20))
        process = Process(os.getpid(), Path("/"))
        assert process.occupied(128 << 20).resident_bytes == 12 << 20
        rss = process.occupied(1 << 30).resident_bytes
        assert rss is not None
        assert rss > 20 << 20
    finally:
        for fd in made:
            os.close(fd)


def test_a_status_of_many_groups_is_read_to_its_end(tmp_path: Path) -> None:
    """The lines on memory come after that of the groups of its user."""
    groups = " ".join(str(1_000_000 + number) for number in range(5000))
    status = f"Groups:\t{groups}\nVmLck:\t 4096 kB\nVmSwap:\t 8192 kB\nHugetlbPages:\t 2048 kB\n"
    process = proc(tmp_path, 5, status=status, statm_mib=9)
    assert process.occupied(1 << 30) == Occupied(9 * MIB, 8 * MIB, 2 * MIB)
    facts = process.facts()
    assert facts is not None
    assert facts.locked_bytes == 4 * MIB
