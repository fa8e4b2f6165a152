"""One ESXi host. Its own loop balloons; ballonet says who is entitled to what."""

from pathlib import Path

from ballonet.hypervisors.contract import Capabilities, RefusedError
from ballonet.hypervisors.remote.adapter import RemoteHypervisor, Row
from ballonet.hypervisors.vsphere.config import VsphereConfig
from ballonet.hypervisors.vsphere.session import VsphereSession
from ballonet.model.knobs import Entitlement, Knobs, Steering
from ballonet.model.snapshot import Mechanism
from ballonet.model.units import MIB


class VsphereHypervisor(RemoteHypervisor):
    """The VMs of one host. quickStats change each 20 s; what changes in between is the list of VMs."""

    def __init__(self, where: VsphereConfig, password: str, state: Path) -> None:
        """Args:
        where: how to get in.
        password: of the user.
        state: folder for what guests were entitled to before.
        """
        super().__init__(where.server, state)
        self._where, self._password = where, password

    @property
    def capabilities(self) -> Capabilities:
        """It steers entitlements; the balloon is vmmemctl, and ESXi's own."""
        return Capabilities(
            name="vsphere",
            steering=Steering.ENTITLEMENT,
            mechanisms=frozenset({Mechanism.BALLOON}),
        )

    def _connect(self) -> VsphereSession:
        return VsphereSession(self._where, self._password)

    def _check(self, row: Row, wish: Knobs) -> None:
        if not isinstance(wish, Entitlement):
            raise RefusedError(f"{row.guest.name}: {wish} is not what ESXi has")
        most = row.guest.ceiling_bytes
        if wish.limit_bytes is not None and wish.limit_bytes < wish.reservation_bytes:
            raise RefusedError(f"{row.guest.name}: {wish}: the limit is below the reservation")
        if wish.shares < 1 or not 0 <= wish.reservation_bytes <= most:
            raise RefusedError(f"{row.guest.name}: {wish} is not within 1 share and its {most // MIB} MiB")

    def _back(self, row: Row, original: Knobs) -> tuple[Knobs, str]:  # noqa: ARG002 the other hypervisors'
        return original, ""

    def _why_not(self) -> str:
        return "ESXi sizes balloons by itself; ballonet steers shares and reservations"
