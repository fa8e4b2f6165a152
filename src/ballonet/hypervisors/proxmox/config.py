"""`[proxmox]`."""

from typing import ClassVar

from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.section import Around, Section


class ProxmoxConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[proxmox]`: the VMs of this node."""

    called: ClassVar[str] = "proxmox"
    example: ClassVar[str] = "[proxmox]"

    agents: bool = True
    """Whether to hear agents in guests, where a guest has a port for one."""

    def guests_of(self) -> str:
        """As the section says."""
        return "this Proxmox VE node"

    def steers(self, around: Around) -> str:
        """As the section says."""
        return f"Proxmox VE's VMs below {around.root}"

    def hypervisor(self, around: Around) -> Hypervisor:
        """As the section says."""
        from ballonet.hypervisors.proxmox.adapter import ProxmoxHypervisor  # noqa: PLC0415 adapters take a while to load

        return ProxmoxHypervisor(around.root, listens=self.agents)
