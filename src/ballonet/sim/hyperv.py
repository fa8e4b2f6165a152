"""A host like Hyper-V: the policy `hyperv` (demand, buffer, pressure), each second, with buffer, priority, minimum to be set.

What is seen of it is what Get-VM shows: what is assigned and demanded, every second.
"""

from msgspec.structs import replace

from ballonet.decide.policies.hyperv import BUFFER_SHARE
from ballonet.decide.steering.bounds import NORMAL_PRIORITY
from ballonet.model.knobs import Bounds, Knobs, Steering
from ballonet.model.snapshot import NORMAL_SHARES
from ballonet.model.terms import GuestSettings
from ballonet.sim.on_top import SteeredHost


class HypervFace(SteeredHost):
    """Steered by bounds."""

    steering = Steering.BOUNDS
    below = "hyperv"
    samples_s = 1.0
    """Dynamic Memory's own look at a guest."""

    def normal(self, size: int) -> Knobs:
        """Hyper-V's defaults, but a maximum of what the guest was promised."""
        return Bounds(minimum_bytes=0, maximum_bytes=size, buffer_percent=round(100 * BUFFER_SHARE), priority=NORMAL_PRIORITY)

    def told(self, name: str, settings: GuestSettings) -> GuestSettings:
        """Its minimum, and its priority as shares."""
        one = self._bounds(name)
        floor = max(one.minimum_bytes, settings.terms.floor_bytes or 0) or None
        shares = max(1, round(NORMAL_SHARES * one.priority / NORMAL_PRIORITY))
        return replace(settings, terms=replace(settings.terms, floor_bytes=floor, shares=shares))

    def options(self) -> dict[str, float]:
        """Each guest's buffer."""
        return {f"buffer_share.{name}": self._bounds(name).buffer_percent / 100 for name in self._knobs}

    def _bounds(self, name: str) -> Bounds:
        one = self._knobs[name]
        assert isinstance(one, Bounds)
        return one
