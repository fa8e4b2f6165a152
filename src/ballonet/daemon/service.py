"""Telling systemd how the daemon is: sd_notify(3), a datagram to a socket that it names. Without systemd, nothing.

Ten lines of our own: the libraries for it are unmaintained or compile against libsystemd, and the protocol is one string.
"""

import contextlib
import os
import socket
import time
from typing import Final

BEAT_S: Final = 1.0
"""The watchdog is fed no more often than this; its time in the unit is many times as long."""


class Service:
    """systemd's end; only the loop feeds the watchdog, so one that stands still is started anew."""

    def __init__(self) -> None:
        path = os.environ.get("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._fed_at = 0.0

    def ready(self, text: str) -> None:
        """The daemon is up."""
        self._say(f"READY=1\nSTATUS={text}")

    def stopping(self) -> None:
        """It is about to end."""
        self._say("STOPPING=1")

    def beat(self, text: str) -> None:
        """The loop has turned."""
        if time.monotonic() - self._fed_at >= BEAT_S:
            self._fed_at = time.monotonic()
            self._say(f"WATCHDOG=1\nSTATUS={text}")

    def _say(self, message: str) -> None:
        if self._path:
            # A systemd that does not listen is no reason to stop ballooning.
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(), self._path)
