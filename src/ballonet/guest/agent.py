#!/usr/bin/env python3
"""ballonet-agent: a guest's voice. Tells the host over a virtio-serial port how the guest's memory is, and at once when it
runs out.

Place in the loop: inside the guest, before `sense`. The host end is hypervisors/agent.py; docs/reference/agent.md has the
messages. One file, Python 3.9 or later, Linux 4.20 or later for pressure (PSI); runs as root, or as a user that may open the
port.

What it does:
- a report each second, and at once when MemAvailable falls under the line that the host has set;
- MemAvailable is looked at as often as it could reach that line in between, 50 times a second at the most;
- PSI triggers (some and full) wake it in the kernel's own time: Documentation/accounting/psi.rst.

A guest in trouble can hardly run anything. So everything is opened and allocated before, the process is locked into memory,
exempt from the OOM killer, and what cannot be sent at once is dropped: a newer report follows. JSON is written and read by
hand: the small Python of a cloud image (python3-minimal) has no module for it.
"""

import argparse
import gc
import os
import select
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

VERSION = 1
PORT = "org.ballonet.agent.0"
REPORT_S = 1.0
CLOSEST_S = 0.02
"""Between two looks, while the line is near."""
FASTEST_SHARE_PER_S = 0.12
"""Of MemTotal: how fast a guest that looks idle may begin to take memory. 1.8 GiB/s of 16 GiB were seen (HyperAlloc,
EuroSys'25)."""
LOOKS_BEFORE_LINE = 2
QUIET_S = 0.1
"""Between two messages for one reason: the host has heard it."""
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
VMSTAT = (
    ("swap_in_bytes", b"\npswpin ", 4096),
    ("swap_out_bytes", b"\npswpout ", 4096),
    ("major_faults", b"\npgmajfault ", 1),
    ("oom_kills", b"\noom_kill ", 1),
)
STALLS = (b"\nallocstall_normal ", b"\nallocstall_movable ", b"\nallocstall_dma32 ")
MOST_COMMAND_BYTES = 4096


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
        start = self._buffer.find(label, 0, self._filled)
        if start < 0:
            return None
        words = bytes(self._buffer[start + len(label) : start + len(label) + 24]).split(None, 1)
        try:
            return int(words[0])
        except (IndexError, ValueError):
            return None

    def share(self, label: bytes) -> Optional[float]:
        """A percentage like `avg10=1.25` behind a label, as a share."""
        start = self._buffer.find(label, 0, self._filled)
        at = self._buffer.find(b"avg10=", start, self._filled) if start >= 0 else -1
        if at < 0:
            return None
        try:
            return float(bytes(self._buffer[at + 6 : at + 14]).split(None, 1)[0]) / 100
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

    def available_bytes(self) -> int:
        """MemAvailable now. Allocates next to nothing."""
        self._meminfo.read()
        return (self._meminfo.number(b"MemAvailable:") or 0) * 1024

    def total_bytes(self) -> int:
        """MemTotal of the last picture."""
        return (self._meminfo.number(b"MemTotal:") or 0) * 1024

    def report(self) -> Dict[str, Any]:
        """All numbers now; those that this kernel does not have are left out."""
        self._meminfo.read()
        self._vmstat.read()
        found: Dict[str, Any] = {}
        for name, label in MEMINFO:
            kib = self._meminfo.number(label)
            if kib is not None:
                found[name] = kib * 1024
        for name, label, unit in VMSTAT:
            count = self._vmstat.number(label)
            if count is not None:
                found[name] = count * unit
        stalls = [count for count in map(self._vmstat.number, STALLS) if count is not None]
        if stalls:
            found["alloc_stalls"] = sum(stalls)
        if self._pressure is not None:
            self._pressure.read()
            for name in ("some", "full"):
                share = self._pressure.share(name.encode())
                if share is not None:
                    found["psi_%s_share" % name] = share
        return found


class Agent:
    """Reads the kernel, listens to the host, and speaks."""

    def __init__(self, port: int, memory: Memory, proc: str = "/proc") -> None:
        """Args:
        port: the virtio-serial port's file descriptor, non-blocking.
        memory: where the numbers come from.
        proc: where /proc/pressure is found.
        """
        self._port = port
        self._memory = memory
        self._line_bytes = 0
        """The host's: below this it wants to know at once."""
        self._was_below = False
        self.is_running = True
        """Until somebody says otherwise; looked at each second."""
        self._sequence = 0
        self._unread = b""
        self._said_at: Dict[str, float] = {}
        self._poll = select.poll()
        self._poll.register(port, select.POLLIN)
        self._triggers = dict(_arm(name, words, proc) for name, words in TRIGGERS)
        for fd in self._triggers:
            if fd >= 0:
                self._poll.register(fd, select.POLLPRI)

    def run(self) -> None:
        """As long as `is_running`."""
        self.say("hello")
        report_at = time.monotonic() + REPORT_S
        look_s = REPORT_S
        while self.is_running:
            now = time.monotonic()
            events = self._poll.poll(max(0.0, min(look_s, report_at - now)) * 1000)
            for fd, event in events:
                if fd == self._port:
                    self._hear(event)
                elif event & select.POLLPRI:
                    self.say(self._triggers[fd])
            look_s = self._look()
            if time.monotonic() >= report_at:
                self.say("report")
                report_at = max(report_at + REPORT_S, time.monotonic())

    def _look(self) -> float:
        """Speaks when memory falls under the line. Gives when to look again, in seconds."""
        available = self._memory.available_bytes()
        is_below = available < self._line_bytes
        if not is_below or not self._was_below:
            self._was_below = is_below and self.say("low")
        if not self._line_bytes:
            return REPORT_S
        speed = max(1.0, FASTEST_SHARE_PER_S * self._memory.total_bytes())
        return min(REPORT_S, max(CLOSEST_S, (available - self._line_bytes) / speed / LOOKS_BEFORE_LINE))

    def say(self, why: str) -> bool:
        """One message, now or never: a full port means that nobody listens, and a newer report follows. False when the same
        was said a moment ago.
        """
        now = time.monotonic()
        if why != "report" and now - self._said_at.get(why, -1e9) < QUIET_S:
            return False
        self._said_at[why] = now
        self._sequence += 1
        message = {"agent": VERSION, "sequence": self._sequence, "why": why}
        message.update(self._memory.report())
        try:
            os.write(self._port, encoded(message))
        except OSError:
            pass  # full, or the host end is closed
        return True

    def _hear(self, event: int) -> None:
        """Commands of the host, one JSON object a line: {"line_bytes": N}."""
        try:
            data = os.read(self._port, MOST_COMMAND_BYTES) if event & select.POLLIN else b""
        except OSError:
            data = b""
        if not data:  # the host end is closed: poll would return at once, for as long as it is
            time.sleep(CLOSEST_S)
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._unread = self._unread[-MOST_COMMAND_BYTES:]
        for line in lines:
            self._obey(line)

    def _obey(self, line: bytes) -> None:
        wanted = commanded(line)
        if wanted is not None:
            self._line_bytes, self._was_below = wanted, False


def encoded(message: Dict[str, Any]) -> bytes:
    """A flat object of numbers and plain words as one line of JSON."""
    parts = ('"%s":%s' % (key, '"%s"' % value if isinstance(value, str) else value) for key, value in message.items())
    return ("{%s}\n" % ",".join(parts)).encode()


def commanded(line: bytes) -> Optional[int]:
    """The N of {"line_bytes":N}; None for anything else, as from a host that speaks another version."""
    words = line.strip()
    start, end = b'{"line_bytes":', b"}"
    if not (words.startswith(start) and words.endswith(end) and words[len(start) : -1].strip().isdigit()):
        return None
    return int(words[len(start) : -1])


def _arm(name: str, words: bytes, proc: str) -> Tuple[int, str]:
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

        current_and_future = 3  # MCL_CURRENT | MCL_FUTURE (sys/mman.h)
        if ctypes.CDLL(None, use_errno=True).mlockall(current_and_future):
            failed.append("locking its memory: %s" % os.strerror(ctypes.get_errno()))
    except ImportError:
        failed.append("locking its memory: this Python has no ctypes; install python3")
    return failed


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description="Tells the host how this guest's memory is.")
    parser.add_argument("--port", help="device of the port; default: the virtio-serial port named %s" % PORT)
    parser.add_argument("--once", action="store_true", help="print one report as JSON and end")
    options = parser.parse_args()
    memory = Memory()
    if options.once:
        sys.stdout.write(encoded(memory.report()).decode())
        return 0
    path = options.port or find_port(PORT)
    while path is None:
        print("no virtio-serial port named %s yet; add one to this VM" % PORT, file=sys.stderr, flush=True)
        time.sleep(10)
        path = find_port(PORT)
    port = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    agent = Agent(port, memory)
    for trouble in harden():
        print("ballonet-agent goes on without %s" % trouble, file=sys.stderr, flush=True)
    agent.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
