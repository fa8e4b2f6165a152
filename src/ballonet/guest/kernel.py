"""What this guest's kernel says of its memory, read so that it works when there is hardly any.

Files are opened once and read into the same buffers; nothing is parsed that is not asked for.
"""

import gc
import os
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

TRIGGERS = (("psi-some", b"some 50000 500000"), ("psi-full", b"full 25000 500000"))
"""Microseconds of stall within a window of half a second, the shortest that the kernel takes."""
MEMINFO = (
    ("total_bytes", b"MemTotal:"),
    ("free_bytes", b"MemFree:"),
    ("available_bytes", b"MemAvailable:"),
    ("cache_bytes", b"\nCached:"),
    ("swap_total_bytes", b"SwapTotal:"),
    ("swap_free_bytes", b"SwapFree:"),
)
MGLRU = "/sys/kernel/mm/lru_gen/enabled"
"""Not 0 where pages are aged by generations (Documentation/admin-guide/mm/multigen_lru.rst)."""
VMSTAT = (
    ("swap_in_bytes", b"\npswpin ", 4096),
    ("swap_out_bytes", b"\npswpout ", 4096),
    ("major_faults", b"\npgmajfault ", 1),
    ("oom_kills", b"\noom_kill ", 1),
    ("refaults", b"\nworkingset_refault_file ", 1),
    ("activations", b"\nworkingset_activate_file ", 1),
    ("refaults", b"\nworkingset_refault ", 1),
    ("activations", b"\nworkingset_activate ", 1),
)
"""What /proc/vmstat calls it; refaults of files had no name of their own before Linux 5.9."""
STALLS = (b"\nallocstall_normal ", b"\nallocstall_movable ", b"\nallocstall_dma32 ")


Number = TypeVar("Number", int, float)
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
"""Of mlockall(2); the same on all of Linux's architectures but Alpha, PowerPC and SPARC."""
KSTAT_BYTES = 96
"""Longer than a row of a kstat: a name of 32 characters, a type, a number."""
NUMBER_BYTES = 24
"""Longer than any number, and the spaces before it."""


class File:
    """A file of /proc, open for good, read into the same buffer each time and searched, not parsed."""

    def __init__(self, path: str, size: int) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._buffer = bytearray(size)
        self._filled = 0

    def read(self) -> None:
        """Takes a new picture."""
        self._filled = os.preadv(self._fd, [self._buffer], 0)

    def number(self, label: bytes) -> Optional[int]:
        """The number behind a label; None where there is none."""
        return self._read(int, label)

    def of_kstat(self, name: bytes) -> Optional[int]:
        """The value of a row of a kstat, which are `name type value`; None where there is none."""
        start = self._buffer.find(b"\n" + name + b" ", 0, self._filled)
        words = bytes(self._buffer[start : start + KSTAT_BYTES]).split(None, 3) if start >= 0 else []
        try:
            return int(words[2])
        except (IndexError, ValueError):
            return None

    def stalled_us(self, label: bytes) -> Optional[int]:
        """Microseconds like `total=12345` behind a label."""
        return self._read(int, label, b"total=")

    def share(self, label: bytes) -> Optional[float]:
        """A percentage like `avg10=1.25` behind a label, as a share."""
        percent = self._read(float, label, b"avg10=")
        return None if percent is None else percent / 100

    def _read(self, kind: Callable[[bytes], Number], label: bytes, mark: bytes = b"") -> Optional[Number]:
        """The number behind the first `mark` that follows a label."""
        start = self._buffer.find(label, 0, self._filled)
        at = self._buffer.find(mark, start + len(label), self._filled) if start >= 0 else -1
        if at < 0:
            return None
        words = bytes(self._buffer[at + len(mark) : at + len(mark) + NUMBER_BYTES]).split(None, 1)
        try:
            return kind(words[0])
        except (IndexError, ValueError):
            return None


class Memory:
    """What the kernel says of this guest's memory."""

    def __init__(self, proc: str = "/proc") -> None:
        self._meminfo = File(proc + "/meminfo", 8192)
        self._vmstat = File(proc + "/vmstat", 16384)
        try:
            self._pressure: Optional[File] = File(proc + "/pressure/memory", 512)
        except OSError:
            self._pressure = None  # no PSI in this kernel, or switched off
        try:
            self._arc: Optional[File] = File(proc + "/spl/kstat/zfs/arcstats", 16384)
        except OSError:
            self._arc = None  # no ZFS
        self._arc_bytes = 0
        try:
            with open(MGLRU) as file:
                self._mglru: Optional[int] = int(int(file.read(), 16) != 0)
        except (OSError, ValueError):
            self._mglru = None  # a kernel of before 6.1

    def _look(self) -> None:
        """Takes a new picture."""
        self._meminfo.read()
        if self._arc is not None:
            self._arc.read()
            size, least = self._arc.of_kstat(b"size"), self._arc.of_kstat(b"c_min")
            self._arc_bytes = 0 if size is None or least is None else max(0, size - least)

    def _available(self) -> int:
        """MemAvailable of the last picture, and what a ZFS cache gives back when asked: its size above its minimum. The kernel
        does not count that (OpenZFS, module/zfs/arc.c: arc_shrinker).
        """
        return (self._meminfo.number(b"MemAvailable:") or 0) * 1024 + self._arc_bytes

    def available_bytes(self) -> int:
        """What is available now. Allocates next to nothing."""
        self._look()
        return self._available()

    def used_bytes(self) -> int:
        """What is not available, of the last picture."""
        return self.total_bytes() - self._available()

    def total_bytes(self) -> int:
        """MemTotal of the last picture."""
        return (self._meminfo.number(b"MemTotal:") or 0) * 1024

    def free_bytes(self) -> int:
        """MemFree now."""
        self._meminfo.read()
        return (self._meminfo.number(b"MemFree:") or 0) * 1024

    def report(self) -> Dict[str, Any]:
        """All numbers now; those that this kernel does not have are left out."""
        self._look()
        self._vmstat.read()
        found: Dict[str, Any] = {}
        for name, label in MEMINFO:
            kib = self._meminfo.number(label)
            if kib is not None:
                found[name] = kib * 1024
        for name in ("available_bytes", "cache_bytes"):
            if name in found:
                found[name] += self._arc_bytes
        for name, label, unit in VMSTAT:
            count = self._vmstat.number(label)
            if count is not None and name not in found:
                found[name] = count * unit
        if self._mglru is not None:
            found["mglru"] = self._mglru
        stalls = [count for count in map(self._vmstat.number, STALLS) if count is not None]
        if stalls:
            found["alloc_stalls"] = sum(stalls)
        if self._pressure is not None:
            self._pressure.read()
            for name in ("some", "full"):
                share = self._pressure.share(name.encode())
                if share is not None:
                    found["psi_%s_share" % name] = share
                stalled = self._pressure.stalled_us(name.encode())
                if stalled is not None:
                    found["psi_%s_us" % name] = stalled
        return found


def arm(name: str, words: bytes, proc: str) -> Tuple[int, str]:
    """A trigger of the kernel's: its file descriptor, negative where it cannot be had, and its name."""
    try:
        fd = os.open(proc + "/pressure/memory", os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return -1 - len(name), name
    try:
        os.write(fd, words + b"\0")
    except OSError:
        os.close(fd)
        return -1 - len(name), name
    return fd, name


def find_port(name: str) -> Optional[str]:
    """The device of a virtio-serial port: by udev's link, or by its name in sysfs where there is no udev."""
    link = "/dev/virtio-ports/" + name
    if os.path.exists(link):
        return link
    root = "/sys/class/virtio-ports"
    for entry in os.listdir(root) if os.path.isdir(root) else ():
        try:
            with open(os.path.join(root, entry, "name")) as file:
                if file.read().strip() == name:
                    return "/dev/" + entry
        except OSError:
            continue
    return None


def harden() -> List[str]:
    """Makes this process live on in a guest that can hardly run. Gives what could not be done."""
    failed = []
    gc.disable()  # nothing here makes cycles
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")
    except OSError as error:
        failed.append("OOM protection: %s" % error)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError as error:
        failed.append("real-time priority: %s" % error)
    try:
        import ctypes

        # What has been touched stays (Linux 4.4); what never was, as most of an interpreter, would double what this occupies.
        if ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
            failed.append("locking its memory: %s" % os.strerror(ctypes.get_errno()))
    except ImportError:
        failed.append("locking its memory: this Python has no ctypes; install python3")
    return failed
