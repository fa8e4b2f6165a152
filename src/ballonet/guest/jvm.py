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
import time
from typing import Optional

_TICKS = os.sysconf("SC_CLK_TCK")
_SIZES = (
    re.compile(rb"(?:committed|capacity|total) (\d+)([KMG]),? .*?used (\d+)([KMG])"),
    re.compile(rb"used (\d+)([KMG]), capacity (\d+)([KMG])"),
    re.compile(rb"(\d+)([KMG]) committed, (\d+)([KMG]) used"),
)
_UNITS = {b"K": 1 << 10, b"M": 1 << 20, b"G": 1 << 30}


class Heap:
    """What a JVM says of its heap, in bytes."""

    def __init__(self, committed: int, used: int) -> None:
        self.committed = committed
        self.used = used


def heap(text: bytes) -> Optional[Heap]:
    """Reads an answer to GC.heap_info; None where it is of a collector that nobody knows."""
    old = text.split(b"Metaspace")[0]
    found = [(_bytes(a, b), _bytes(c, d)) for a, b, c, d in _SIZES[0].findall(old)]
    if found:
        return Heap(sum(total for total, _ in found), sum(used for _, used in found))
    match = _SIZES[1].search(old)
    if match:
        return Heap(_bytes(match[3], match[4]), _bytes(match[1], match[2]))
    match = _SIZES[2].search(old)
    return Heap(_bytes(match[1], match[2]), _bytes(match[3], match[4])) if match else None


def _bytes(number: bytes, unit: bytes) -> int:
    return int(number) * _UNITS[unit]


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
        path = "%s/root/tmp/.java_pid%d" % (self._folder, self._inner_pid())
        if not os.path.exists(path):
            return None
        if os.lstat(path).st_uid != os.stat(self._folder).st_uid:
            raise OSError("somebody else listens in its place")
        return path

    def summon(self) -> str:
        """Has it open its socket. Gives the file that asks for it, to be removed. Raises OSError."""
        path = "%s/root/tmp/.attach_pid%d" % (self._folder, self._inner_pid())
        owner = os.stat(self._folder)
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        os.fchown(file, owner.st_uid, owner.st_gid)  # it heeds only a file of its own user
        os.close(file)
        os.kill(self.pid, signal.SIGQUIT)
        return path

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
