"""A host like ESXi: the policy `esx` (its published constants), each 15 s, with shares and reservations that can be set.

What is seen of it is what quickStats show: sizes and active memory, every 20 s.
"""

from msgspec.structs import replace

from ballonet.decide.steering.entitlement import SHARES_PER_MIB
from ballonet.model.knobs import Entitlement, Knobs, Steering
from ballonet.model.snapshot import NORMAL_SHARES
from ballonet.model.terms import GuestSettings
from ballonet.model.units import MIB
from ballonet.sim.on_top import SteeredHost


class EsxFace(SteeredHost):
    """Steered by entitlement."""

    steering = Steering.ENTITLEMENT
    below = "esx"
    samples_s = 20.0
    """Between two samples that a host publishes (vSphere Web Services API, PerformanceManager: real-time interval)."""

    def normal(self, size: int) -> Knobs:
        """ESXi's "normal" shares, nothing reserved."""
        return Entitlement(shares=SHARES_PER_MIB * size // MIB, reservation_bytes=0)

    def told(self, name: str, settings: GuestSettings) -> GuestSettings:
        """Its reservation and shares, ten for each MiB being 1000 of ours."""
        one = self._knobs[name]
        assert isinstance(one, Entitlement)
        size = self._guests.world.by_name[name].script.memory_bytes
        shares = max(1, round(NORMAL_SHARES * one.shares * MIB / (SHARES_PER_MIB * size)))
        return replace(settings, terms=replace(settings.terms, guaranteed_bytes=one.reservation_bytes, shares=shares))
