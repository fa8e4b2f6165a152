"""A cgroup limit that the guests live under: inside it, the host is as small as the limit.

Only a group that holds both ballonet and guests counts: the limit of ballonet's own service is not the guests'.
Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current, memory.stat) and cgroup-v1/memory.rst.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MOVED_S = 5.0
"""How old an answer to where a process is may be: systemd and libvirt move a QEMU once, as it starts."""
Place = tuple[int, PurePosixPath]
"""Version and path of a group."""
_NO_LIMIT = 1 << 60
"""Version 1 writes no limit as the largest multiple of a page."""


@dataclass(frozen=True)
class CgroupMemory:
    """The tightest limit around ballonet and its guests."""

    limit_bytes: int
    available_bytes: int


class Cgroups:
    """The groups that this process shares with guests. Who is in which is asked again every few seconds only."""

    def __init__(self, root: Path) -> None:
        """Args:
        root: where /proc and /sys are found.
        """
        self._root = root
        self._paths: dict[int, tuple[float, Place | None]] = {}
        """By process: when it was asked, and where it is."""
        self._shared: tuple[tuple[Place, ...], list[PurePosixPath]] = ((), [])
        """For these places, the groups around all of them."""

    def memory(self, pids: Iterable[int]) -> CgroupMemory | None:
        """The limit with the least available memory around this process and all of `pids`; None where there is none."""
        now = time.monotonic()
        ours = self._place(0, now)
        places = [self._place(pid, now) for pid in pids]
        self._paths = {pid: kept for pid, kept in self._paths.items() if now - kept[0] < 2 * MOVED_S}
        theirs = tuple({place: None for place in places if place is not None})
        if ours is None or not theirs:
            return None
        version, own = ours
        if self._shared[0] != (ours, *theirs):
            around = [group for group in (own, *own.parents) if all(path.is_relative_to(group) for _, path in theirs)]
            self._shared = (ours, *theirs), around
        base = self._root / "sys/fs/cgroup" / ("" if version == 2 else "memory")  # noqa: PLR2004 the version
        found = [memory for group in self._shared[1] if (memory := _read(base / group.relative_to("/"), version)) is not None]
        return min(found, key=lambda memory: memory.available_bytes, default=None)

    def _place(self, pid: int, now: float) -> Place | None:
        """0 = this process."""
        kept = self._paths.get(pid)
        if kept is not None and now - kept[0] < MOVED_S:
            return kept[1]
        place = _path(self._root / "proc" / (str(pid) if pid else "self") / "cgroup")
        self._paths[pid] = now, place
        return place


def _path(file: Path) -> Place | None:
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
