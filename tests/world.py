"""A whole small world for tests: fake guests on a fake host, the production decide on top, a clock that jumps."""

import contextlib
from dataclasses import dataclass, field
from itertools import pairwise

from msgspec.structs import replace

from ballonet.decide.state import State
from ballonet.decide.step import START, step
from ballonet.hypervisors.contract import HypervisorError
from ballonet.hypervisors.fake import FakeGuest, FakeHypervisor
from ballonet.model.limits import Limits
from ballonet.model.plan import Plan
from ballonet.model.snapshot import Host, Snapshot
from ballonet.model.units import MIB


@dataclass
class World:
    """Guests that share a budget."""

    guests: list[FakeGuest]
    budget_bytes: int
    limits: Limits = field(default_factory=Limits)
    floors: dict[str, int] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)
    policy: str = "adaptive"
    now: float = 0.0
    state: State = START
    plans: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hypervisor = FakeHypervisor(self.guests, clock=lambda: self.now)

    def guest(self, name: str) -> FakeGuest:
        return self.hypervisor.fakes[name]

    def promised_bytes(self) -> int:
        return int(sum(max(g.keep_bytes, g.asked_bytes, g.resident_bytes) for g in self.guests))

    def swings(self, name: str, since: float) -> int:
        """Changes of direction of more than 8 MiB among the commands to one guest since a time."""
        asked = [keep for at, who, keep in self.hypervisor.commands if who == name and at >= since]
        ways = [b - a for a, b in pairwise(asked) if abs(b - a) > 8 * MIB]
        return sum((a > 0) != (b > 0) for a, b in pairwise(ways))

    async def tick(self, dt: float = 0.25) -> Plan:
        self.now += dt
        available = max(0, self.budget_bytes - self.hypervisor.occupied_bytes())
        guests = tuple(
            replace(g, floor_bytes=self.floors.get(g.name), shares=self.shares.get(g.name, 1000))
            for g in self.hypervisor.guests()
        )
        host = Host(total_bytes=self.budget_bytes, available_bytes=available)
        self.state, plan = step(self.state, Snapshot(host=host, guests=guests), self.limits, self.now, self.policy)
        for one in plan.guests:
            if one.is_command and one.keep_bytes is not None:
                with contextlib.suppress(HypervisorError):
                    await self.hypervisor.set_keep(one.name, one.keep_bytes, 1.0)
        self.plans.append(plan)
        return plan

    async def run(self, seconds: float, dt: float = 0.25) -> None:
        for _ in range(int(seconds / dt)):
            await self.tick(dt)
