"""Carries out a plan where the hypervisor has a loop of its own: turns its knobs, as seldom as pays."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec.structs import replace

from ballonet.decide import bounds, entitlement
from ballonet.hypervisors.contract import Capabilities, Guided, HypervisorError, Steering
from ballonet.model.knobs import Entitlement, Knobs
from ballonet.model.plan import Plan, Reason
from ballonet.model.snapshot import Snapshot
from ballonet.model.tick import Outcome

log = logging.getLogger(__name__)

DEADLINE_S: Final = 30.0
LIMIT_PAUSE_S: Final = 600.0
"""After a limit was taken back, until there is another."""
_URGENT: Final = frozenset({Reason.DISTRESS, Reason.FEEDBACK})


class Pace(NamedTuple):
    """Between two changes of one guest, in seconds: as a rule, and while it pages."""

    rule_s: float
    urgent_s: float


PACES: Final = {
    Steering.ENTITLEMENT: Pace(20.0, 15.0),  # ESXi publishes each 20 s what it sampled, and its loop balances each 15 s
    Steering.BOUNDS: Pace(10.0, 2.0),  # Hyper-V's loop looks each second
}


def _is_release(old: Knobs, wish: Knobs) -> bool:
    """Whether it takes a limit back: that waits for nothing."""
    if not isinstance(old, Entitlement) or not isinstance(wish, Entitlement):
        return False
    return old.limit_bytes is not None and wish.limit_bytes is None


class Guide:
    """Turns knobs, one guest at a time, in the background."""

    def __init__(self, guided: Guided, can: Capabilities, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        guided: the hypervisor.
        can: what it can do.
        clock: seconds, rising only.
        """
        self._guided, self._can = guided, can
        self._clock = clock
        self._sent_at: dict[str, float] = {}
        self._freed_at: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._sent: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def apply(self, plan: Plan, snapshot: Snapshot) -> Outcome:
        """Sends what is due; returns at once, with what became of the last round."""
        outcome = Outcome(begun=tuple(self._sent), sent=tuple(self._sent), failed=dict(self._failed))
        self._sent, self._failed = [], {}
        if self._task is not None and not self._task.done():
            return replace(outcome, under_way=("knobs",))
        if due := self._due(plan, snapshot):
            self._task = asyncio.create_task(self._send(due))
            await asyncio.sleep(0)
        return outcome

    def _due(self, plan: Plan, snapshot: Snapshot) -> list[tuple[str, Knobs]]:
        now, pace, knobs = self._clock(), PACES[self._can.steering], self._guided.knobs()
        reasons = {one.name: one.reason for one in plan.guests}
        due = []
        for name, wish in self._changes(plan, snapshot, knobs):
            wait_s = pace.urgent_s if reasons[name] in _URGENT else pace.rule_s
            if _is_release(knobs[name], wish):
                self._freed_at[name], wait_s = now, 0.0
            if now - self._sent_at.get(name, -math.inf) >= wait_s:
                due.append((name, wish))
        return due

    def _changes(self, plan: Plan, snapshot: Snapshot, knobs: dict[str, Knobs]) -> list[tuple[str, Knobs]]:
        originals = self._guided.originals()
        if self._can.steering is Steering.BOUNDS:
            return [*bounds.changes(plan, snapshot, knobs, originals)]
        now = self._clock()
        may_limit = {name for name in knobs if now - self._freed_at.get(name, -math.inf) >= LIMIT_PAUSE_S}
        return [*entitlement.changes(plan, snapshot, knobs, originals, may_limit=may_limit if self._can.may_limit else ())]

    async def _send(self, due: list[tuple[str, Knobs]]) -> None:
        for name, wish in due:
            self._sent_at[name] = self._clock()
            try:
                await self._guided.turn(name, wish, DEADLINE_S)
            except HypervisorError as error:
                self._failed[name] = str(error)
                log.warning("command failed", extra={"guest": name, "trouble": str(error)})
            except Exception as error:  # one guest's trouble is not the others'
                self._failed[name] = f"{type(error).__name__}: {error}"
                log.exception("command failed", extra={"guest": name})
            else:
                self._sent.append(name)

    async def close(self) -> None:
        """Gives up on what is under way: it takes effect or not."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def missed(self, _snapshot: Snapshot) -> dict[str, int]:
        """Nothing: no guest is sent to a size of ours."""
        return {}
