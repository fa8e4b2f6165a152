"""Carries out what a plan asks of a hypervisor's own loop: one guest at a time, in the background, donors first."""

import asyncio
import logging
from typing import Final, NamedTuple

from msgspec.structs import replace

from ballonet.hypervisors.contract import Guided, HypervisorError
from ballonet.model.knobs import Knobs, more
from ballonet.model.plan import Keep, Plan
from ballonet.model.snapshot import Guest, Mode, Snapshot
from ballonet.model.tick import Outcome

log = logging.getLogger(__name__)

DEADLINE_S: Final = 30.0
STALE_S: Final = 10.0
"""What could not be sent for this long belongs to another moment; a plan asks again."""


class _Wish(NamedTuple):
    """What is to be sent, and until when."""

    knobs: Knobs
    until: float


class Turner:
    """Turns knobs. What is asked meanwhile waits its turn, as long as it is worth that; asked anew, the last word counts."""

    def __init__(self, guided: Guided) -> None:
        """Args:
        guided: the hypervisor.
        """
        self._guided = guided
        self._due: dict[str, _Wish] = {}
        self._begun: list[str] = []
        self._failed: dict[str, str] = {}
        self._sent: list[str] = []
        self._sending: tuple[str, Knobs] | None = None
        self._task: asyncio.Task[None] | None = None

    async def apply(self, plan: Plan, snapshot: Snapshot) -> Outcome:
        """Begins to send what is asked for guests in mode `act`; returns at once, with what became of what was sent before."""
        now = asyncio.get_running_loop().time()
        free = {one.name for one in snapshot.guests if _may_be_told(one)}
        self._due = {name: wish for name, wish in self._due.items() if name in free and now < wish.until}
        self._due |= {name: _Wish(ask, now + STALE_S) for name, ask in _asked(plan, snapshot) if (name, ask) != self._sending}
        if self._due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._send())
            await asyncio.sleep(0)
        outcome = Outcome(begun=tuple(self._begun), sent=tuple(self._sent), failed=self._failed)
        self._begun, self._sent, self._failed = [], [], {}
        under_way = () if self._sending is None else (self._sending[0],)
        return replace(outcome, waiting=tuple(self._due), under_way=under_way)

    async def _send(self) -> None:
        while self._due:
            name = next(iter(self._due))
            wish = self._due.pop(name).knobs
            self._sending = name, wish
            self._begun.append(name)
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
            finally:
                self._sending = None

    async def close(self) -> None:
        """Gives up on what is under way: it takes effect or not."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def missed(self, _snapshot: Snapshot) -> dict[str, int]:
        """Nothing: no guest is sent to a size of ours."""
        return {}


def _may_be_told(guest: Guest) -> bool:
    """Whether its loop may still be told of it: what was asked before a hold is not sent after it."""
    is_held = bool(guest.deflates or (guest.leave_alone and guest.can_balloon))
    return guest.knobs is not None and guest.mode is Mode.ACT and not is_held


def _asked(plan: Plan, snapshot: Snapshot) -> list[tuple[str, Knobs]]:
    """What is to be sent, in the order in which one may free what another is to have."""
    found = []
    for guest, one in zip(snapshot.guests, plan.guests, strict=True):
        if one.ask is not None and not isinstance(one.ask, Keep) and guest.knobs is not None and guest.mode is Mode.ACT:
            found.append((more(guest.knobs, one.ask), guest.name, one.ask))
    return [(name, ask) for _, name, ask in sorted(found, key=lambda each: each[:2])]
