"""The budget enforced by the kernel too, where this machine lets the lab make a memory cgroup of its own."""

import contextlib
import os
from pathlib import Path
from typing import Final

OVERHEAD_BYTES: Final = 72 << 20
"""For each QEMU besides its guest's RAM: code, heap, 32 MiB of translated code under TCG, page tables (26 to 40 MiB seen)."""
_BASE: Final = Path("/sys/fs/cgroup")


def group_folder(pid: int) -> Path:
    """The cgroup of the lab run in process `pid`, by version 1 of cgroups where the machine has that for memory."""
    base = _BASE / "memory" if (_BASE / "memory").is_dir() else _BASE
    return base / f"ballonet-lab-{pid}"


class BudgetGroup:
    """A memory cgroup for one run's QEMU processes, removed at its end."""

    def __init__(self, folder: Path, limit: str) -> None:
        self.folder = folder
        self._limit = limit

    @classmethod
    def make(cls, budget_bytes: int, guests: int) -> "BudgetGroup | None":
        """A group that holds guests with `budget_bytes` of RAM together and no more; None where it cannot be had."""
        folder = group_folder(os.getpid())
        limit = "memory.max" if folder.parent == _BASE else "memory.limit_in_bytes"
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            return None
        group = cls(folder, limit)
        try:
            (folder / limit).write_text(str(budget_bytes + guests * OVERHEAD_BYTES))
        except OSError:
            group.remove()
            return None
        return group

    @property
    def procs(self) -> Path:
        """Where a process enters."""
        return self.folder / "cgroup.procs"

    def kills(self) -> int:
        """How many processes the kernel killed for exceeding the budget."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                rows = dict(line.split() for line in (self.folder / name).read_text().splitlines())
                return int(rows.get("oom_kill", 0))
        return 0

    def remove(self) -> None:
        """Removes the group; its processes must have ended."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
