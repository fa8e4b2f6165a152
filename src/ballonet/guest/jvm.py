"""HotSpot JVMs in this guest: what of their heaps is garbage the kernel cannot know of, so they are asked to return it.

A JVM is spoken to as the JDK's own `jcmd` does, through its attach socket (attachListener_linux.cpp): no JDK is needed in
the guest, and none of its 30 MB of memory. SIGQUIT has a JVM open that socket when a file .attach_pid is there.

What returns memory, by collector (tried with OpenJDK 17.0.21):
- G1: one GC.run with MaxHeapFreeRatio 10 shrinks the heap to its live data and a tenth, within a second;
- Serial: shrinks in four steps (ShrinkHeapInSteps), so up to four GC.run, and not below its first size (-Xms);
- Parallel: only with -XX:+UseAdaptiveSizePolicyWithSystemGC, which cannot be set from outside;
- Shenandoah: the second GC.run;
- ZGC: nothing at once. By its own account (JEP 351) it does so -XX:ZUncommitDelay (300 s) later; not waited for.
"""

import os
import re
import signal
import socket
import stat
import time
from typing import List, Optional, Tuple

_TICKS = os.sysconf("SC_CLK_TCK")
_SIZES = (
    re.compile(rb"(?:committed|capacity|total) (\d{1,12})([KMG]),? .{0,80}?used (\d{1,12})([KMG])"),
    re.compile(rb"used (\d{1,12})([KMG]), capacity (\d{1,12})([KMG])"),
    re.compile(rb"(\d{1,12})([KMG]) committed, (\d{1,12})([KMG]) used"),
)
"""Looked for in each line by itself: any user of this guest may run what calls itself a JVM, and answer what he likes."""
MOST_LINES, LONGEST_LINE = 64, 200
"""Of an answer to GC.heap_info: real ones have 5 to 20 lines, of less than 120 bytes."""
MOST_BYTES = 1 << 48
"""No heap is larger."""
_UNITS = {b"K": 1 << 10, b"M": 1 << 20, b"G": 1 << 30}


class Heap:
    """What a JVM says of its heap, in bytes."""

    def __init__(self, committed: int, used: int) -> None:
        self.committed = committed
        self.used = used


def heap(text: bytes) -> Optional[Heap]:
    """Reads an answer to GC.heap_info; None where it is of a collector that nobody knows."""
    lines = [line[:LONGEST_LINE] for line in text[: MOST_LINES * LONGEST_LINE].split(b"Metaspace")[0].split(b"\n")[:MOST_LINES]]
    found = _all(_SIZES[0], lines)
    if found:
        return Heap(min(MOST_BYTES, sum(one[0] for one in found)), min(MOST_BYTES, sum(one[1] for one in found)))
    found = _all(_SIZES[1], lines)
    if found:
        return Heap(found[0][1], found[0][0])
    found = _all(_SIZES[2], lines)
    return Heap(*found[0]) if found else None


def _all(pattern: "re.Pattern[bytes]", lines: List[bytes]) -> List[Tuple[int, int]]:
    """Both sizes of each line that has them, in bytes."""
    found = [match for match in map(pattern.search, lines) if match]
    return [(_bytes(match[1], match[2]), _bytes(match[3], match[4])) for match in found]


def _bytes(number: bytes, unit: bytes) -> int:
    return min(MOST_BYTES, int(number) * _UNITS[unit])


class AsOwner:
    """What is done within is done as the user of a process, not as root: what lies below its /proc/PID/root is made by that user,
    who may have put anything there in the way of something of root's. As the JDK's jcmd, which refuses others' processes.
    """

    def __init__(self, uid: int, gid: int) -> None:
        self._uid, self._gid = uid, gid
        self._is_other = os.geteuid() == 0 and uid != 0
        self._groups: List[int] = []

    def __enter__(self) -> None:
        if self._is_other:
            self._groups = os.getgroups()
            os.setgroups([self._gid])
            os.setegid(self._gid)
            os.seteuid(self._uid)

    def __exit__(self, *_error: object) -> None:
        if self._is_other:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(self._groups)


class Jvm:
    """One JVM, and what was found out about it."""

    def __init__(self, pid: int, proc: str) -> None:
        self.pid = pid
        self._folder = "%s/%d" % (proc, pid)
        self.heap = Heap(0, 0)
        self.looked_at = -1e9
        self.busy_at = time.monotonic()
        """When it was last seen to be busy."""
        self.done_at = -1e9
        """When its garbage was last returned."""
        self.left_bytes = 0
        """What of its heap was committed after that."""
        self.is_mute = False
        """It does not answer, or does not let itself be asked."""
        self._cpu = (self._ticks(), time.monotonic())

    def note_cpu(self, busy_share: float) -> None:
        """Looks how busy it is, and remembers when it was."""
        ticks, now = self._ticks(), time.monotonic()
        before, since = self._cpu
        if now - since < 1.0:
            return
        if (ticks - before) / _TICKS / (now - since) > busy_share:
            self.busy_at = now
        self._cpu = (ticks, now)

    def forget_cpu(self) -> None:
        """What it did for us does not count as busy."""
        self._cpu = (self._ticks(), time.monotonic())

    def resident_bytes(self) -> int:
        """What of it is resident and its own; 0 when it is gone. ZGC's heap is shared memory, and mapped up to three times."""
        lines = self._text("status").splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith((b"RssAnon:", b"RssShmem:")))

    def socket_path(self) -> Optional[str]:
        """Where it listens, seen from here, also when it lives in a container; None while it does not. Raises OSError."""
        path, owner = "%s/root/tmp/.java_pid%d" % (self._folder, self._inner_pid()), os.stat(self._folder)
        with AsOwner(owner.st_uid, owner.st_gid):
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                return None
        if found.st_uid != owner.st_uid or not stat.S_ISSOCK(found.st_mode):
            raise OSError("what is there is no socket of its own")
        return path

    def connect(self, one: socket.socket, path: str) -> None:
        """Connects to where it listens. Raises OSError."""
        owner = os.stat(self._folder)
        with AsOwner(owner.st_uid, owner.st_gid):
            one.connect(path)

    def remove(self, path: str) -> None:
        """Removes a file that asked for its socket. Raises OSError."""
        owner = os.stat(self._folder)
        with AsOwner(owner.st_uid, owner.st_gid):
            os.unlink(path)

    def summon(self) -> str:
        """Has it open its socket. Gives the file that asks for it, to be removed. Raises OSError."""
        path = "%s/root/tmp/.attach_pid%d" % (self._folder, self._inner_pid())
        owner = os.stat(self._folder)
        with AsOwner(owner.st_uid, owner.st_gid):  # it heeds only a file of its own user
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        try:
            self._signal()
        except OSError:
            self.remove(path)
            raise
        return path

    def _signal(self) -> None:
        """SIGQUIT, to this very process: its number may be another's since it was looked at. Raises OSError."""
        try:
            process = os.pidfd_open(self.pid)
        except AttributeError:  # Python before 3.9
            process = -1
        try:
            if not is_jvm(str(self.pid), os.path.dirname(self._folder)):
                raise OSError("it is a JVM no more")
            if process < 0:
                os.kill(self.pid, signal.SIGQUIT)
            else:
                signal.pidfd_send_signal(process, signal.SIGQUIT)
        finally:
            if process >= 0:
                os.close(process)

    def _inner_pid(self) -> int:
        for line in self._text("status").splitlines():
            if line.startswith(b"NSpid:"):
                return int(line.split()[-1])
        return self.pid

    def _ticks(self) -> int:
        words = self._text("stat").rpartition(b")")[2].split()
        return int(words[11]) + int(words[12]) if len(words) > 12 else 0

    def _text(self, name: str) -> bytes:
        try:
            with open("%s/%s" % (self._folder, name), "rb") as file:
                return file.read()
        except OSError:
            return b""


def is_jvm(pid: str, proc: str = "/proc") -> bool:
    """Whether a process runs a HotSpot JVM and has for long enough: SIGQUIT would kill one that has just begun."""
    try:
        if os.path.basename(os.readlink("%s/%s/exe" % (proc, pid))) not in ("java", "jsvc"):
            return False
        # Its thread for signals is there when it has a performance file or more than ten threads.
        return len(os.listdir("%s/%s/task" % (proc, pid))) > 10
    except OSError:
        return False
