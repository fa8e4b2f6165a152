"""Carries out a plan: free first, then give; a deadline for each guest; one that hangs delays nobody.

A give is sent only when it fits into what is unpromised at that moment, by the larger of what each guest keeps, holds
and was asked to keep (R4). One that does not fit waits for the next tick, when the host has seen what was freed.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from ballonet.hypervisors.contract import Hypervisor, HypervisorError, NoAnswerError
from ballonet.model.plan import Decision, Keep, Plan, PlanBudget
from ballonet.model.snapshot import Guest, Mode, Snapshot, Voice
from ballonet.model.tick import Outcome

log = logging.getLogger(__name__)

DEADLINE_S = 1.0
PATIENCE_S = 0.1
"""How long a tick waits for its commands. One that takes longer goes on by itself, until its deadline."""
LARGE_SHARE = 0.04
"""Of the ceiling: before more than this is taken at once, the guest is asked to make it free."""
READY_S = 0.3
"""How long a balloon waits for that: what is free, or page cache, is there by then; a collection goes on meanwhile."""
REACHED_BYTES = 2 << 20
"""A balloon this near to what was asked is there: drivers move 1 MiB a request."""


class Actor:
    """Sends commands, and knows which are still under way."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._asked: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._readying: set[str] = set()
        """Guests that make memory ready first; no tick waits for them."""
        self._sent: list[str] = []
        self._failed: dict[str, str] = {}
        """What has become of commands since the last tick that told it: some take longer than a tick waits."""

    async def apply(self, plan: Plan, snapshot: Snapshot) -> Outcome:
        """Sends the commands of `plan` that it has for guests in mode `act`.

        Returns after PATIENCE_S at most. Cancelled: commands that were sent take effect or not, as with no answer.
        """
        for name, look in plan.looks.items():
            self._hypervisor.watch(name, look)
        commands = [one for one in plan.guests if isinstance(one.ask, Keep)]
        if not commands:
            return await self._send((), {})
        guests = {guest.name: guest for guest in snapshot.guests}
        commands = [one for one in commands if guests[one.name].mode is Mode.ACT]
        takes = [one for one in commands if _is_take(one, guests[one.name])]
        gives = [one for one in commands if not _is_take(one, guests[one.name])]
        fitting, waiting = self._fitting(gives, plan, guests) if gives else ([], ())
        outcome = await self._send([*takes, *fitting], guests)
        return replace(outcome, waiting=waiting)

    def _fitting(
        self, gives: Iterable[Decision], plan: Plan, guests: Mapping[str, Guest]
    ) -> tuple[list[Decision], tuple[str, ...]]:
        """Those gives that fit now, on the host and under each limit around their guest; and who waits."""
        limits = [PlanBudget("", plan.memory_bytes, tuple(guests)), *plan.budgets]
        left = [one.memory_bytes - sum(self._held_bytes(guests[name], plan) for name in one.guests) for one in limits]
        fitting: list[Decision] = []
        waiting: list[str] = []
        for give in gives:
            more = max(0, (give.keep_bytes or 0) - self._held_bytes(guests[give.name], plan))
            around = [number for number, one in enumerate(limits) if not number or give.name in one.guests]
            if more > min(max(0, left[number]) for number in around):
                waiting.append(give.name)
                continue
            fitting.append(give)
            for number in around:
                left[number] -= more
        return fitting, tuple(waiting)

    async def close(self) -> None:
        """Gives up on commands that are under way: each takes effect or not, as with no answer."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def missed(self, snapshot: Snapshot) -> dict[str, int]:
        """Verifies asked against reached: guests that are not where they were sent, by how many bytes."""
        return {
            guest.name: asked - guest.keep_bytes
            for guest in snapshot.guests
            if (asked := self._asked.get(guest.name)) is not None
            and guest.keep_bytes is not None
            and abs(asked - guest.keep_bytes) > REACHED_BYTES
        }

    def _held_bytes(self, guest: Guest, plan: Plan) -> int:
        if (fixed := plan.fixed.get(guest.name)) is not None:
            return fixed
        keep = guest.ceiling_bytes if guest.keep_bytes is None or guest.is_starting else guest.keep_bytes
        return max(keep, guest.occupied_bytes or 0, self._asked.get(guest.name, 0) if guest.name in self._tasks else 0)

    async def _send(self, commands: Iterable[Decision], guests: Mapping[str, Guest]) -> Outcome:
        begun: list[str] = []
        for one in commands:
            if one.name in self._tasks or one.keep_bytes is None:
                continue  # its last command is still under way
            ready = _to_make_ready(one, guests[one.name])
            self._asked[one.name] = one.keep_bytes
            if ready:
                self._readying.add(one.name)
            self._tasks[one.name] = asyncio.create_task(self._command(one.name, one.keep_bytes, ready))
            begun.append(one.name)
        if awaited := [task for name, task in self._tasks.items() if name not in self._readying]:
            await asyncio.wait(awaited, timeout=PATIENCE_S)
        sent, self._sent, failed, self._failed = self._sent, [], self._failed, {}
        return Outcome(begun=tuple(begun), sent=tuple(sent), failed=failed, under_way=tuple(self._tasks))

    async def _command(self, name: str, keep_bytes: int, ready: int) -> None:
        try:
            if ready:
                await self._hypervisor.make_ready(name, ready, READY_S)
                self._readying.discard(name)
            await self._hypervisor.set_keep(name, keep_bytes, DEADLINE_S)
            self._sent.append(name)
        except Exception as error:
            if not isinstance(error, HypervisorError):  # an adapter's own fault: told with its trace, and no other guest's loss
                log.exception("adapter failed", extra={"guest": name})
            self._failed[name] = str(error)
            is_unknown = isinstance(error, NoAnswerError)
            log.warning(
                "command failed",
                extra={"guest": name, "trouble": str(error), "took_effect": None if is_unknown else False},
            )
        finally:
            self._tasks.pop(name, None)
            self._readying.discard(name)


def _to_make_ready(one: Decision, guest: Guest) -> int:
    """How much a guest is to make free before its balloon takes that; 0 = it is not worth asking, or nobody hears."""
    more = (guest.keep_bytes or 0) - (one.keep_bytes or 0)
    return more if guest.voice is Voice.AGENT and more > LARGE_SHARE * guest.ceiling_bytes else 0


def _is_take(one: Decision, guest: Guest) -> bool:
    return guest.keep_bytes is not None and one.keep_bytes is not None and one.keep_bytes < guest.keep_bytes
