"""The loop: sense, decide, act; each second, and at once on news."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from ballonet.act.hands import Hands
from ballonet.decide.step import START, step
from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.told import Told
from ballonet.model.limits import Limits
from ballonet.model.tick import Tick
from ballonet.sense.errors import SenseError
from ballonet.sense.observer import Observer

log = logging.getLogger(__name__)

LEAST_S = 0.02
"""Between two ticks, however much news there is; at least as long as the last one looked and thought: half a core is enough."""


SHORT_S = 0.1
"""The same while not everything fits: what one guest lacks must be taken from another first, and it says so all the time."""


class Loop:
    """Runs until it is cancelled; guests stay as they are then."""

    def __init__(
        self,
        eye: Observer,
        hypervisor: Hypervisor,
        limits: Limits,
        *,
        policy: str = "adaptive",
        on_tick: Callable[[Tick], None] = lambda _tick: None,
        clock: Callable[[], float] = time.monotonic,
        is_tended: bool = False,
        root: Path = Path("/"),
    ) -> None:
        """Args:
        eye: takes the pictures.
        hypervisor: opened already.
        limits: of every decision.
        policy: a name of `decide.policies`.
        on_tick: told of every tick, in the loop itself: be quick.
        clock: seconds, rising only.
        is_tended: a tick that fails is told, and the next one is due all the same; else it ends the loop, as tests want it.
        root: where /proc and /sys of the host are found.
        """
        self._is_tended = is_tended
        self._eye = eye
        self._news = hypervisor.news
        self._hands = Hands(hypervisor, root)
        self._limits = limits
        self._policy = policy
        self._on_tick = on_tick
        self._clock = clock
        self._state = START
        self._trouble, self._blind = Told(log), Told(log)
        self._busy_s = 0.0
        """How long the last tick looked and thought; waiting for a guest is no work."""
        self._is_short = False
        """Whether not everything fitted then."""

    def change(self, limits: Limits, policy: str) -> None:
        """From the next tick on. What is known of the guests stays known."""
        self._limits, self._policy = limits, policy
        self._news.set()

    async def run(self) -> None:
        """Ticks for ever."""
        try:
            now = asyncio.get_running_loop().time
            while True:
                begin = now()
                due = begin + await (self._tended_tick() if self._is_tended else self.tick())
                await asyncio.sleep(max(SHORT_S if self._is_short else LEAST_S, self._busy_s))
                # Not wait_for: until Python 3.12 it forgets a cancellation that meets the event (gh-86296).
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, due - now())):
                        await self._news.wait()
        finally:
            await self._hands.close()

    async def _tended_tick(self) -> float:
        """One turn; whatever fails in it is told, and the next one is due all the same."""
        try:
            next_s = await self.tick()
        except Exception as error:  # noqa: BLE001 guests need the next tick, whatever this one met
            self._trouble.failed("tick failed; guests stay as they are until one does not", error)
            return self._limits.interval_s
        self._trouble.well("ticks go on")
        return next_s

    async def tick(self) -> float:
        """One turn. Returns after how many seconds the next is due, if nothing happens before."""
        self._news.clear()
        at = self._clock()
        try:
            snapshot = self._eye.look()
        except SenseError as error:
            self._blind.failed("host cannot be read", error, has_trace=False)
            return self._limits.interval_s
        self._blind.well("host can be read again")
        self._state, plan = step(self._state, snapshot, self._limits, at, self._policy)
        self._busy_s, self._is_short = self._clock() - at, bool(plan.short)
        missed = self._hands.missed(snapshot)
        outcome = await self._hands.apply(plan, snapshot, self._limits)
        self._on_tick(Tick(at=at, snapshot=snapshot, plan=plan, outcome=outcome, missed=missed, took_s=self._clock() - at))
        return plan.next_s
