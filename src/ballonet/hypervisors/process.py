"""What the host itself knows of a QEMU process, from /proc: no guest can lie about it.

Format of the files: proc(5) and Documentation/filesystems/proc.rst.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024
_BLOCK_BYTES = 512
"""Unit of st_blocks, whatever the file system's own block (inode(7))."""


@dataclass(frozen=True)
class ProcessFacts:
    """What makes a balloon inert, as the host sees it."""

    locked_bytes: int
    """VmLck: memory that cannot be taken back (mlock)."""
    hugetlb_bytes: int
    """HugetlbPages: its balloon frees nothing."""
    has_vfio: bool
    """A device of the host is passed through: all guest memory is pinned for it."""
    age_s: float
    """Since the process started."""


class Process:
    """One QEMU process."""

    def __init__(self, pid: int, root: Path) -> None:
        self.pid = pid
        self._root = root
        self._folder = root / "proc" / str(pid)
        self._backing = self._find_backing()

    def resident_bytes(self, ram_bytes: int) -> int | None:
        """What the guest's RAM of `ram_bytes` at the most occupies now; None when it cannot be read.

        Where all of the RAM is memfds of the guest's own (one, or one for each NUMA node, DIMM and virtio-mem), their blocks:
        exact, and a page that the balloon gave back is gone from them at once. Else the process's RSS, which includes QEMU's
        own few dozen MiB.
        """
        try:
            files = [os.stat(path) for path in self._backing]
            if sum(file.st_size for file in files) >= ram_bytes:
                return sum(file.st_blocks for file in files) * _BLOCK_BYTES
            fields = (self._folder / "statm").read_text().split()
            return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return None

    def facts(self) -> ProcessFacts | None:
        """What would make this guest's balloon inert; None when it cannot be read (gone, or not permitted)."""
        try:
            status = dict(line.split(":", 1) for line in (self._folder / "status").read_text().splitlines())
            uptime_s = float((self._root / "proc/uptime").read_text().split()[0])
            # The 22nd field; the second one may hold blanks and ends with the last parenthesis.
            started = int((self._folder / "stat").read_text().rpartition(")")[2].split()[19])
            return ProcessFacts(
                locked_bytes=_kib(status.get("VmLck")),
                hugetlb_bytes=_kib(status.get("HugetlbPages")),
                has_vfio=any("vfio" in target for target in self._open_files().values()),
                age_s=uptime_s - started / os.sysconf("SC_CLK_TCK"),
            )
        except (OSError, ValueError, IndexError):
            return None

    def _open_files(self) -> dict[str, str]:
        found = {}
        folder = self._folder / "fd"
        for name in os.listdir(folder):
            try:
                found[name] = os.readlink(folder / name)
            except OSError:
                continue  # closed in between
        return found

    def _find_backing(self) -> list[Path]:
        """The memfds that it has open, each once, whatever the number of its descriptors."""
        try:
            memfds = [self._folder / "fd" / name for name, target in self._open_files().items() if "/memfd:" in target]
            return list({os.stat(path).st_ino: path for path in memfds}.values())
        except OSError:
            return []


def find_qemu(uuid: str, root: Path) -> int | None:
    """The process of the QEMU that was started with `-uuid UUID`, as libvirt starts it; None = there is none."""
    word = f"\0-uuid\0{uuid}\0".encode()
    for name in os.listdir(root / "proc"):
        try:
            if name.isdecimal() and word in (root / "proc" / name / "cmdline").read_bytes():
                return int(name)
        except OSError:
            continue  # gone in between
    return None


def _kib(text: str | None) -> int:
    return int(text.split()[0]) * _KIB if text else 0
