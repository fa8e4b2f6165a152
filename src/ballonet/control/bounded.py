"""Connections of the control API, bounded before anybody has named a token: who does not ask makes room for who does.

Each costs a descriptor, and the loop needs descriptors: with idle connections alone anybody on the host could blind it.
"""

import asyncio
import logging
import pwd
import socket
import struct
import time
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS: Final = 32
"""At one door at a time. The one that has been idle for longest makes room for the next."""
ASK_S: Final = 5.0
"""How long a connection may take to send a whole request's head (the remedy against slow senders: CAPEC-469)."""
AGAIN_S: Final = 60.0
"""How often the same line about requests that are none is told."""
MOST_TEXTS: Final = 100
"""How many are remembered: some have an address in them, and are new each time."""


class BoundedProtocol(H11Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Lets it in, in place of another if need be."""
        self.idle_since = time.monotonic()
        self.app_state = self.app_state | {"who": _who(transport)}
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            idle = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.is_idle and one is not self]
            (min(idle, key=lambda one: one.idle_since) if idle else self).end()
        self._timer = self.loop.call_later(ASK_S, self._end_if_mute)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Answered: from here on it is idle again."""
        self.idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered on it."""
        return self.cycle is None or self.cycle.response_complete

    def _end_if_mute(self) -> None:
        has_asked: bool = self.cycle is not None
        if not has_asked:
            self.end()

    def end(self) -> None:
        """Closes it, whatever is left of it."""
        self.connections.discard(self)  # at once: the next one may come before this one is gone
        self.transport.abort()


def _who(transport: asyncio.Transport) -> str:
    """The user at the other end (SO_PEERCRED, unix(7)), by name where it has one; over TCP nobody knows more than the token."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return "token"
    _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class Seldom(logging.Filter):
    """Passes the same message once in a while, with how often it came in between: anybody can cause these."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is told."""
        now, text = time.monotonic(), str(record.msg)
        at, missed = self._told.get(text, (-AGAIN_S, 0))
        if now - at < AGAIN_S:
            self._told[text] = at, missed + 1
            return False
        if len(self._told) >= MOST_TEXTS:
            self._told.clear()
        self._told[text] = now, 0
        if missed:
            record.times_since_last = missed
        return True
