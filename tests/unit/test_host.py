import ast
import errno
import time
from pathlib import Path

import pytest

import ballonet
from ballonet.model.snapshot import Guest, GuestStats
from ballonet.model.terms import UNSAID
from ballonet.model.units import GIB
from ballonet.sense import cgroup, observer
from ballonet.sense.errors import SenseError
from ballonet.sense.host import ProcHost

MEMINFO = "MemTotal:  16777216 kB\nMemFree: 1048576 kB\nMemAvailable: 4194304 kB\n"


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_host_is_read_from_another_root(tmp_path: Path) -> None:
    """Memory and pressure come from the tree that was named."""
    psi = "some avg10=12.50 avg60=0 avg300=0 total=1\nfull avg10=2.00 avg60=0 avg300=0 total=1\n"
    host = ProcHost(tree(tmp_path, proc__meminfo=MEMINFO, proc__pressure__memory=psi)).read().host
    assert (host.total_bytes, host.available_bytes) == (16 * GIB, 4 * GIB)
    assert (host.pressure_some_avg10_share, host.pressure_full_avg10_share) == (0.125, 0.02)


def test_shrinkable_zfs_cache_is_available(tmp_path: Path) -> None:
    """A ZFS cache counts as available down to its minimum."""
    arc = f"13 1 0x01\nname type data\nsize 4 {3 * GIB}\nc_min 4 {GIB}\n"
    host = ProcHost(tree(tmp_path, proc__meminfo=MEMINFO, proc__spl__kstat__zfs__arcstats=arc)).read().host
    assert host.available_bytes == 6 * GIB


def test_cgroup_limit_counts_when_guests_are_inside(tmp_path: Path) -> None:
    """A limit around ballonet and its guests makes the host smaller; one around ballonet alone does not."""
    root = tree(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/pod/ballonet\n", proc__7__cgroup="0::/pod/vm\n")
    for group, limit in (("pod", 8 * GIB), ("pod/ballonet", GIB)):
        folder = root / "sys/fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(str(limit))
        (folder / "memory.current").write_text(str(limit - GIB // 2))
        (folder / "memory.stat").write_text("inactive_file 0\n")
    assert ProcHost(root).read({"vm": 7}).host.total_bytes == 8 * GIB
    assert ProcHost(root).read({"vm": 7}).host.available_bytes == GIB // 2
    assert ProcHost(root).read().host.total_bytes == 16 * GIB


def test_unreadable_host_names_the_file(tmp_path: Path) -> None:
    """Without meminfo the error names it."""
    with pytest.raises(SenseError, match="proc/meminfo"):
        ProcHost(tmp_path).read()


LXCFS = "45 30 0:40 /proc/meminfo /proc/meminfo rw,nosuid,nodev,relatime - fuse.lxcfs lxcfs rw\n"


def test_a_containers_memory_is_all_that_it_has(tmp_path: Path) -> None:
    """Lxcfs makes its meminfo, and the ZFS cache is the real host's: 1 GiB is available of 16, not 16."""
    arc = f"13 1 0x01\nname type data\nsize 4 {10 * GIB}\nc_min 4 {GIB}\n"
    text = "MemTotal: 16777216 kB\nMemAvailable: 1048576 kB\n"
    files = {"proc__meminfo": text, "proc__spl__kstat__zfs__arcstats": arc, "proc__self__mountinfo": LXCFS}
    assert ProcHost(tree(tmp_path, **files)).read().host.available_bytes == GIB
    (tmp_path / "proc/self/mountinfo").write_text("")
    assert ProcHost(tmp_path).read().host.available_bytes == 10 * GIB


def test_a_cache_larger_than_what_is_in_use_is_of_another_machine(tmp_path: Path) -> None:
    """However the container was made."""
    arc = f"13 1 0x01\nname type data\nsize 4 {30 * GIB}\nc_min 4 {GIB}\n"
    host = ProcHost(tree(tmp_path, proc__meminfo=MEMINFO, proc__spl__kstat__zfs__arcstats=arc)).read().host
    assert host.available_bytes == 4 * GIB


@pytest.mark.parametrize("pool", ["Hugetlb: 15728640 kB\n", "HugePages_Total: 7680\nHugepagesize: 2048 kB\n"])
def test_what_is_set_aside_for_huge_pages_cannot_be_lent(tmp_path: Path, pool: str) -> None:
    """15 of 16 GiB are: states and reserve are of the one that is left."""
    host = ProcHost(tree(tmp_path, proc__meminfo=f"MemTotal: 16777216 kB\nMemAvailable: 524288 kB\n{pool}")).read().host
    assert (host.total_bytes, host.huge_bytes, host.available_bytes) == (GIB, 15 * GIB, GIB // 2)


def test_no_field_of_a_host_is_filled_by_the_simulator_alone(tmp_path: Path) -> None:
    """A real one that is limited, pressed for memory, CPU and disk, and has huge pages fills each of them."""
    psi = "some avg10=12.50 avg60=0 avg300=0 total=1\nfull avg10=2.00 avg60=0 avg300=0 total=1\n"
    files = {f"proc__pressure__{of}": psi for of in ("memory", "cpu", "io")}
    root = tree(tmp_path, proc__meminfo=MEMINFO + "Hugetlb: 1024 kB\n", **files)
    for pid, group in ((7, "a.slice/vm.scope"), (8, "a.slice/vm2.scope"), (9, "b.slice/vm.scope")):
        tree(root, **{f"proc__{pid}__cgroup": f"0::/{group}\n"})
    folder = root / "sys/fs/cgroup/a.slice"
    folder.mkdir(parents=True)
    tree(root, sys__kernel__mm__ksm__run="1\n", sys__kernel__mm__ksm__pages_to_scan="100\n")
    for name, text in (("memory.max", str(GIB)), ("memory.current", "4096"), ("memory.stat", "inactive_file 0\n")):
        (folder / name).write_text(text)
    host = ProcHost(root).read({"x": 7, "y": 8, "z": 9}).host
    of_remote_ones = {"age_s", "theirs"}
    empty = {name for name in host.__struct_fields__ if not getattr(host, name)} - of_remote_ones
    assert empty == set()


def test_no_field_of_a_guest_is_filled_by_the_simulator_alone() -> None:
    """Each is named where adapters of real hypervisors, or what reads settings, make a guest."""
    package = Path(ballonet.__file__).parent
    files = [path for path in (package / "hypervisors").rglob("*.py") if path.name != "fake.py"]
    files += [package / "sense/observer.py", package / "guest/kernel.py"]
    assert observer._PLAIN  # terms that a guest has as they are said
    words = {*observer._PLAIN, *UNSAID.portions(0)}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg:
                words.add(node.arg)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                words.add(node.target.id)  # a field of a message, which becomes a report whole
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    for kind in (Guest, GuestStats):
        assert [name for name in kind.__struct_fields__ if name not in words] == []


def grouped(root: Path, group: str, **files: str) -> Path:
    """Two guests in one group, and files of memory's controller there."""
    tree(root, proc__meminfo=MEMINFO, proc__self__cgroup=group, proc__7__cgroup=group, proc__8__cgroup=group)
    return tree(root, **files)


def test_a_containers_own_root_has_its_limit(tmp_path: Path) -> None:
    """In a cgroup namespace of its own it sees `/`, and under version 1 a path that is not there: the limit lies at the mount."""
    second = {"memory.max": str(8 * GIB), "memory.current": str(7 * GIB), "memory.stat": "anon 1\n"}
    root = grouped(tmp_path / "v2", "0::/\n", **{f"sys__fs__cgroup__{name}": text for name, text in second.items()})
    host = ProcHost(root).read({"a": 7, "b": 8}).host
    assert (host.total_bytes, host.available_bytes) == (8 * GIB, GIB)
    first = {"memory.limit_in_bytes": str(8 * GIB), "memory.usage_in_bytes": str(7 * GIB), "memory.stat": "x 1\n"}
    named = {f"sys__fs__cgroup__memory__{name}": text for name, text in first.items()}
    root = grouped(tmp_path / "v1", "4:memory:/docker/abc\n0::/\n", **named)
    host = ProcHost(root).read({"a": 7, "b": 8}).host
    assert (host.total_bytes, host.available_bytes) == (8 * GIB, GIB)


def test_page_cache_within_a_limit_is_available(tmp_path: Path) -> None:
    """Also what is in use: a QEMU that caches its disks on the host is not squeezed for it."""
    stat = f"anon {4 * GIB}\nactive_file {2 * GIB}\ninactive_file {GIB}\n"
    files = {"memory.max": str(8 * GIB), "memory.current": str(8 * GIB), "memory.stat": stat}
    root = grouped(tmp_path, "0::/a.slice\n", **{f"sys__fs__cgroup__a.slice__{name}": text for name, text in files.items()})
    assert ProcHost(root).read({"a": 7, "b": 8}).host.available_bytes == 3 * GIB


def test_a_group_with_an_odd_name_is_a_group(tmp_path: Path) -> None:
    """Names of cgroups are bytes."""
    tree(tmp_path, proc__meminfo=MEMINFO)
    (tmp_path / "proc/7").mkdir()
    (tmp_path / "proc/7/cgroup").write_bytes(b"0::/caf\xe9\n")
    assert ProcHost(tmp_path).read({"a": 7}).host.total_bytes == 16 * GIB


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_limit_that_cannot_be_read_now_is_no_missing_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Neither where a process lies, nor how far its group may grow, nor what that has taken."""
    files = {"memory.max": str(8 * GIB), "memory.current": str(7 * GIB), "memory.stat": "inactive_file 0\n"}
    root = grouped(tmp_path, "0::/a.slice\n", **{f"sys__fs__cgroup__a.slice__{name}": text for name, text in files.items()})
    tree(root, proc__pressure__io="some avg10=50.00 avg60=0 avg300=0 total=1\n", proc__self__mountinfo=LXCFS)
    tree(root, proc__spl__kstat__zfs__arcstats=f"13 1\nname type data\nsize 4 {9 * GIB}\nc_min 4 {GIB}\n")
    sense = ProcHost(root)
    before = sense.read({"a": 7, "b": 8})
    assert before.host.io_some_avg10_share == 0.5
    assert (before.host.total_bytes, before.host.available_bytes) == (8 * GIB, GIB)
    readable = Path.read_text

    def fails(path: Path, *args: str, **more: str) -> str:
        if {"cgroup", "pressure", "mountinfo"} & set(path.parts):
            raise OSError(code, "told so")
        return readable(path, *args, **more)

    monkeypatch.setattr(Path, "read_text", fails)
    monkeypatch.setattr(cgroup, "MOVED_S", 0.0)  # asked again at each look
    assert sense.read({"a": 7, "b": 8}) == before


def test_a_limit_that_is_half_written_is_none_that_is_gone(tmp_path: Path) -> None:
    """An empty file is no `max`."""
    files = {"memory.max": str(8 * GIB), "memory.current": str(7 * GIB), "memory.stat": "inactive_file 0\n"}
    root = grouped(tmp_path, "0::/a.slice\n", **{f"sys__fs__cgroup__a.slice__{name}": text for name, text in files.items()})
    sense = ProcHost(root)
    before = sense.read({"a": 7, "b": 8})
    (root / "sys/fs/cgroup/a.slice/memory.current").write_text("")
    assert sense.read({"a": 7, "b": 8}) == before


def test_where_a_process_was_last_counts_for_as_long_as_nobody_can_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for some seconds only."""
    files = {"memory.max": str(8 * GIB), "memory.current": str(7 * GIB), "memory.stat": "inactive_file 0\n"}
    root = grouped(tmp_path, "0::/a.slice\n", **{f"sys__fs__cgroup__a.slice__{name}": text for name, text in files.items()})
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    sense = ProcHost(root)
    assert sense.read({"a": 7, "b": 8}).host.total_bytes == 8 * GIB

    def fails(_path: Path) -> None:
        raise PermissionError(errno.EACCES, "told so")

    monkeypatch.setattr(cgroup, "_path", fails)
    for _ in range(20):
        now[0] += 3
        assert sense.read({"a": 7, "b": 8}).host.total_bytes == 8 * GIB


@pytest.mark.parametrize("number", ["-1", "9" * 401])
def test_sizes_that_no_host_has_are_an_error(tmp_path: Path, number: str) -> None:
    """With the file and the row."""
    with pytest.raises(SenseError, match=r"meminfo.*MemTotal"):
        ProcHost(tree(tmp_path, proc__meminfo=MEMINFO.replace("16777216", number))).read()


@pytest.mark.parametrize("word", ["nan", "inf", "-5", "1e400"])
def test_pressure_that_is_no_share_is_none(tmp_path: Path, word: str) -> None:
    """What decides on it must be a number."""
    psi = f"some avg10={word} avg60=0 avg300=0 total=1\n"
    host = ProcHost(tree(tmp_path, proc__meminfo=MEMINFO, proc__pressure__memory=psi)).read().host
    assert host.pressure_some_avg10_share == 0.0


@pytest.mark.parametrize("path", ["/../../m.slice", "m.slice", ""])
def test_a_group_that_lies_outside_of_what_is_seen_is_none(tmp_path: Path, path: str) -> None:
    """A namespace of groups shows others' so."""
    root = grouped(tmp_path, f"0::{path}\n")
    assert ProcHost(root).read({"a": 7, "b": 8}).host.total_bytes == 16 * GIB


@pytest.mark.parametrize("row", ["VmallocTotal: 99999999999999999999999 kB", "Odd: much kB", "Odd: -5 kB", "Odd:"])
def test_rows_that_decide_nothing_stop_nothing(tmp_path: Path, row: str) -> None:
    """Whatever a kernel writes beside what is asked."""
    host = ProcHost(tree(tmp_path, proc__meminfo=f"{MEMINFO}{row}\n")).read().host
    assert host.total_bytes == 16 * GIB
