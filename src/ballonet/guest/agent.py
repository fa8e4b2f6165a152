#!/usr/bin/env python3
"""ballonet-agent: a guest's voice. Tells the host over a virtio-serial port how the guest's memory is, and at once when it
runs out.

Place in the loop: inside the guest, before `sense`. The host end is hypervisors/local/agent.py; docs/reference/agent.md has the
messages. One file (`make agent`), Python 3.9 or later, Linux 4.20 or later for pressure (PSI); runs as root, or as a user that may open the
port.

What it does:
- a report each second, and at once when MemAvailable falls under the line that the host has set;
- MemAvailable is looked at as often as it could reach that line in between, at most 100 times a second;
- PSI triggers (some and full) wake it in the kernel's own time: Documentation/accounting/psi.rst.

- when the host asks, it makes memory free (ready.py); and it returns the garbage of idle JVMs (care.py).

A guest in trouble can hardly run anything. So everything is opened and allocated before, the process is locked into memory,
exempt from the OOM killer, and what cannot be sent at once is dropped: a newer report follows.
"""

import argparse
import os
import select
import sys
import time
from typing import Any, Dict

from ballonet.guest.care import Care
from ballonet.guest.kernel import TRIGGERS, Memory, arm, find_port, harden
from ballonet.guest.ready import Ready
from ballonet.guest.settings import PATH, Settings, SettingsError, read
from ballonet.guest.words import commanded, encoded

VERSION = 1
PORT = "org.ballonet.agent.0"
REPORT_S = 1.0
CLOSEST_S = 0.01
"""Between two looks, while the line is near."""
FASTEST_SHARE_PER_S = 0.12
"""Of MemTotal: how fast a guest that looks idle may begin to take memory. 1.8 GiB/s of 16 GiB were seen (HyperAlloc,
EuroSys'25)."""
LOOKS_BEFORE_LINE = 4
BUSY_S = 0.02
"""Between two small steps of making ready; those of a talk with a JVM may wait ten times as long."""
ANSWERS = ("report", "ready")
"""Messages that are never left out for having been sent a moment ago."""
RISE_S = 0.1
"""Over which a rise is measured: programs take memory in bursts, and one of 20 ms says nothing of the next second."""
QUIET_S = 0.1
"""Between two messages for one reason: the host has heard it."""
TOLD_EVERY_S = 3600.0
"""What lasts is told so often."""
MOST_COMMAND_BYTES = 4096


class Agent:
    """Reads the kernel, listens to the host, and speaks."""

    def __init__(self, port: int, memory: Memory, settings: Settings, proc: str = "/proc") -> None:
        """Args:
        port: the virtio-serial port's file descriptor, non-blocking.
        memory: where the numbers come from.
        settings: what the guest's administrator lets it do.
        proc: where /proc/pressure is found.
        """
        self._port = port
        self._memory = memory
        self._line_bytes = 0
        """The host's: below this it wants to know at once."""
        self._was_below = False
        memory.report()  # all that will be read has been, before memory is short
        self._looks = [(memory.used_bytes(), time.monotonic())]
        """What was used, and when, over the last RISE_S and one look more."""
        self.is_running = True
        """Until the caller clears it; looked at each second."""
        self._sequence = 0
        self._unread = b""
        self._said_at: Dict[str, float] = {}
        self._poll = select.poll()
        self._poll.register(port, select.POLLIN)
        self._triggers = dict(arm(name, words, proc) for name, words in TRIGGERS)
        for fd in self._triggers:
            if fd >= 0:
                self._poll.register(fd, select.POLLPRI)
        self._care = Care(settings, self._poll, proc)
        self._ready = Ready(memory, self._care, settings)

    def run(self) -> None:
        """As long as `is_running`."""
        self.say("hello")
        report_at = time.monotonic() + REPORT_S
        look_s = REPORT_S
        while self.is_running:
            now = time.monotonic()
            work_s = BUSY_S if self._ready.is_busy else 10 * BUSY_S if self._care.is_busy else REPORT_S
            events = self._poll.poll(max(0.0, min(look_s, report_at - now, work_s)) * 1000)
            for fd, event in events:
                if fd == self._port:
                    self._hear(event)
                elif event & select.POLLPRI:
                    self.say(self._triggers[fd])
                else:
                    self._care.hear(fd)
            look_s = self._look()
            if time.monotonic() >= report_at:
                self.say("report")
                report_at = max(report_at + REPORT_S, time.monotonic())
            self._work(time.monotonic())

    def _work(self, now: float) -> None:
        """What can wait: done after the reports, in small steps."""
        self._care.step(now)
        if self._ready.is_busy:
            done = self._ready.step(now)
            if done is not None:
                self.say("ready", **done)

    def _look(self) -> float:
        """Speaks when memory falls under the line. Gives when to look again, in seconds."""
        available = self._memory.available_bytes()
        self._rising_per_s(self._memory.total_bytes() - available)
        is_below = available < self._line_bytes
        if not is_below or not self._was_below:
            self._was_below = is_below and self.say("low")
        if not self._line_bytes:
            return REPORT_S
        if is_below and self._was_below:
            return QUIET_S  # the host knows; a new line of its own wakes us
        speed = max(1.0, FASTEST_SHARE_PER_S * self._memory.total_bytes())
        return min(REPORT_S, max(CLOSEST_S, (available - self._line_bytes) / speed / LOOKS_BEFORE_LINE))

    def _rising_per_s(self, used: int) -> int:
        """How fast what is used rose up to now. Not what is available: a growing balloon takes of that too, and is no rise."""
        now = time.monotonic()
        while len(self._looks) > 1 and now - self._looks[1][1] >= RISE_S:
            del self._looks[0]
        before, at = self._looks[0]
        self._looks.append((used, now))
        return int(max(0, used - before) / max(RISE_S, now - at))

    def say(self, why: str, **more: int) -> bool:
        """One message, now or never: a full port means that nobody listens, and a newer report follows. False when the same
        was said a moment ago.
        """
        now = time.monotonic()
        if why not in ANSWERS and now - self._said_at.get(why, -1e9) < QUIET_S:
            return False
        self._said_at[why] = now
        self._sequence += 1
        message: Dict[str, Any] = {"agent": VERSION, "sequence": self._sequence, "why": why}
        message.update(self._memory.report())
        message["rising_per_s"] = self._rising_per_s(self._memory.used_bytes())
        message.update(self._care.report())
        message.update(more)
        try:
            os.write(self._port, encoded(message))
        except OSError:
            pass  # full, or the host end is closed
        return True

    def _hear(self, event: int) -> None:
        """Commands of the host (words.py), one a line."""
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
        name, number = commanded(line) or ("", 0)
        if name == "line_bytes":
            self._line_bytes, self._was_below = number, False
        elif name == "ready_bytes":
            self._ready.begin(number, time.monotonic())


def awaited_port() -> str:
    """Its path, once there is one. Said at once, and each hour as long as it lasts."""
    told_at = -TOLD_EVERY_S
    while True:
        path = find_port(PORT)
        if path is not None:
            return path
        if time.monotonic() - told_at >= TOLD_EVERY_S:
            told_at = time.monotonic()
            print("no virtio-serial port named %s yet; add one to this VM" % PORT, file=sys.stderr, flush=True)
        time.sleep(10)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description="Tells the host how this guest's memory is.")
    parser.add_argument("--port", help="device of the port; default: the virtio-serial port named %s" % PORT)
    parser.add_argument("--config", default=PATH, help="settings, one `name = value` a line; default: %s" % PATH)
    parser.add_argument("--once", action="store_true", help="print one report as JSON and end")
    options = parser.parse_args()
    memory = Memory()
    if options.once:
        sys.stdout.write(encoded(memory.report()).decode())
        return 0
    try:
        settings = read(options.config)
    except SettingsError as error:
        print("ballonet-agent: %s" % error, file=sys.stderr)
        return 2
    path = options.port or awaited_port()
    port = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    agent = Agent(port, memory, settings)
    for trouble in harden():
        print("ballonet-agent goes on without %s" % trouble, file=sys.stderr, flush=True)
    agent.run()
    return 0
