"""A host like ESXi: the policy `esx` (its published constants), each 15 s, with shares and reservations that can be set.

What is seen of it is what quickStats show: sizes and active memory, every 20 s.
"""

from msgspec.structs import replace

from ballonet.hypervisors.contract import Steering
from ballonet.model.knobs import Entitlement, Knobs
from ballonet.model.snapshot import Guest, GuestStats, Voice
from ballonet.model.units import MIB
from ballonet.sense.picture import GuestSettings
from ballonet.sim.on_top import Face

NORMAL_PER_MIB = 10


class EsxFace(Face):
    """Steered by entitlement."""

    steering = Steering.ENTITLEMENT
    below = "esx"
    samples_s = 20.0
    """Between two samples that a host publishes (vSphere Web Services API, PerformanceManager: real-time interval)."""

    def normal(self, size: int) -> Knobs:
        """ESXi's "normal" shares, nothing reserved."""
        return Entitlement(shares=NORMAL_PER_MIB * size // MIB, reservation_bytes=0)

    def told(self, name: str, settings: GuestSettings) -> GuestSettings:
        """Its reservation and shares, ten for each MiB being 1000 of ours."""
        one = self._knobs[name]
        assert isinstance(one, Entitlement)
        size = self._guests.world.by_name[name].script.memory_bytes
        shares = max(1, round(1000 * one.shares * MIB / (NORMAL_PER_MIB * size)))
        return replace(settings, guaranteed_bytes=one.reservation_bytes, shares=shares)

    def shown(self, guest: Guest) -> Guest:
        """As hypervisors/vsphere/rows.py makes it of quickStats: active memory is known, what the guest itself says is not."""
        return without_voice(guest)


def without_voice(guest: Guest) -> Guest:
    """What a hypervisor samples of a guest: what it uses of what it has."""
    keep, stats = guest.keep_bytes or guest.ceiling_bytes, guest.stats
    if stats is None or stats.total_bytes is None or stats.available_bytes is None:
        return replace(guest, stats=None, stats_age_s=None)
    used = max(0, stats.total_bytes - stats.available_bytes)
    shown = GuestStats(total_bytes=keep, available_bytes=max(0, keep - used))
    return replace(guest, stats=shown, stats_age_s=0.0, voice=Voice.HYPERVISOR)
