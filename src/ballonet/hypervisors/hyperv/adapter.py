"""One Hyper-V host. Its own loop balloons and hot-adds; ballonet sets the bounds that it goes by."""

from pathlib import Path

from msgspec.structs import replace

from ballonet.hypervisors.contract import Capabilities, RefusedError
from ballonet.hypervisors.hyperv.config import HypervConfig
from ballonet.hypervisors.hyperv.session import HypervSession
from ballonet.hypervisors.remote.adapter import RemoteHypervisor, Row
from ballonet.model.knobs import BUFFER_PERCENT, PRIORITY, Bounds, Knobs, Steering
from ballonet.model.snapshot import Mechanism


class HypervHypervisor(RemoteHypervisor):
    """The VMs of one host."""

    def __init__(self, where: HypervConfig, password: str, state: Path) -> None:
        """Args:
        where: how to get in.
        password: of the user.
        state: folder for what guests' bounds were before.
        """
        super().__init__(where.server, state)
        self._where, self._password = where, password

    @property
    def capabilities(self) -> Capabilities:
        """It steers bounds; balloon and hot-add are Dynamic Memory's own."""
        return Capabilities(name="hyperv", steering=Steering.BOUNDS, mechanisms=frozenset({Mechanism.BALLOON}))

    def _connect(self) -> HypervSession:
        return HypervSession(self._where, self._password)

    def _check(self, row: Row, wish: Knobs) -> None:
        """The rules of Set-VMMemory, on a running VM."""
        old, name = row.knobs, row.guest.name
        if not isinstance(wish, Bounds) or not isinstance(old, Bounds):
            raise RefusedError(f"{name}: {wish} is not what Hyper-V has")
        if wish.minimum_bytes > old.minimum_bytes or wish.maximum_bytes < old.maximum_bytes:
            raise RefusedError(f"{name}: while it runs, its minimum can only fall and its maximum only rise ({wish}; now {old})")
        if not 0 < wish.minimum_bytes <= wish.maximum_bytes:
            raise RefusedError(f"{name}: {wish}: the minimum is not within 1 and the maximum")
        for value, (least, most) in ((wish.buffer_percent, BUFFER_PERCENT), (wish.priority, PRIORITY)):
            if not least <= value <= most:
                raise RefusedError(f"{name}: {wish}: {value} is not within {least} and {most}")

    def _back(self, row: Row, original: Knobs) -> tuple[Knobs, str]:
        """All of it while it is off; buffer and priority while it runs, and what the ratchet lets go back."""
        now = row.knobs
        if row.is_off or not isinstance(now, Bounds) or not isinstance(original, Bounds):
            return original, ""
        back = replace(
            original,
            minimum_bytes=min(now.minimum_bytes, original.minimum_bytes),
            maximum_bytes=max(now.maximum_bytes, original.maximum_bytes),
        )
        if back == original:
            return back, ""
        what = "its minimum rises and its maximum falls only while it is off"
        return back, f"buffer and priority are back; {what}: shut it down, run `ballonet restore` again"

    def _why_not(self) -> str:
        return "Hyper-V sizes balloons by itself; ballonet steers minimum, maximum, buffer and priority"
