"""A cgroup limit that the guests live under: inside it, the host is as small as the limit.

Only a group that holds both ballonet and guests counts: the limit of ballonet's own service is not the guests'.
Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current, memory.stat) and cgroup-v1/memory.rst.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_NO_LIMIT = 1 << 60
"""Version 1 writes no limit as the largest multiple of a page."""


@dataclass(frozen=True)
class CgroupMemory:
    """The tightest limit around ballonet and its guests."""

    limit_bytes: int
    available_bytes: int


def cgroup_memory(root: Path, pids: Iterable[int]) -> CgroupMemory | None:
    """The limit with the least available memory around this process and all of `pids`; None where there is none."""
    ours = _path(root / "proc/self/cgroup")
    theirs = [path for pid in pids if (path := _path(root / "proc" / str(pid) / "cgroup")) is not None]
    if ours is None or not theirs:
        return None
    version, own = ours
    shared = [group for group in (own, *own.parents) if all(path.is_relative_to(group) for _, path in theirs)]
    base = root / "sys/fs/cgroup" / ("" if version == 2 else "memory")  # noqa: PLR2004 the version
    found = [memory for group in shared if (memory := _read(base / group.relative_to("/"), version)) is not None]
    return min(found, key=lambda memory: memory.available_bytes, default=None)


def _path(file: Path) -> tuple[int, PurePosixPath] | None:
    """Version and path of the memory group that a /proc/PID/cgroup names; version 1's, where it has one."""
    try:
        lines = [line.split(":", 2) for line in file.read_text().splitlines()]
    except OSError:
        return None
    for number, controllers, path in lines:
        if "memory" in controllers.split(","):
            return 1, PurePosixPath(path)
        if number == "0" and not any("memory" in other[1].split(",") for other in lines):
            return 2, PurePosixPath(path)
    return None


def _read(folder: Path, version: int) -> CgroupMemory | None:
    limit_name, usage_name, cache_name = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2  # noqa: PLR2004 the version
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    try:
        limit_text = (folder / limit_name).read_text().strip()
        usage = int((folder / usage_name).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if limit_text == "max" or int(limit_text) >= _NO_LIMIT:
        return None
    limit = int(limit_text)
    return CgroupMemory(limit, max(0, limit - usage + int(stat.get(cache_name, 0))))
