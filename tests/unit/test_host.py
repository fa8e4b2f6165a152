from pathlib import Path

import pytest

from ballonet.model.units import GIB
from ballonet.sense.host import ProcHost, SenseError

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
