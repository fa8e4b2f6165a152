"""Makes memory free when the host asks for it, in the least harmful order, and says how much came free.

1. What is free already. 2. Page cache that nobody used recently, through the control groups' memory.reclaim (Linux 5.19,
Documentation/admin-guide/cgroup-v2.rst). 3. Commands that the administrator named, which have programs trim their heaps.
4. The garbage of idle JVMs. Each only as far as the ones before did not suffice.
"""

import os
import signal
import time
from typing import Dict, List, Optional

from ballonet.guest.care import Care
from ballonet.guest.kernel import Memory
from ballonet.guest.settings import Settings

LONGEST_S = 5.0
"""Then what has come free is said, whatever it is."""
TRIM_EVERY_S = 10.0
"""The administrator's commands are run at most this often, however often the host asks."""
UNPROTECTED = 'echo 0 > /proc/self/oom_score_adj; exec "$@"'
SLICE_BYTES = 16 << 20
"""Reclaimed at once: a few milliseconds, after which the agent looks at its port again."""
CACHE_PART = 0.8
"""Of a group's inactive page cache: more would begin to page out its anonymous memory."""
CGROUPS = "/sys/fs/cgroup"


class Ready:
    """One request of the host's at a time; a newer one takes its place."""

    def __init__(self, memory: Memory, care: Care, settings: Settings, cgroups: str = CGROUPS) -> None:
        """Args:
        memory: what the kernel says.
        care: of the JVMs.
        settings: what may be done.
        cgroups: where control groups are found.
        """
        self._memory, self._care, self._settings, self._cgroups = memory, care, settings, cgroups
        self._wanted = 0
        self._free_before = 0
        self._until = 0.0
        self._groups: List[str] = []
        self._left = 0
        self._commands: List[List[str]] = []
        self._child: Optional[int] = None
        self._child_until = 0.0
        self._trimmed_at = -1e9
        self._has_asked_jvms = False

    @property
    def is_busy(self) -> bool:
        """Whether a request is being worked on."""
        return bool(self._wanted)

    def begin(self, wanted: int, now: float) -> None:
        """The host wants `wanted` bytes to be free."""
        self._wanted, self._until = wanted, now + LONGEST_S
        self._free_before = self._memory.free_bytes()
        self._groups = _groups(self._cgroups) if self._settings.reclaim else []
        self._left = 0
        self._reap()
        is_due = now - self._trimmed_at >= TRIM_EVERY_S and self._child is None
        self._commands = list(self._settings.trim) if is_due else []
        self._has_asked_jvms = False

    def step(self, now: float) -> Optional[Dict[str, int]]:
        """One small thing towards it. Gives what is free of it when nothing more can be done, and what came free; None before."""
        free = self._memory.free_bytes()
        if free < self._wanted and now <= self._until and self._do_something(self._wanted - free):
            return None
        self._end_child()
        wanted, self._wanted = self._wanted, 0
        return {"ready_bytes": min(free, wanted), "freed_bytes": max(0, free - self._free_before)}

    def _do_something(self, missing: int) -> bool:
        """Whether something was done, or is under way still."""
        if self._child is not None:
            self._reap()
            if time.monotonic() > self._child_until:  # however often the host asks meanwhile
                self._end_child()
            return True
        while self._groups:
            if self._reclaim(self._groups[-1], missing):
                return True
            self._groups.pop()
            self._left = 0
        if self._commands:
            if self._commands == self._settings.trim:
                self._trimmed_at = time.monotonic()
            self._run(self._commands.pop(0))
            return True
        if not self._has_asked_jvms:
            self._has_asked_jvms = True
            self._care.make_ready()
        return self._care.is_busy

    def _reclaim(self, group: str, missing: int) -> bool:
        if not self._left:
            self._left = int(CACHE_PART * _inactive_cache(group))
        amount = min(self._left, missing, SLICE_BYTES)
        if amount < SLICE_BYTES // 16:
            return False
        self._left = max(1, self._left - amount)
        try:
            with open(group + "/memory.reclaim", "w") as file:
                file.write(str(amount))
        except OSError:  # it could not find that much
            return False
        return True

    def _run(self, words: List[str]) -> None:
        """Without what keeps the agent itself alive: neither its real-time priority nor its protection from the OOM killer."""
        plain = (os.SCHED_OTHER, os.sched_param(0))
        try:
            self._child_until = time.monotonic() + LONGEST_S
            self._child = os.posix_spawn(
                "/bin/sh", ["sh", "-c", UNPROTECTED, "sh", *words], os.environ, setpgroup=0, scheduler=plain
            )
        except (OSError, IndexError):
            self._child = None

    def _reap(self) -> None:
        if self._child is not None and os.waitpid(self._child, os.WNOHANG)[0]:
            self._child = None

    def _end_child(self) -> None:
        """A command that has not ended with the request is ended, and what it began."""
        self._reap()
        if self._child is not None:
            try:
                os.killpg(self._child, signal.SIGKILL)
            except OSError:
                pass
            self._reap()


def _groups(root: str) -> List[str]:
    """The control groups below the root that can be told to reclaim, those with most cache last."""
    try:
        names = [os.path.join(root, name) for name in os.listdir(root)]
    except OSError:
        return []
    return sorted((name for name in names if os.path.exists(name + "/memory.reclaim")), key=_inactive_cache)


def _inactive_cache(group: str) -> int:
    try:
        with open(group + "/memory.stat") as file:
            for line in file:
                if line.startswith("inactive_file "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
