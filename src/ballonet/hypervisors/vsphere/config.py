"""`[vsphere]`."""

from typing import Annotated, ClassVar

from msgspec import Meta

from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.remote.secret import secret
from ballonet.hypervisors.section import Around, Section
from ballonet.model.settings import SettingsError


class VsphereConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[vsphere]`: one ESXi host, by itself or through its vCenter; ballonet steers shares and reservations."""

    called: ClassVar[str] = "vsphere"
    example: ClassVar[str] = "[vsphere]"

    server: str
    """The host's name, or its vCenter's."""
    user: str
    port: Annotated[int, Meta(ge=1, le=65535)] = 443
    host: str = ""
    """Which of a vCenter's hosts; empty = the only one."""
    password_file: str = ""
    """A file that nobody else may read. The variable BALLONET_VSPHERE_PASSWORD comes first."""
    ca_file: str = ""
    """Certificates to trust, PEM; empty = the system's."""
    limits: bool = False
    """Also set limits while the host is short: the only way to force a balloon; taken back from a VM that waits for memory."""
    drs: bool = False
    """Steer though the host is in a cluster whose DRS moves VMs."""

    @property
    def may_limit(self) -> bool:
        """As the section says."""
        return self.limits

    def guests_of(self) -> str:
        """As the section says."""
        return self.server

    def steers(self, around: Around) -> str:  # noqa: ARG002 some sections need it
        """As the section says: one host."""
        return f"{self.server}:{self.port} {self.host}".rstrip()

    def hypervisor(self, around: Around) -> Hypervisor:
        """As the section says."""
        try:
            from ballonet.hypervisors.vsphere.adapter import VsphereHypervisor  # noqa: PLC0415 only where it is installed
        except ImportError as error:
            raise SettingsError(f"[vsphere] needs pyVmomi: pip install 'ballonet[vsphere]' ({error})") from error
        password = secret("BALLONET_VSPHERE_PASSWORD", self.password_file, "vsphere.password_file")
        return VsphereHypervisor(self, password, around.state)
