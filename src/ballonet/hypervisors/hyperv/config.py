"""`[hyperv]`."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.remote.secret import secret
from ballonet.hypervisors.section import Around, Section
from ballonet.model.settings import SettingsError

Auth = Literal["negotiate", "kerberos", "ntlm", "basic"]


class HypervConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[hyperv]`: one Hyper-V host by PowerShell remoting; ballonet steers minimum, maximum, buffer and priority."""

    called: ClassVar[str] = "hyperv"
    example: ClassVar[str] = "[hyperv]"

    server: str
    user: str
    """As Windows has it: `HOST\\user` or `user@domain`."""
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """Of WinRM; unset: 5986, or 5985 without TLS."""
    tls: bool = True
    auth: Auth = "negotiate"
    """`basic` sends the password itself, and only over TLS."""
    endpoint: str = "Microsoft.PowerShell"
    """The session configuration: one of Just Enough Administration, where there is one."""
    password_file: str = ""
    """A file that nobody else may read. The variable BALLONET_HYPERV_PASSWORD comes first."""
    ca_file: str = ""
    """Certificates to trust, PEM; empty = the system's."""

    @property
    def winrm_port(self) -> int:
        """The port that counts (winrm's defaults: learn.microsoft.com, Installation and configuration for WinRM)."""
        return self.port or (5986 if self.tls else 5985)

    def contradiction(self) -> str:
        """As the section says."""
        if self.auth == "basic" and not self.tls:
            return "at `hyperv.auth`: basic sends the password itself; set hyperv.tls, or another auth"
        return ""

    def guests_of(self) -> str:
        """As the section says."""
        return self.server

    def hypervisor(self, around: Around) -> Hypervisor:
        """As the section says."""
        try:
            from ballonet.hypervisors.hyperv.adapter import HypervHypervisor  # noqa: PLC0415 only where it is installed
        except ImportError as error:
            raise SettingsError(f"[hyperv] needs pypsrp: pip install 'ballonet[hyperv]' ({error})") from error
        password = secret("BALLONET_HYPERV_PASSWORD", self.password_file, "hyperv.password_file")
        return HypervHypervisor(self, password, around.state)
