"""Carries out a plan where the hypervisor has a loop of its own: tells it who is entitled to how much, as seldom as pays.

Reservations that shrink go first: what they free, others may reserve.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from ballonet.decide.entitlement import entitlements, is_worth
from ballonet.hypervisors.contract import Entitling, HypervisorError
from ballonet.model.entitlement import Entitlement
from ballonet.model.plan import Plan, Reason
from ballonet.model.snapshot import Snapshot
from ballonet.model.tick import Outcome

log = logging.getLogger(__name__)

DEADLINE_S: Final = 30.0
EVERY_S: Final = 20.0
"""Between two changes of one guest: ESXi publishes what it sampled each 20 s. One that pages does not wait."""
PAGING_EVERY_S: Final = 15.0
"""Its loop balances each 15 s."""
_PAGING: Final = frozenset({Reason.DISTRESS, Reason.FEEDBACK})


class Entitler:
    """Sends entitlements, one at a time, in the background."""

    def __init__(self, hypervisor: Entitling, clock: Callable[[], float] = time.monotonic) -> None:
        self._hypervisor = hypervisor
        self._clock = clock
        self._sent_at: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._sent: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def apply(self, plan: Plan, snapshot: Snapshot) -> Outcome:
        """Sends what is due; returns at once, with what became of the last round."""
        outcome = Outcome(sent=tuple(self._sent), failed=dict(self._failed))
        self._sent, self._failed = [], {}
        if self._task is not None and not self._task.done():
            return replace(outcome, under_way=("entitlements",))
        if due := self._due(plan, snapshot):
            self._task = asyncio.create_task(self._send(due))
            await asyncio.sleep(0)
        return outcome

    def _due(self, plan: Plan, snapshot: Snapshot) -> list[tuple[str, Entitlement]]:
        now, known = self._clock(), self._hypervisor.entitlements()
        reasons = {one.name: one.reason for one in plan.guests}
        due = []
        for name, wish in entitlements(plan, snapshot).items():
            if (old := known.get(name)) is None:
                continue
            asked = replace(wish, limit_bytes=old.limit_bytes, level=old.level if wish.shares == old.shares else wish.level)
            wait_s = PAGING_EVERY_S if reasons[name] in _PAGING else EVERY_S
            if is_worth(old, asked) and now - self._sent_at.get(name, -math.inf) >= wait_s:
                due.append((asked.reservation_bytes - old.reservation_bytes, name, asked))
        return [(name, wish) for _, name, wish in sorted(due, key=lambda one: one[:2])]

    async def _send(self, due: list[tuple[str, Entitlement]]) -> None:
        for name, wish in due:
            self._sent_at[name] = self._clock()
            try:
                await self._hypervisor.entitle(name, wish, DEADLINE_S)
            except HypervisorError as error:
                self._failed[name] = str(error)
                log.warning("command failed", extra={"guest": name, "trouble": str(error)})
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
