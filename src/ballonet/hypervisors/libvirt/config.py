"""`[libvirt]`."""

import sys
from typing import ClassVar, Final
from urllib.parse import parse_qsl, urlsplit

from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.section import Around, Section
from ballonet.model.settings import SettingsError

LOCAL: Final = ("localhost", "127.0.0.1", "::1")


class LibvirtConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[libvirt]`: the domains of the libvirt on this host."""

    called: ClassVar[str] = "libvirt"
    example: ClassVar[str] = "[libvirt]"

    uri: str = "qemu:///system"
    """The libvirt on this host, as `virsh -c` takes it."""
    agents: bool = True
    """Whether to hear ballonet's agent in guests, where a domain has a channel for it."""

    def missing(self) -> str:
        """As the section says."""
        try:
            import libvirt  # noqa: F401, PLC0415 only whether it is installed
        except ImportError as error:
            return f"[libvirt] needs Python's libvirt, which is not installed ({error}): {how_libvirt_comes()}"
        return ""

    def guests_of(self) -> str:
        """As the section says."""
        return self.uri

    def steers(self, around: Around) -> str:  # noqa: ARG002 some sections need it
        """As the section says."""
        return f"libvirt {one_spelling(self.uri)}"

    def hypervisor(self, around: Around) -> Hypervisor:
        """As the section says."""
        if missing := self.missing():
            raise SettingsError(missing)
        from ballonet.hypervisors.libvirt.adapter import LibvirtHypervisor  # noqa: PLC0415 only where it is installed

        return LibvirtHypervisor(self.uri, around.root, listens=self.agents)


def how_libvirt_comes() -> str:
    """The one command that installs Python's libvirt for this very ballonet."""
    if sys.prefix == sys.base_prefix:  # the package, or a system's own Python
        return "apt-get install python3-libvirt"
    return f"{sys.prefix}/bin/pip install libvirt-python (in a clone: make setup where libvirt is, or requirements-libvirt.lock)"


def one_spelling(uri: str) -> str:
    """A libvirt URI, however it is spelt: `qemu:///system` is `qemu+unix://localhost/system`, too. Of its parameters the one
    counts that names another daemon's socket.
    """
    parts = urlsplit(uri)
    host = "" if parts.hostname in LOCAL else f"{parts.hostname or ''}"
    sockets = [f"?socket={value}" for key, value in parse_qsl(parts.query) if key == "socket"]
    return f"{parts.scheme.split('+')[0]}://{host}{parts.path.rstrip('/') or '/system'}{''.join(sockets)}"
