"""The lab's host: a budget of memory, and what the guests' RAM really occupies of it.

Measured from the memory that backs each guest's RAM, so no guest and no hypervisor can be wrong about it. QEMU's own
memory is not the guests' and not counted.
"""

from collections.abc import Mapping, Sequence

from ballonet.lab.machine import Machine
from ballonet.model.snapshot import Host
from ballonet.sense.host import Around


class BudgetHost:
    """A host that has `budget_bytes` for guests. Reads like any other (`sense.host.HostSense`)."""

    def __init__(self, budget_bytes: int, machines: Sequence[Machine]) -> None:
        self.budget_bytes = budget_bytes
        self._machines = machines

    def occupied_bytes(self) -> int:
        """What all guests' RAM occupies now."""
        return sum(machine.occupied_bytes() for machine in self._machines)

    def read(self, _pids: Mapping[str, int], _resident: Mapping[str, int]) -> Around:
        """The host now: the budget knows its guests."""
        return Around(Host(total_bytes=self.budget_bytes, available_bytes=max(0, self.budget_bytes - self.occupied_bytes())))
