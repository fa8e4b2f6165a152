"""Limits that guests live under: cgroups around one guest, around some, around all of them, wherever ballonet itself runs.

Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.high, memory.current, memory.stat) and cgroup-v1/memory.rst.
"""

import errno
import logging
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from ballonet.hypervisors.local.process import read
from ballonet.hypervisors.paths import text_of
from ballonet.hypervisors.told import Told
from ballonet.model.snapshot import Budget
from ballonet.model.units import MIB

log = logging.getLogger(__name__)

MOVED_S: Final = 5.0
"""How old an answer to where a process is, or to how far a group is limited, may be: systemd and libvirt move a QEMU once, as it
starts, and administrators change limits seldom."""
SPREAD: Final = 16
"""Guests that were met at once are spread over this many parts of that time."""
_NO_LIMIT: Final = 1 << 60
"""Version 1 writes no limit as the largest multiple of a page."""
_STEP_BYTES: Final = 16 * MIB
"""In steps of this a guest's own limit is told: what QEMU takes besides its RAM breathes."""
_FILES: Final = ("active_file", "inactive_file")
"""Of memory.stat: page cache, which the kernel drops before it lets the limit hurt, as MemAvailable counts it. Shared memory of
guests is not in it."""
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESRCH, errno.ENODEV})
"""There is no such file, process or group (any more). All other errors say that it cannot be read now."""
Place = tuple[int, str]
"""Version and path of a group."""
Chain = tuple[Place, ...]
"""A group, and those that it lies in, the outermost last. A host's root has no limit; what a container sees as the root may."""


class Found(NamedTuple):
    """What limits guests on this host, besides its own memory."""

    around_all: Budget | None = None
    """The limit around all guests with the least available; None = there is none."""
    around_some: tuple[Budget, ...] = ()
    own: Mapping[str, int] = {}
    """The most that one guest can have, by name, where it has a limit of its own."""


class Cgroups:
    """The groups that guests are in. Who is in which is asked again every few seconds only."""

    def __init__(self, root: Path) -> None:
        """Args:
        root: where /proc and /sys are found.
        """
        self._root = root
        self._places: dict[int, tuple[float, Chain]] = {}
        """By process: when it was asked, and where it is; () = nowhere."""
        self._chains: dict[Place, Chain] = {}
        """By group: the same for all processes in it."""
        self._limits: dict[Place, tuple[float, int | None]] = {}
        """By group: when it was asked, and how far it may grow; None = it has no limit."""
        self._unread = Told(log)
        self._budgets: dict[Place, Budget] = {}
        """By group: what was read last."""

    def find(self, pids: Mapping[str, int], resident: Mapping[str, int]) -> Found:
        """The limits that hold now.

        Args:
            pids: of the guests, by name.
            resident: what each has of the host's memory, as far as it is known.
        """
        now = time.monotonic()
        members: dict[Place, list[str]] = {}
        for name, pid in pids.items():
            for group in self._place(pid, now):
                if group in members:
                    members[group].append(name)
                else:
                    members[group] = [name]
        self._forget(pids, members)
        own: dict[str, int] = {}
        budgets: dict[tuple[str, ...], Budget] = {}
        for group, names in members.items():
            if (limit := self._limit(group, now)) is None or (budget := self._read(group, limit, tuple(names))) is None:
                continue
            if len(names) == 1 and not group[1].endswith(".slice") and not self._is_ours(group, now):
                most = _own_limit(budget, resident.get(names[0], 0))
                own[names[0]] = min(own.get(names[0], most), most)
            else:
                tightest = budgets.get(budget.guests, budget)
                budgets[budget.guests] = min(tightest, budget, key=lambda one: one.available_bytes)
        around_all = budgets.pop(tuple(pids), None)
        return Found(around_all, tuple(budgets.values()), own)

    def _forget(self, pids: Mapping[str, int], members: Mapping[Place, list[str]]) -> None:
        """What is kept of processes and groups that are gone."""
        known = {0, *pids.values()}
        if len(self._places) > len(known):
            self._places = {pid: kept for pid, kept in self._places.items() if pid in known}
        if len(self._chains) > 2 * len(members) + 2 * SPREAD:
            self._chains.clear()
        self._limits = {group: kept for group, kept in self._limits.items() if group in members}
        self._budgets = {group: kept for group, kept in self._budgets.items() if group in members}

    def _is_ours(self, group: Place, now: float) -> bool:
        """Whether ballonet is in it too: a container that holds a host of guests, of which one runs."""
        return group in self._place(0, now)

    def _place(self, pid: int, now: float) -> Chain:
        """Where a process is; 0 = this one."""
        kept = self._places.get(pid)
        if kept is not None and now - kept[0] < MOVED_S:
            return kept[1]
        try:
            place = _path(Path(f"{self._root}/proc/{pid or 'self'}/cgroup"))
        except OSError:  # it cannot be read now: where it was last counts
            return kept[1] if kept is not None else ()
        # The first time it is looked at again sooner, by a part of its own: those of all guests are not read in the same tick.
        spread_s = MOVED_S * (pid % SPREAD) / SPREAD if kept is None else 0.0
        chain = self._chain(place) if place is not None else ()
        self._places[pid] = now - spread_s, chain
        return chain

    def _chain(self, place: Place) -> Chain:
        found = self._chains.get(place)
        if found is None:
            version, path = place
            found = tuple((version, str(one)) for one in (PurePosixPath(path), *PurePosixPath(path).parents))
            self._chains[place] = found
        return found

    def _folder(self, group: Place) -> Path:
        return self._root / "sys/fs/cgroup" / ("" if group[0] == 2 else "memory") / group[1].lstrip("/")  # noqa: PLR2004

    def _limit(self, group: Place, now: float) -> int | None:
        kept = self._limits.get(group)
        if kept is None or now - kept[0] >= MOVED_S:
            folder = self._folder(group)
            names = ("memory.max", "memory.high") if group[0] == 2 else ("memory.limit_in_bytes",)  # noqa: PLR2004 the version
            try:
                found = [limit for name in names if (limit := _number(folder / name)) is not None and limit < _NO_LIMIT]
            except OSError as error:  # it cannot be read now, which is not "no limit": what was known counts
                if kept is None:
                    self._unread.failed("a limit around guests cannot be read yet, so it is not kept", error, has_trace=False)
                return kept[1] if kept is not None else None
            kept = self._limits[group] = now, min(found, default=None)
        return kept[1]

    def _read(self, group: Place, limit: int, guests: tuple[str, ...]) -> Budget | None:
        is_second, folder = group[0] == 2, self._folder(group)  # noqa: PLR2004 the version
        try:
            usage = _number(folder / ("memory.current" if is_second else "memory.usage_in_bytes"))
            if usage is None:
                return None
            cache = _stat(folder / "memory.stat", *(_FILES if is_second else (f"total_{name}" for name in _FILES)))
        except OSError:  # the limit is there all the same: what was known counts, and at first that all of it is taken
            last = self._budgets.get(group)
            available = last.available_bytes if last is not None else 0
        else:
            available = max(0, limit - usage + cache)
        name = text_of(group[1])
        found = Budget(name=name, limit_bytes=limit, available_bytes=available, guests=guests)
        self._budgets[group] = found
        return found


def _own_limit(budget: Budget, resident: int) -> int:
    """What a guest's RAM can have of its own group: QEMU needs some for itself."""
    beside = max(0, budget.limit_bytes - budget.available_bytes - resident)
    return max(_STEP_BYTES, (budget.limit_bytes - beside) // _STEP_BYTES * _STEP_BYTES)


def _path(file: Path) -> Place | None:
    """Version and path of the memory group that a /proc/PID/cgroup names; version 1's, where it has one. None = the process is
    gone. Raises OSError: it cannot be read now.
    """
    if (text := _text(file)) is None:
        return None
    lines = [line.split(":", 2) for line in text.splitlines()]
    # Number, controllers, path. One that leads out of what is seen here (a namespace of groups) is none that can be read.
    found = [line for line in lines if len(line) == 3 and line[2].startswith("/") and ".." not in line[2].split("/")]  # noqa: PLR2004
    for _, controllers, path in found:
        if "memory" in controllers.split(","):
            return 1, path
    return next(((2, path) for number, _, path in found if number == "0"), None)


def _text(file: Path) -> str | None:
    """None where there is no such file, or no group or process any more. Raises OSError: it cannot be read now."""
    try:
        return read(str(file)).decode(errors="surrogateescape")
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def _number(file: Path) -> int | None:
    """None where there is none: no such file, or `max`. Raises OSError: it cannot be read now."""
    text = _text(file)
    if text is None or text.strip() == "max":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise OSError(f"{file}: {text!r} is no number") from error


def _stat(file: Path, *names: str) -> int:
    """The sum of these rows. Raises OSError: it cannot be read now."""
    try:
        return sum(int(value) for key, value in map(str.split, (_text(file) or "").splitlines()) if key in names)
    except ValueError as error:
        raise OSError(f"{file}: not rows of a name and a number") from error
