"""The budget enforced by the kernel too, where this machine lets the lab make a memory cgroup of its own."""

import contextlib
import os
from pathlib import Path
from typing import Final

OVERHEAD_BYTES: Final = 72 << 20
"""For each QEMU beside its guest's RAM: code, heap, 32 MiB of translated code under TCG, page tables (26 to 40 MiB seen)."""
_BASE: Final = Path("/sys/fs/cgroup")


class BudgetGroup:
    """A memory cgroup for one run's QEMU processes, removed at its end."""

    def __init__(self, folder: Path, limit: str) -> None:
        self._folder = folder
        self._limit = limit

    @classmethod
    def make(cls, budget_bytes: int, guests: int) -> "BudgetGroup | None":
        """A group that holds guests with `budget_bytes` of RAM together and no more; None where it cannot be had."""
        name = f"ballonet-lab-{os.getpid()}"
        version1, version2 = _BASE / "memory" / name, _BASE / name
        folder, limit = (version1, "memory.limit_in_bytes") if version1.parent.is_dir() else (version2, "memory.max")
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
        return self._folder / "cgroup.procs"

    def kills(self) -> int:
        """How many processes the kernel killed for exceeding the budget."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                rows = dict(line.split() for line in (self._folder / name).read_text().splitlines())
                return int(rows.get("oom_kill", 0))
        return 0

    def remove(self) -> None:
        """Removes the group; its processes must have ended."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()
