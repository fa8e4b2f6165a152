"""Carries out the ladder's steps: KSM by /sys/kernel/mm/ksm, paging out by the guest's own cgroup.

Documentation/admin-guide/mm/ksm.rst; memory.reclaim of Documentation/admin-guide/cgroup-v2.rst (Linux 5.19). What the kernel had
been set to is put back when the daemon ends.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from ballonet.model.plan import Emergency, Plan

log = logging.getLogger(__name__)


class LadderError(Exception):
    """A step cannot be taken; the text says why."""


class HostSteps:
    """One host's."""

    def __init__(self, root: Path, pid_of: Callable[[str], int | None]) -> None:
        """Args:
        root: where /proc and /sys are found.
        pid_of: the process of a guest, by its name.
        """
        self._root, self._pid_of = root, pid_of
        self._ksm = root / "sys/kernel/mm/ksm"
        self._before: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._trouble: dict[str, str] = {}

    def climb(self, plan: Plan, *, may_ksm: bool) -> None:
        """Takes the steps of a plan in the background: paging out takes its time, and no tick waits for it.

        Args:
            plan: of this tick.
            may_ksm: whether KSM may be set at all; where it may not any more, it is put back to what it was.
        """
        if self._before and not may_ksm:
            self._restore()
        if may_ksm and "ksm" not in self._trouble and not (self._ksm / "run").exists():
            self._trouble["ksm"] = "this kernel has no KSM; switch `emergency.ksm` off"
            log.warning("emergency step failed", extra={"what": "ksm", "trouble": self._trouble["ksm"]})
        due = plan.emergency
        is_busy = self._task is not None and not self._task.done()
        if (due.reclaim or due.ksm_pages is not None) and not is_busy:
            self._task = asyncio.create_task(asyncio.to_thread(self._climb, due, plan.host_state))

    async def close(self) -> None:
        """Waits for the step that is under way, and puts KSM back to what it was."""
        try:
            if self._task is not None:
                await asyncio.wait([self._task])
        finally:
            self._restore()

    def _restore(self) -> None:
        for name, value in self._before.items():
            with contextlib.suppress(OSError):
                (self._ksm / name).write_text(value)
        self._before = {}

    # In a thread

    def _climb(self, due: Emergency, state: str) -> None:
        if due.ksm_pages is not None:
            self._try("ksm", partial(self._set_ksm, due.ksm_pages, state))
        for name, bytes_ in due.reclaim.items():
            self._try(name, partial(self._reclaim, name, bytes_, state))

    def _try(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except (OSError, LadderError) as error:
            if self._trouble.get(what) != str(error):
                log.warning("emergency step failed", extra={"what": what, "trouble": str(error)})
            self._trouble[what] = str(error)
        else:
            self._trouble.pop(what, None)

    def _pages(self) -> int:
        try:
            runs = (self._ksm / "run").read_text().strip() == "1"
            return int((self._ksm / "pages_to_scan").read_text()) if runs else 0
        except (OSError, ValueError):
            return 0

    def _set_ksm(self, pages: int, state: str) -> None:
        if pages == self._pages():
            return
        for name, value in (("pages_to_scan", str(pages)), ("run", "1")) if pages else (("run", "0"),):
            path = self._ksm / name
            self._before.setdefault(name, path.read_text())
            path.write_text(value)
        log.warning("emergency", extra={"what": "ksm", "host_state": state, "pages_to_scan": pages})

    def _reclaim(self, name: str, bytes_: int, state: str) -> None:
        pid = self._pid_of(name)
        if pid is None:
            raise LadderError("its process is not known")
        if len((self._root / "proc/swaps").read_text(errors="replace").splitlines()) < 2:  # noqa: PLR2004 the heading and one
            raise LadderError("the host has no swap to page out to; add some, or switch `emergency.reclaim` off")
        folder = self._own_group(pid)
        with contextlib.suppress(BlockingIOError):  # less than that could be had: EAGAIN, and what was had counts
            (folder / "memory.reclaim").write_text(str(bytes_))
        log.warning("emergency", extra={"what": "reclaim", "guest": name, "host_state": state, "bytes": bytes_})

    def _own_group(self, pid: int) -> Path:
        """The cgroup of this guest and nobody else. Raises LadderError, OSError."""
        base = self._root / "sys/fs/cgroup"
        words = (self._root / "proc" / str(pid) / "cgroup").read_text(errors="surrogateescape").splitlines()
        own = next((line.removeprefix("0::") for line in words if line.startswith("0::")), "/")
        for group in (PurePosixPath(own), *PurePosixPath(own).parents):
            folder = base / str(group).lstrip("/")
            if group != PurePosixPath("/") and (folder / "memory.reclaim").exists():
                if others := self._members(folder) - {pid}:
                    raise LadderError(
                        f"its cgroup {group} holds {len(others)} other processes too, which would be paged out with it"
                    )
                return folder
        raise LadderError("no cgroup of its own with memory.reclaim; it takes cgroups version 2 and Linux 5.19")

    @staticmethod
    def _members(folder: Path) -> set[int]:
        found: set[int] = set()
        for file in folder.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # a threaded group says so here
                found.update(map(int, file.read_text().split()))
        return found
