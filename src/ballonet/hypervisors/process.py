"""What the host itself knows of a QEMU process, from /proc: no guest can lie about it.

Format of the files: proc(5) and Documentation/filesystems/proc.rst.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024
FILES_EVERY_S = 30.0
"""How often its open files are looked through: some dozens, and what they are seldom changes."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
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
        self._folder = f"{root}/proc/{pid}"
        self._files_at, self._vfio = -math.inf, False
        self._started_s = self._find_start()
        self._backing = self._find_backing()

    def resident_bytes(self, ram_bytes: int) -> int | None:
        """What the guest's RAM of `ram_bytes` at the most occupies now; None when it cannot be read.

        Where all of the RAM is memfds of the guest's own (one, or one for each NUMA node, DIMM and virtio-mem), their blocks:
        exact, and a page that the balloon gave back is gone from them at once. Else the process's RSS, which includes QEMU's
        own few dozen MiB.
        """
        try:
            size = blocks = 0
            for path in self._backing:
                file = os.stat(path)
                size += file.st_size
                blocks += file.st_blocks
            if self._backing and size >= ram_bytes:
                return blocks * _BLOCK_BYTES
            return int(read(f"{self._folder}/statm").split()[1]) * _PAGE_BYTES
        except (OSError, ValueError, IndexError):
            return None

    @property
    def has_died(self) -> bool:
        """Whether it is gone."""
        return not os.path.exists(self._folder)

    def facts(self) -> ProcessFacts | None:
        """What would make this guest's balloon inert; None when it cannot be read (gone, or not permitted)."""
        try:
            status = read(f"{self._folder}/status")
            uptime_s = float(read(f"{self._root}/proc/uptime").split()[0])
            return ProcessFacts(
                locked_bytes=_kib(status, b"VmLck"),
                hugetlb_bytes=_kib(status, b"HugetlbPages"),
                has_vfio=self._has_vfio(),
                age_s=uptime_s - self._started_s,
            )
        except (OSError, ValueError, IndexError):
            return None

    def _has_vfio(self) -> bool:
        now = time.monotonic()
        if now - self._files_at >= FILES_EVERY_S:
            self._files_at = now
            self._vfio = any("vfio" in target for target in self._open_files().values())
        return self._vfio

    def _open_files(self) -> dict[str, str]:
        found = {}
        folder = f"{self._folder}/fd"
        for name in os.listdir(folder):
            try:
                found[name] = os.readlink(f"{folder}/{name}")
            except OSError:
                continue  # closed in between
        return found

    def _find_start(self) -> float:
        """When it started, in seconds since the host did; 0 where that cannot be read: it is old."""
        try:
            # The 22nd field; the second one may hold blanks and ends with the last parenthesis.
            return int(read(f"{self._folder}/stat").rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return 0.0

    def _find_backing(self) -> list[str]:
        """The memfds that it has open, each once, whatever the number of its descriptors."""
        try:
            folder = f"{self._folder}/fd"
            memfds = [f"{folder}/{name}" for name, target in self._open_files().items() if "/memfd:" in target]
            return list({os.stat(path).st_ino: path for path in memfds}.values())
        except OSError:
            return []


def read(path: str) -> bytes:
    """A small file of /proc in one go: a tenth of what an open file object costs. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


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


def _kib(status: bytes, name: bytes) -> int:
    found = status.partition(b"\n" + name + b":")[2]
    return int(found.split(maxsplit=1)[0]) * _KIB if found else 0
