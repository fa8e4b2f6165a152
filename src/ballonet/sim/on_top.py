"""Two loops over one simulated host: a hypervisor's own moves the memory, and ballonet on top turns its knobs.

What such hypervisors have in common; esx.py and hyperv.py say which loop it is and what the knobs do. Simulated; none of them was
measured for it.
"""

import abc
import asyncio
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from ballonet.daemon.loop import Loop
from ballonet.hypervisors.contract import Capabilities, GuestGoneError, Guided
from ballonet.hypervisors.remote.guests import RemoteGuests
from ballonet.model.knobs import Knobs, Steering
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, GuestStats, Host, Mechanism, Snapshot, Voice
from ballonet.model.terms import GuestSettings
from ballonet.model.tick import Tick
from ballonet.sense.host import RemoteHost
from ballonet.sense.observer import Observer
from ballonet.sim.hypervisor import SimHypervisor

ON_TOP: Final = "+ballonet"
"""Ends the name of such an arm, after the peer's that it stands on."""


class SteeredHost(RemoteGuests, Guided, abc.ABC):
    """What ballonet sees and sets of a simulated host with a loop of its own."""

    steering: Steering
    below: str
    """The policy that is its loop."""
    samples_s: float
    """Between two samples that it publishes."""

    def __init__(self, guests: SimHypervisor) -> None:
        """Args:
        guests: which the host's own loop steers.
        """
        self._guests = guests
        self._seen: tuple[Guest, ...] = ()
        self._seen_at = -self.samples_s
        self._knobs = {one.script.name: self.normal(one.script.memory_bytes) for one in guests.world.guests}
        self._originals = dict(self._knobs)
        self._news = asyncio.Event()

    @abc.abstractmethod
    def normal(self, size: int) -> Knobs:
        """How the knobs stand for a guest of this size that nobody turned any for."""

    @abc.abstractmethod
    def told(self, name: str, settings: GuestSettings) -> GuestSettings:
        """What its loop goes by for a guest."""

    def options(self) -> dict[str, float]:
        """What else its loop goes by."""
        return {}

    @property
    def capabilities(self) -> Capabilities:
        """As the contract says."""
        return Capabilities(name=f"sim-{self.below}", steering=self.steering, mechanisms=frozenset({Mechanism.BALLOON}))

    @property
    def news(self) -> asyncio.Event:
        """Nothing wakes ballonet here: such a host tells no faster than it samples."""
        return self._news

    async def open(self) -> None:
        """The guests are there."""

    async def close(self) -> None:
        """As the contract says."""

    def host(self) -> Host:
        """As the contract says."""
        return self._guests.world.host()

    def guests(self) -> tuple[Guest, ...]:
        """As the contract says: as of the last sample."""
        now = self._guests.world.now
        if now - self._seen_at >= self.samples_s:
            self._seen_at = now
            self._seen = tuple(map(_shown, self._guests.guests()))
        return tuple(
            replace(guest, knobs=self._knobs[guest.name], knobs_before=self._originals[guest.name]) for guest in self._seen
        )

    def knobs(self) -> dict[str, Knobs]:
        """As the contract says."""
        return self._knobs

    def originals(self) -> dict[str, Knobs]:
        """As the contract says."""
        return self._originals

    async def turn(self, name: str, wish: Knobs, deadline_s: float) -> None:  # noqa: ARG002 it takes no time here
        """As the contract says."""
        if name not in self._knobs:
            raise GuestGoneError(f"{name}: no such guest")
        self._knobs[name] = wish

    async def restore(self, deadline_s: float = 30.0) -> tuple[dict[str, Knobs], dict[str, str]]:  # noqa: ARG002 as above
        """As the contract says."""
        changed = {name: old for name, old in self._originals.items() if self._knobs[name] != old}
        self._knobs |= changed
        return changed, {}

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:
        """Nobody outside sizes a balloon."""


def _shown(guest: Guest) -> Guest:
    """What such a hypervisor samples of a guest, as the rows of vsphere and hyperv make it: what it uses of what it has."""
    keep, stats = guest.keep_bytes or guest.ceiling_bytes, guest.stats
    if stats is None or stats.total_bytes is None or stats.available_bytes is None:
        return replace(guest, stats=None, stats_age_s=None)
    used = max(0, stats.total_bytes - stats.available_bytes)
    shown = GuestStats(total_bytes=keep, available_bytes=max(0, keep - used))
    return replace(guest, stats=shown, stats_age_s=0.0, voice=Voice.HYPERVISOR)


class _OwnObserver(Observer):
    """What the host's own loop sees: its guests, with the knobs as they stand."""

    def __init__(self, face: SteeredHost, guests: SimHypervisor, settings: Callable[[Guest], GuestSettings]) -> None:
        super().__init__(guests.world, guests, lambda guest: face.told(guest.name, settings(guest)))
        self._face = face

    def look(self) -> Snapshot:
        """As any eye, with the loop's own options."""
        return replace(super().look(), options=self._face.options())


async def run(
    face: SteeredHost,
    guests: SimHypervisor,
    limits: Limits,
    settings: Callable[[Guest], GuestSettings],
    on_tick: Callable[[Tick], None],
) -> None:
    """Both loops, until they are cancelled.

    Args:
        face: of the host.
        guests: on it.
        limits: of every decision.
        settings: the operator's word on a guest.
        on_tick: told of the ticks of the host's own loop, which moves the memory.
    """
    clock = asyncio.get_running_loop().time
    ours = Observer(RemoteHost(face), face, settings)
    async with asyncio.TaskGroup() as both:
        both.create_task(
            Loop(_OwnObserver(face, guests, settings), guests, limits, policy=face.below, on_tick=on_tick, clock=clock).run()
        )
        both.create_task(Loop(ours, face, limits, clock=clock).run())
