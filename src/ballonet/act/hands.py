"""All that carries out a plan: balloons are sized, a hypervisor's own loop is told, and the host itself takes steps (R14)."""

from pathlib import Path

from ballonet.act.apply import Actor
from ballonet.act.host_steps import HostSteps
from ballonet.act.turner import Turner
from ballonet.hypervisors.contract import Guided, Hypervisor
from ballonet.model.limits import Limits
from ballonet.model.plan import Plan
from ballonet.model.snapshot import Snapshot
from ballonet.model.tick import Outcome


class Hands:
    """Of one hypervisor, and of the host below it."""

    def __init__(self, hypervisor: Hypervisor, root: Path) -> None:
        """Args:
        hypervisor: opened already.
        root: where /proc and /sys of its host are found.
        """
        self._actor = Turner(hypervisor) if isinstance(hypervisor, Guided) else Actor(hypervisor)
        self._ladder = HostSteps(root, lambda name: hypervisor.pids().get(name))

    async def apply(self, plan: Plan, snapshot: Snapshot, limits: Limits) -> Outcome:
        """Sends what is asked for guests in mode `act`. Returns soon, with what became of this and of what was sent before."""
        outcome = await self._actor.apply(plan, snapshot)
        self._ladder.climb(plan, may_ksm=limits.may_ksm)
        return outcome

    def missed(self, snapshot: Snapshot) -> dict[str, int]:
        """Guests that are not where they were sent, by how many bytes."""
        return self._actor.missed(snapshot)

    async def close(self) -> None:
        """Gives up on what is under way, and puts back what of the host was set."""
        try:
            await self._actor.close()
        finally:
            await self._ladder.close()
