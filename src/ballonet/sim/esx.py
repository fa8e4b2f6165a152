"""A host like ESXi with ballonet on top: its own closed loop moves the memory, and ballonet says who is entitled to what.

The host's loop is the policy `esx` (its published constants), each 15 s, with the shares and reservations that ballonet sets.
What ballonet sees of it is what quickStats show: sizes and active memory, every 20 s. Simulated; no ESXi was measured for it.
"""

import asyncio
from typing import Final

from msgspec.structs import replace

from ballonet.hypervisors.contract import Capabilities, Entitling, GuestGoneError, Steering
from ballonet.model.entitlement import Entitlement
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest, GuestStats, Host, Mechanism, Voice
from ballonet.model.units import MIB
from ballonet.sense.picture import GuestSettings
from ballonet.sim.hypervisor import SimHypervisor

NAME: Final = "esx+ballonet"
"""Of the arm, beside `esx` alone."""
BELOW: Final = "esx"
QUICK_STATS_S: Final = 20.0
"""Between two samples that a host publishes (vSphere Web Services API, PerformanceManager: real-time interval)."""
NORMAL_PER_MIB: Final = 10


class EsxFace(Entitling):
    """What ballonet sees and sets of such a host."""

    def __init__(self, below: SimHypervisor) -> None:
        """Args:
        below: the guests, which the host's own loop steers.
        """
        self._below = below
        self._seen: tuple[Guest, ...] = ()
        self._seen_at = -QUICK_STATS_S
        self._entitled = {
            guest.script.name: Entitlement(shares=NORMAL_PER_MIB * guest.script.memory_bytes // MIB, reservation_bytes=0)
            for guest in below.world.guests
        }
        self.originals = dict(self._entitled)

    @property
    def capabilities(self) -> Capabilities:
        """As the contract says."""
        return Capabilities(name="sim-esx", steering=Steering.ENTITLEMENT, mechanisms=frozenset({Mechanism.BALLOON}))

    @property
    def news(self) -> asyncio.Event:
        """Nothing wakes ballonet here: a host tells no faster than it samples."""
        return self._news

    _news: asyncio.Event

    async def open(self) -> None:
        """The guests are there."""
        self._news = asyncio.Event()

    async def close(self) -> None:
        """As the contract says."""

    def host(self) -> Host:
        """As the contract says."""
        return self._below.world.read()

    def guests(self) -> tuple[Guest, ...]:
        """As the contract says: as of the last sample."""
        now = self._below.world.now
        if now - self._seen_at >= QUICK_STATS_S:
            self._seen_at = now
            self._seen = tuple(map(_shown, self._below.guests()))
        return self._seen

    def entitlements(self) -> dict[str, Entitlement]:
        """As the contract says."""
        return self._entitled

    async def entitle(self, name: str, wish: Entitlement, deadline_s: float) -> None:  # noqa: ARG002 it takes no time here
        """As the contract says."""
        if name not in self._entitled:
            raise GuestGoneError(f"{name}: no such guest")
        self._entitled[name] = wish

    async def restore(self, deadline_s: float = 30.0) -> tuple[dict[str, Entitlement], dict[str, str]]:  # noqa: ARG002 as above
        """As the contract says."""
        changed = {name: old for name, old in self.originals.items() if self._entitled[name] != old}
        self._entitled |= changed
        return changed, {}

    def told(self, name: str, settings: GuestSettings) -> GuestSettings:
        """What the host's own loop goes by: its reservation and shares, ten for each MiB being 1000 of ours."""
        one = self._entitled[name]
        size = self._below.world.by_name[name].script.memory_bytes
        shares = max(1, round(1000 * one.shares * MIB / (NORMAL_PER_MIB * size)))
        return replace(settings, guaranteed_bytes=one.reservation_bytes, shares=shares)

    def settings(self, _name: str) -> None:
        """As the contract says."""

    def pid(self, _name: str) -> int | None:
        """As the contract says."""
        return None

    def pids(self) -> tuple[int, ...]:
        """As the contract says."""
        return ()

    def watch(self, name: str, look: Look) -> None:
        """As the contract says."""

    async def make_ready(self, name: str, free_bytes: int, deadline_s: float) -> None:
        """As the contract says."""

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:
        """Nobody outside sizes a balloon."""


def _shown(guest: Guest) -> Guest:
    """As hypervisors/vsphere/rows.py makes it of quickStats: active memory is known, what the guest itself says is not."""
    keep, stats = guest.keep_bytes or guest.ceiling_bytes, guest.stats
    if stats is None or stats.total_bytes is None or stats.available_bytes is None:
        return replace(guest, stats=None, stats_age_s=None)
    active = max(0, stats.total_bytes - stats.available_bytes)
    shown = GuestStats(total_bytes=keep, available_bytes=max(0, keep - active))
    return replace(guest, stats=shown, stats_age_s=0.0, voice=Voice.HYPERVISOR)
