"""`[qemu]`."""

from typing import ClassVar

from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.section import Around, Section


class QemuConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[qemu]`: guests behind QMP sockets."""

    called: ClassVar[str] = "qemu"
    example: ClassVar[str] = '[qemu] with sockets = ["/run/qemu/*.qmp"]'

    sockets: tuple[str, ...] = ()
    """QMP sockets, wildcards allowed. ballonet needs one to itself: a socket serves one client at a time."""
    agents: bool = True
    """Whether to hear agents in guests, ballonet's and QEMU's, where a guest has a port for one."""

    @property
    def names_guests(self) -> bool:
        """Not without sockets."""
        return bool(self.sockets)

    def contradiction(self) -> str:
        """As the section says."""
        if "" in self.sockets:
            return "at `qemu.sockets`: one of them is empty; write a path, like /run/qemu/*.qmp, or leave it out"
        return ""

    def guests_of(self) -> str:
        """As the section says."""
        return ", ".join(self.sockets)

    def steers(self, around: Around) -> str:  # noqa: ARG002 some sections need it
        """Nothing: a QMP socket serves one client at a time."""
        return ""

    def hypervisor(self, around: Around) -> Hypervisor:
        """As the section says."""
        from ballonet.hypervisors.qemu.adapter import QemuHypervisor  # noqa: PLC0415 adapters take a while to load

        return QemuHypervisor(self.sockets, around.root, listens=self.agents)
