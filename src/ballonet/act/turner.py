"""Carries out what a plan asks of a hypervisor's own loop: one guest at a time, in the background, who gives first."""

import asyncio
import logging

from msgspec.structs import replace

from ballonet.hypervisors.contract import Guided, HypervisorError
from ballonet.model.knobs import Knobs, more
from ballonet.model.plan import Keep, Plan
from ballonet.model.snapshot import Mode, Snapshot
from ballonet.model.tick import Outcome

log = logging.getLogger(__name__)

DEADLINE_S = 30.0


class Turner:
    """Turns knobs. What is asked while others are turned waits its turn; asked anew, the last word counts."""

    def __init__(self, guided: Guided) -> None:
        """Args:
        guided: the hypervisor.
        """
        self._guided = guided
        self._due: dict[str, Knobs] = {}
        self._failed: dict[str, str] = {}
        self._sent: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def apply(self, plan: Plan, snapshot: Snapshot) -> Outcome:
        """Begins to send what is asked for guests in mode `act`; returns at once, with what became of what was sent before."""
        asked = dict(_asked(plan, snapshot))
        self._due |= asked
        if self._due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._send())
            await asyncio.sleep(0)
        outcome = Outcome(begun=tuple(asked), sent=tuple(self._sent), failed=self._failed)
        self._sent, self._failed = [], {}
        return replace(outcome, under_way=tuple(self._due))

    async def _send(self) -> None:
        while self._due:
            name = next(iter(self._due))
            wish = self._due.pop(name)
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


def _asked(plan: Plan, snapshot: Snapshot) -> list[tuple[str, Knobs]]:
    """What is to be sent, in the order in which one may free what another is to have."""
    found = []
    for guest, one in zip(snapshot.guests, plan.guests, strict=True):
        if one.ask is not None and not isinstance(one.ask, Keep) and guest.knobs is not None and guest.mode is Mode.ACT:
            found.append((more(guest.knobs, one.ask), guest.name, one.ask))
    return [(name, ask) for _, name, ask in sorted(found, key=lambda each: each[:2])]
