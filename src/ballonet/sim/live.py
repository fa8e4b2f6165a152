"""`python -m ballonet.sim.live CONFIG SCENARIO SPEED SEED`: the whole daemon on a simulated host, at our pace or a faster one.

All is what runs on a real host, but for the guests and the host's /proc: API, orders, history, metrics, and so all commands.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from ballonet.daemon.journal import open_journal
from ballonet.daemon.run import Daemon
from ballonet.model.settings import SettingsError
from ballonet.model.terms import UNSAID, Terms
from ballonet.scenarios.scenario import GuestScript, Scenario, load, members, scripts, warm_keeps
from ballonet.sim import beasts
from ballonet.sim.hypervisor import SimHypervisor
from ballonet.sim.speeds import KVM
from ballonet.sim.world import SimWorld

FIRST_S: Final = 3.0
"""Until the scenario begins: to see how guests are before."""
ROUNDS: Final = 500
"""A scenario is played this often, one after the other: an operator who looks should not find the end of it."""


class PacedLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds pass `speed` times as fast as ours, and which begins at 0."""

    def __init__(self, speed: float) -> None:
        """Args:
        speed: 1 = as ours.
        """
        super().__init__()
        self._speed, self._start = speed, time.monotonic()
        self._clock_resolution = speed * time.get_clock_info("monotonic").resolution
        self._wait = self._selector.select  # type: ignore[attr-defined]  # where asyncio waits; there is no public place
        self._selector.select = self._paced  # type: ignore[attr-defined]

    def time(self) -> float:
        """Seconds since the start."""
        return (time.monotonic() - self._start) * self._speed

    def _paced(self, timeout_s: float | None = None) -> list[Any]:
        found: list[Any] = self._wait(None if timeout_s is None else timeout_s / self._speed)
        return found


class LiveHypervisor(SimHypervisor):
    """The scenario's floors, guarantees and shares are kept at the hypervisor, as libvirt's are in a domain's metadata."""

    def __init__(self, world: SimWorld, guests: Iterable[GuestScript]) -> None:
        """Args:
        world: simulated.
        guests: their scripts.
        """
        super().__init__(world)
        self._kept = {one.name: one.terms for one in guests}

    def terms(self, name: str) -> Terms:
        """As the contract says."""
        return self._kept.get(name, UNSAID)


def in_rounds(scenario: Scenario) -> Scenario:
    """The same, again and again: each round begins as the first did."""
    starts = [number * scenario.duration_s for number in range(ROUNDS)]
    groups = tuple(
        replace(group, phases=tuple(replace(one, at_s=start + one.at_s) for start in starts for one in group.phases))
        for group in scenario.guests
    )
    return replace(scenario, guests=groups, duration_s=ROUNDS * scenario.duration_s)


def world_of(scenario: Scenario, seed: int) -> SimWorld:
    """A host with the guests of a scenario, warm where it says so. Raises SettingsError."""
    guests = scripts(scenario, 1, seed)
    budget = int(scenario.host.memory)
    limits = [(limit.name, int(limit.memory), members(scenario, limit.guests)) for limit in scenario.limits]
    world = SimWorld(scenario.host, budget, guests, KVM, FIRST_S, 1, limits)
    world.begin(warm_keeps(guests, budget) if scenario.warm else {})
    if world.used_bytes > budget:
        raise SettingsError(f"{scenario.name}: guests need more at the start than the host has; give it more memory")
    beasts.release(world, scenario.faults, 1)
    return world


def _end(config: Path) -> None:
    """Nobody is there any more: ends as by a signal, with what others would take for a host that is still there."""
    config.unlink(missing_ok=True)
    asyncio.get_running_loop().remove_reader(sys.stdin)
    os.kill(os.getpid(), signal.SIGTERM)


async def live(config: Path, scenario: Scenario, seed: int) -> None:
    """Runs until a signal ends it, or the process that began it has ended. Raises SettingsError."""
    open_journal()
    asyncio.get_running_loop().add_reader(sys.stdin, _end, config)
    rounds = in_rounds(scenario)
    world = world_of(rounds, seed)
    await Daemon(config, LiveHypervisor(world, scripts(rounds, 1, seed)), world).run()


def main() -> None:
    """Arguments: configuration, scenario, speed, seed."""
    config, scenario, speed, seed = sys.argv[1:]
    os.umask(0o077)
    try:
        with asyncio.Runner(loop_factory=lambda: PacedLoop(float(speed))) as runner:
            runner.run(live(Path(config), load(scenario), int(seed)))
    except SettingsError as error:
        sys.stderr.write(f"ballonet: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
