"""The production loop over real guests, for tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from ballonet.daemon.loop import Loop
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.lab.budget import BudgetHost
from ballonet.lab.machine import Machine
from ballonet.model.limits import Limits
from ballonet.model.terms import GuestSettings, Terms
from ballonet.model.tick import Tick
from ballonet.sense.observer import Observer


@dataclass
class Flight:
    """The production loop over real guests, and all its ticks."""

    ticks: list[Tick] = field(default_factory=list)

    async def until(self, holds: Callable[[Tick], bool], deadline_s: float = 60.0) -> Tick:
        """The next tick of which something holds."""
        seen = len(self.ticks)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while True:
                    for tick in self.ticks[seen:]:
                        if holds(tick):
                            return tick
                    seen = len(self.ticks)
                    await asyncio.sleep(0.02)
        last = self.ticks[-1] if self.ticks else None
        raise AssertionError(
            f"it does not come to hold in {seen} ticks; at last {last and [one.sentence for one in last.plan.guests]}"
        )


@contextlib.asynccontextmanager
async def flying(sockets: tuple[str, ...], machines: list[Machine], budget_bytes: int) -> AsyncIterator[Flight]:
    """Runs the loop; a loop that ends by itself fails the test."""
    flight = Flight()
    hypervisor = QemuHypervisor(sockets)
    eye = Observer(BudgetHost(budget_bytes, machines), hypervisor, lambda _name: GuestSettings(Terms(floor_bytes=128 << 20)))
    await hypervisor.open()
    running = asyncio.create_task(Loop(eye, hypervisor, Limits(), on_tick=flight.ticks.append).run())
    try:
        yield flight
        assert not running.done(), "the loop ended by itself"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await hypervisor.close()
