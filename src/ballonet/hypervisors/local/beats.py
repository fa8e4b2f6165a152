"""When to look at each guest: on beats that all guests of one pace share, so that the process wakes once for all of them.

A beat has two halves. In the first one drivers are asked to say their statistics anew, where that is worth it; in the second one,
when they have had a moment to answer, what they said is read. Nothing here waits for a guest: a look only writes to it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from ballonet.hypervisors.told import Told

log = logging.getLogger(__name__)

ANSWER_S: Final = 0.15
"""How long a guest is given to answer a request for statistics before they are read; one that takes longer is read on the next
beat. An idle guest under TCG answers within 60 ms."""


class Looked(Protocol):
    """One that is looked at."""

    def ask(self) -> bool:
        """Has its driver say its statistics anew; False where nobody is to be waited for."""
        ...

    def read(self) -> None:
        """Reads what there is. What comes back comes later."""
        ...


class Beats:
    """Of one adapter."""

    def __init__(self) -> None:
        self._members: dict[float, dict[Looked, None]] = {}
        self._pace_of: dict[Looked, float] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}
        self._soon: set[Looked] = set()
        """Those that are about to be looked at besides."""
        self._failed = Told(log)

    def join(self, one: Looked, pace_s: float) -> None:
        """Looks at it each `pace_s` from now on. A closer look begins at once."""
        old_s = self._pace_of.get(one)
        if old_s == pace_s:
            return
        self.leave(one)
        self._pace_of[one] = pace_s
        self._members.setdefault(pace_s, {})[one] = None
        if pace_s not in self._timers:
            self._set(pace_s)
        if old_s is None or pace_s < old_s:
            self.soon(one)

    def leave(self, one: Looked) -> None:
        """Looks at it no more."""
        pace_s = self._pace_of.pop(one, None)
        if pace_s is None:
            return
        del self._members[pace_s][one]
        if not self._members[pace_s]:
            del self._members[pace_s]
            self._timers.pop(pace_s).cancel()

    def soon(self, one: Looked) -> None:
        """Looks at it now, besides."""
        if one in self._pace_of and one not in self._soon:
            self._soon.add(one)
            asyncio.get_running_loop().call_soon(self._look_besides, one)

    def _look_besides(self, one: Looked) -> None:
        self._soon.discard(one)
        if (pace_s := self._pace_of.get(one)) is not None:
            self._look((one,), pace_s)

    def _set(self, pace_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._timers[pace_s] = loop.call_at((loop.time() // pace_s + 1) * pace_s, self._beat, pace_s)

    def _beat(self, pace_s: float) -> None:
        self._set(pace_s)
        self._look(tuple(self._members[pace_s]), pace_s)

    def _look(self, those: tuple[Looked, ...], pace_s: float) -> None:
        waiting = []
        for one in those:
            if self._done(one, one.ask):
                waiting.append(one)
            else:
                self._done(one, one.read)
        if waiting:
            asyncio.get_running_loop().call_later(min(ANSWER_S, pace_s / 3), self._read, tuple(waiting))

    def _read(self, those: tuple[Looked, ...]) -> None:
        for one in those:
            if one in self._pace_of:
                self._done(one, one.read)

    def _done(self, one: Looked, what: Callable[[], bool | None]) -> bool:
        """Whatever one guest's hypervisor says, the others are looked at."""
        try:
            return bool(what())
        except Exception as error:  # noqa: BLE001 told, once an hour
            self._failed.failed(f"a look at {one} failed", error)
            return False
