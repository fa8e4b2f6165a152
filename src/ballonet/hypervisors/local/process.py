"""What the host itself knows of a QEMU process, from /proc: no guest can lie about it.

Format of the files: proc(5) and Documentation/filesystems/proc.rst.
"""

import errno
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

_KIB = 1024
FILES_EVERY_S: Final = 5.0
"""How often its open files are looked through: some dozens; a device that is plugged in opens one."""
STATUS_EVERY_S: Final = 1.0
"""How often what the host has swapped out is read: a host swaps slowly."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_READ_BYTES = 16 << 10
_BLOCK_BYTES = 512
"""Unit of st_blocks, whatever the file system's own block (inode(7))."""
_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.ENOTDIR})
"""There is no such process or file. All other errors say that it cannot be read now."""
PINS: Final = {
    "/dev/vfio/": "vfio",
    "anon_inode:[vfio": "vfio",
    "anon_inode:kvm-vfio": "vfio",
    "/dev/vhost-vdpa": "vhost-vdpa",
    "anon_inode:[kvm-gmem": "kvm-gmem",
    "/[kvm-gmem": "kvm-gmem",
    "/dev/sev": "sev",
}
"""By how an open file's name begins: what makes a balloon inert, or memory that no count of the process shows. A disk image may
be called anything."""

_MARKS: Final = tuple(PINS)


@dataclass(frozen=True)
class ProcessFacts:
    """What makes a balloon inert, as the host sees it."""

    locked_bytes: int = 0
    """VmLck: memory that cannot be taken back (mlock)."""
    hugetlb_bytes: int = 0
    """HugetlbPages, or the files of such that it has, touched or not: its balloon frees nothing."""
    pins: frozenset[str] = frozenset()
    """Of `PINS`: what of that it has open."""
    age_s: float | None = None
    """Since the process started; None = cannot be read."""


class Occupied(NamedTuple):
    """What a guest's RAM has of the host now."""

    resident_bytes: int | None
    """In ordinary memory; None = cannot be measured."""
    swapped_bytes: int = 0
    """In the host's swap."""
    huge_bytes: int = 0
    """In huge pages of a pool, touched or not: nothing of that comes out of ordinary memory."""


class Process:
    """One QEMU process."""

    def __init__(self, pid: int, root: Path) -> None:
        """Args:
        pid: of the process.
        root: where /proc and /sys are found.
        """
        self.pid = pid
        self._root = root
        self._folder = f"{root}/proc/{pid}"
        self._files_at = self._status_at = -math.inf
        self._pins: frozenset[str] = frozenset()
        self._status = b""
        self._group_swap = ""
        """Where its own cgroup says what of it is swapped out; empty = nowhere."""
        self._started_s = start_s(root, pid)
        self._swapped = 0
        self._backing: list[str] = []
        self._pooled_bytes = 0
        """The size of its files of huge pages."""
        self._look_through()

    def occupied(self, ram_bytes: int) -> Occupied:
        """What the guest's RAM of at most `ram_bytes` occupies now.

        Where all of the RAM is memfds of the guest's own (one, or one for each node, DIMM and virtio-mem), their blocks: exact,
        and a page that the balloon gave back is gone from them at once; what is swapped out of them counts. Else the
        process's RSS, which includes QEMU's own few dozen MiB and lacks what is swapped out and huge pages. Nothing shows what a
        guest_memfd holds.
        """
        status = self._read_status()
        huge = max(_kib(status, b"HugetlbPages"), self._pooled_bytes)
        if "kvm-gmem" in self._pins:
            return Occupied(None, 0, huge)
        swapped = max(_kib(status, b"VmSwap"), self._swapped_of_group())
        if (found := self._blocks(ram_bytes)) is not None:
            held, is_more = found
            # With memfds for something else as well (ivshmem), RAM may lie in none: at least what is in no file counts.
            own = _kib(status, b"RssAnon") if is_more else 0
            return Occupied(max(0, held - swapped, own), min(swapped, held), huge)
        try:
            return Occupied(int(read(f"{self._folder}/statm").split()[1]) * _PAGE_BYTES, swapped, huge)
        except (OSError, ValueError, IndexError):
            rss = _kib(status, b"VmRSS")
            return Occupied(rss or None, swapped, huge)

    @property
    def started_s(self) -> float | None:
        """When it began, in seconds since the host's boot; None = cannot be read."""
        return self._started_s

    @property
    def has_died(self) -> bool:
        """Whether it is gone, or another one has its number by now."""
        try:
            os.stat(self._folder)
        except OSError as error:
            if error.errno in _GONE:
                return True  # else nobody can say
        return self._started_s is not None and start_s(self._root, self.pid) not in {self._started_s, None}

    def facts(self) -> ProcessFacts | None:
        """What would make this guest's balloon inert, as far as can be read; None when nothing can (gone, or not permitted)."""
        if time.monotonic() - self._files_at >= FILES_EVERY_S:
            self._look_through()
        status = self._read_status()
        if not status and not self._pins and self._started_s is None:
            return None
        return ProcessFacts(
            locked_bytes=_kib(status, b"VmLck"),
            hugetlb_bytes=max(_kib(status, b"HugetlbPages"), self._pooled_bytes),
            pins=self._pins,
            age_s=self._age_s(),
        )

    def _age_s(self) -> float | None:
        if self._started_s is None:
            return None
        try:
            return float(read(f"{self._root}/proc/uptime").split()[0]) - self._started_s
        except (OSError, ValueError, IndexError):
            return None

    def _read_status(self) -> bytes:
        now = time.monotonic()
        if now - self._status_at >= STATUS_EVERY_S:
            self._status_at = now
            try:
                self._status = b"\n" + read(f"{self._folder}/status")
            except OSError as error:
                if error.errno in _GONE:
                    self._status = b""  # else it cannot be read now: what it said last counts
        return self._status

    def _blocks(self, ram_bytes: int) -> tuple[int, bool] | None:
        """What is allocated of its memfds of ordinary memory, and whether they are more than RAM; None where these and its huge
        pages are not all of its RAM.
        """
        if not self._backing and not self._pooled_bytes:
            return None
        try:
            files = [os.stat(path) for path in self._backing]
        except OSError:
            return None
        size = sum(file.st_size for file in files) + self._pooled_bytes
        if size < ram_bytes:
            return None
        return sum(file.st_blocks * _BLOCK_BYTES for file in files), size > ram_bytes

    def _swapped_of_group(self) -> int:
        """memory.swap.current of the cgroup that it has for itself: what is swapped out of shared memory is in no count of the
        process.
        """
        if not self._group_swap:
            return 0
        try:
            self._swapped = int(read(self._group_swap))
        except OSError as error:
            if error.errno in _GONE:
                self._swapped = 0
        except ValueError:
            self._swapped = 0
        return self._swapped

    def _look_through(self) -> None:
        """Its open files: what is backed by which, and what is pinned. What cannot be read now stays as it was."""
        self._files_at = time.monotonic()
        folder = f"{self._folder}/fd"
        try:
            names = os.listdir(folder)
        except OSError:
            return
        found = {}
        for name in names:
            try:
                found[name] = os.readlink(f"{folder}/{name}")
            except OSError:
                continue  # closed in between
        pinning = [target for target in found.values() if target.startswith(_MARKS)]
        self._pins = frozenset(pin for mark, pin in PINS.items() if any(target.startswith(mark) for target in pinning))
        pools = ("/memfd:", *hugetlbfs(self._root))
        self._find_backing([f"{folder}/{name}" for name, target in found.items() if target.startswith(pools)])
        self._group_swap = self._find_group_swap()

    def _find_backing(self, paths: list[str]) -> None:
        """Its memfds and files of huge pages, each once, whatever the number of its descriptors; those of huge pages apart (whose
        block is a page). Those of a process that has mapped them and closed the descriptors are not seen: its RSS counts then.
        """
        try:
            once = {(file.st_dev, file.st_ino): (path, file.st_size) for path in paths if (file := os.stat(path))}
            huge = {path: size for path, size in once.values() if os.statvfs(path).f_bsize > _PAGE_BYTES}
        except OSError as error:
            if error.errno not in _GONE:
                return  # what is known of them counts
            once, huge = {}, {}
        self._pooled_bytes, self._backing = sum(huge.values()), [path for path, _ in once.values() if path not in huge]

    def _find_group_swap(self) -> str:
        try:
            lines = read(f"{self._folder}/cgroup").decode(errors="replace").splitlines()
        except OSError:
            return ""
        own = next((line.split(":", 2)[2] for line in lines if line.startswith("0::")), "")
        for group in (PurePosixPath(own), *PurePosixPath(own).parents) if len(own) > 1 else ():
            folder = f"{self._root}/sys/fs/cgroup{group}"
            if str(group) != "/" and os.path.exists(f"{folder}/memory.swap.current"):
                return f"{folder}/memory.swap.current" if self._is_alone_in(folder) else ""
        return ""

    def _is_alone_in(self, folder: str) -> bool:
        """Whether a group and those within hold nothing but this process: libvirt, Proxmox VE and systemd make one each. In one
        that is shared, nobody knows whose swap it is.
        """
        pids: set[str] = set()
        for place, _folders, files in os.walk(folder):
            if "cgroup.procs" in files:
                try:
                    pids.update(read(f"{place}/cgroup.procs").decode().split())
                except OSError:
                    return False
        return pids == {str(self.pid)}


def read(path: str) -> bytes:
    """A file of /proc, whole: for a tenth of what an open file object costs. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = part = os.read(descriptor, _READ_BYTES)
        while part:  # what has been read is not all, until nothing comes: a status with many groups, a group with many processes
            part = os.read(descriptor, _READ_BYTES)
            found += part
        return found
    finally:
        os.close(descriptor)


def hugetlbfs(root: Path) -> tuple[str, ...]:
    """Where file systems of huge pages are mounted, each with a slash at its end."""
    try:
        rows = [line.split() for line in read(f"{root}/proc/mounts").decode(errors="replace").splitlines()]
    except OSError:
        return ()
    return tuple(f"{row[1].rstrip('/')}/" for row in rows if len(row) > 2 and row[2] == "hugetlbfs")  # noqa: PLR2004 device, where, type


def find_qemu(uuid: str, root: Path) -> int | None:
    """The process of the QEMU that was started with `-uuid UUID`, as libvirt starts it: of two, one of them on its way out, the
    younger. None = there is none. Raises OSError when nobody can say.
    """
    word, found = f"\0-uuid\0{uuid}\0".encode(), []
    for name in os.listdir(root / "proc"):
        try:
            if name.isdecimal() and word in (root / "proc" / name / "cmdline").read_bytes():
                found.append(int(name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone in between, or another user's
    return max(found, key=lambda pid: (start_s(root, pid) or 0.0, pid), default=None)


def start_s(root: Path, pid: int) -> float | None:
    """When a process started, in seconds since the host did; None where that cannot be read."""
    try:
        # The 22nd field; the second one may hold blanks and ends with the last parenthesis.
        return int(read(f"{root}/proc/{pid}/stat").rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _kib(status: bytes, name: bytes) -> int:
    words = status.partition(b"\n" + name + b":")[2].split(maxsplit=1)
    return int(words[0]) * _KIB if words and words[0].isdigit() else 0
