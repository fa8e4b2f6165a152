"""The garbage of idle JVMs goes back to the system, when they may be asked for it; one conversation at a time, never waiting.

Place in the loop: besides the agent's reports, never before them. A JVM may take seconds to answer, so all of this goes on in
small steps while the agent does other things.
"""

import os
import select
import socket
import time
from typing import Any, Dict, Generator, List, Optional, Set, Tuple

from ballonet.guest.jvm import MOST_BYTES, Jvm, heap, is_jvm
from ballonet.guest.settings import Settings

SCAN_S = 5.0
"""Between two searches for JVMs."""
LOOK_S = 30.0
"""Between two questions for the size of a heap."""
ANSWER_S = 20.0
"""A JVM that has not answered by then is left alone for good: a full collection of a large heap takes seconds."""
MOST_RUNS = 4
"""GC.run in a row, while each returns something: what the serial collector needs."""
SETTLE_S = 1.0
"""G1 gives memory back in small steps after a collection, most of it within this time."""
RATIOS = (("MinHeapFreeRatio", "5"), ("MaxHeapFreeRatio", "10"))
"""Of the heap, free after a collection, while garbage is being returned: manageable flags, put back after."""
MOST_ANSWER_BYTES = 16 << 10

Asked = Generator[Tuple[str, ...], bytes, None]
"""A conversation: yields words for the JVM, or ("wait", seconds); is sent the answers."""


class Care:
    """Looks after the JVMs of this guest, one conversation at a time, without ever waiting."""

    def __init__(self, settings: Settings, poll: Any, proc: str = "/proc") -> None:
        """Args:
        settings: of the guest's administrator.
        poll: where to register the socket of a conversation.
        proc: where processes are found.
        """
        self._settings = settings
        self._poll = poll
        self._proc = proc
        self._scan_at = 0.0
        self.jvms: Dict[int, Jvm] = {}
        self._jvm: Optional[Jvm] = None
        self._asked: Optional[Asked] = None
        self._words: Tuple[str, ...] = ()
        self._until = 0.0
        self._socket: Optional[socket.socket] = None
        self._summons = ""
        self._answer = b""
        self._wanted: Set[int] = set()
        """JVMs that are to return garbage because the host asked."""

    # What the agent asks

    @property
    def is_busy(self) -> bool:
        """Whether a conversation goes on, or one is due."""
        return self._asked is not None or bool(self._wanted)

    def report(self) -> Dict[str, int]:
        """Heaps, committed, used, and committed but not resident: garbage collectors will walk that too."""
        known = [jvm for jvm in self.jvms.values() if jvm.heap.committed]
        if not known:
            return {}
        return {
            "heap_committed_bytes": min(MOST_BYTES, sum(jvm.heap.committed for jvm in known)),
            "heap_used_bytes": min(MOST_BYTES, sum(jvm.heap.used for jvm in known)),
            "heap_missing_bytes": min(MOST_BYTES, sum(max(0, jvm.heap.committed - jvm.resident_bytes()) for jvm in known)),
        }

    def make_ready(self) -> None:
        """The host wants memory: those that may are asked now."""
        now = time.monotonic()
        self._wanted = {jvm.pid for jvm in self.jvms.values() if self._may(jvm, now)}

    def step(self, now: float) -> None:
        """Goes on with what is under way; looks for something to do. Never waits, never raises: whatever a process of this guest says
        or does, the host hears how its memory is.
        """
        if not self._settings.jvm:
            return
        try:
            self._step(now)
        except Exception:
            self._fail()

    def _step(self, now: float) -> None:
        if now >= self._scan_at:
            self._scan_at = now + SCAN_S
            self._scan()
        for jvm in self.jvms.values():
            jvm.note_cpu(self._settings.jvm_busy_share)
        if self._asked is None:
            self._begin(now)
        elif self._socket is None:
            self._wait(now)
        elif now > self._until:
            self._fail()

    def hear(self, fd: int) -> bool:
        """Whether `fd` is the conversation's; then what came is taken."""
        if self._socket is None or fd != self._socket.fileno():
            return False
        try:
            data = self._socket.recv(65536)
        except OSError:
            data = b""
        self._answer += data
        try:
            if not data:
                self._hang_up()
                self._go_on(self._answer)
            elif len(self._answer) > MOST_ANSWER_BYTES:
                self._fail()
        except Exception:  # as in step
            self._fail()
        return True

    # Which JVM, and when

    def _scan(self) -> None:
        try:
            names = os.listdir(self._proc)
        except OSError:
            return
        found = {int(pid) for pid in names if pid.isdigit() and is_jvm(pid, self._proc)}
        for gone in set(self.jvms) - found:
            del self.jvms[gone]
        for pid in found - set(self.jvms):
            self.jvms[pid] = Jvm(pid, self._proc)

    def _may(self, jvm: Jvm, now: float) -> bool:
        return (
            not jvm.is_mute
            and now - jvm.busy_at >= self._settings.jvm_idle_s
            and now - jvm.done_at >= self._settings.jvm_every_s
            and jvm.heap.committed - jvm.left_bytes >= self._settings.jvm_least_bytes
        )

    def _begin(self, now: float) -> None:
        self._wanted &= set(self.jvms)
        for jvm in self.jvms.values():
            if jvm.is_mute or self._asked is not None:
                continue
            if jvm.pid in self._wanted or self._may(jvm, now):
                self._wanted.discard(jvm.pid)
                self._talk(jvm, self._return_garbage(jvm))
            elif now - jvm.looked_at >= LOOK_S:
                self._talk(jvm, self._look(jvm))

    def _look(self, jvm: Jvm) -> Asked:
        is_new = not jvm.heap.committed
        jvm.looked_at = time.monotonic()
        jvm.heap = heap((yield ("jcmd", "GC.heap_info"))) or jvm.heap
        interval = (yield ("printflag", "G1PeriodicGCInterval")) if is_new else b""
        if interval.strip().endswith(b"=0"):  # JDK 12 and later: an idle G1 then collects, and returns, by itself
            yield ("setflag", "G1PeriodicGCInterval", "%d" % (1000 * self._settings.jvm_every_s))

    def _return_garbage(self, jvm: Jvm) -> Asked:
        jvm.done_at = time.monotonic()
        old = []
        for flag, value in RATIOS:
            was = (yield ("printflag", flag)).strip().rpartition(b"=")[2].decode("ascii", "replace")
            if was.isdigit():
                old.append((flag, was))
        for flag, value in RATIOS:
            yield ("setflag", flag, value)
        before = jvm.resident_bytes()
        is_serial = b"tenured generation" in (yield ("jcmd", "GC.heap_info"))
        for run in range(MOST_RUNS):
            yield ("jcmd", "GC.run")
            yield ("wait", str(SETTLE_S))
            now = jvm.resident_bytes()
            if run and before - now < (1 << 20) and not is_serial:
                break
            before = now
        for flag, was in reversed(old):
            yield ("setflag", flag, was)
        jvm.heap = heap((yield ("jcmd", "GC.heap_info"))) or jvm.heap
        jvm.looked_at = time.monotonic()
        jvm.left_bytes = jvm.heap.committed
        jvm.forget_cpu()

    # How to talk

    def _talk(self, jvm: Jvm, asked: Asked) -> None:
        self._jvm, self._asked = jvm, asked
        self._go_on(None)

    def _go_on(self, answer: Optional[bytes]) -> None:
        if self._asked is None:
            return
        try:
            # The first line of an answer is a number: 0 when all is well.
            self._words = next(self._asked) if answer is None else self._asked.send(answer.partition(b"\n")[2])
        except StopIteration:
            self._asked = self._jvm = None
            return
        now = time.monotonic()
        if self._words[0] == "wait":
            self._until = now + float(self._words[1])
        else:
            self._until = now + ANSWER_S
            self._wait(now)

    def _wait(self, now: float) -> None:
        """Until a pause is over, or a socket there."""
        if self._jvm is None:
            return
        if self._words[0] == "wait":
            if now >= self._until:
                self._go_on(b"")
            return
        try:
            path = self._jvm.socket_path()
            if path is not None:
                self._call(path)
            elif not self._summons:
                self._summons = self._jvm.summon()
            elif now > self._until:
                self._fail()
        except OSError:
            self._fail()

    def _call(self, path: str) -> None:
        assert self._jvm is not None
        self._remove_summons()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._jvm.connect(self._socket, path)
        words: List[str] = [*self._words, "", "", ""][:4]
        self._socket.sendall(b"1\0" + b"".join(word.encode() + b"\0" for word in words))
        self._answer = b""
        self._poll.register(self._socket, select.POLLIN)

    def _hang_up(self) -> None:
        if self._socket is not None:
            try:
                self._poll.unregister(self._socket)
            except (KeyError, OSError):
                pass
            self._socket.close()
            self._socket = None

    def _remove_summons(self) -> None:
        if self._summons and self._jvm is not None:
            try:
                self._jvm.remove(self._summons)
            except OSError:
                pass
        self._summons = ""

    def _fail(self) -> None:
        """One that does not answer is not asked again: it may be hung, or not let us."""
        self._hang_up()
        self._remove_summons()
        if self._jvm is not None:
            self._jvm.is_mute = True
        self._asked = self._jvm = None
