"""What the daemon does for clients of the API."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import msgspec

from ballonet.control.messages import HoldOrder, Orders, RoomOrder
from ballonet.model.finding import Finding
from ballonet.model.snapshot import Mode
from ballonet.status.words import Explanation, RoomStatus, Status


class ControlService(Protocol):
    """Each raises ControlError when it cannot be done."""

    def status(self) -> Status:
        """The host and its guests at the last tick."""
        ...

    def status_json(self) -> msgspec.Raw:
        """The same as JSON."""
        ...

    def lives(self) -> AsyncIterator[bytes]:
        """The same as JSON at each tick from now on, at most one a second; a slow client misses some."""
        ...

    async def explain(self, name: str, at: float | None) -> Explanation | msgspec.Raw:
        """One guest now, or at a time of the past."""
        ...

    def orders(self) -> Orders:
        """What stands."""
        ...

    async def set_guest(self, name: str, order: Mapping[str, Any], by: str) -> Orders:
        """Sets what `order` names, of a guest that may come later."""
        ...

    async def hold(self, name: str, order: HoldOrder, by: str) -> Orders:
        """Moves nothing of a guest, or of any when `name` is empty."""
        ...

    async def release(self, name: str, by: str) -> Orders:
        """Lets it go again."""
        ...

    async def set_mode(self, mode: Mode | None, by: str) -> Orders:
        """Of the host."""
        ...

    def rooms(self) -> list[RoomStatus]:
        """Memory for VMs that are about to start."""
        ...

    def room(self, key: str) -> RoomStatus:
        """One of them."""
        ...

    async def ask_room(self, key: str, order: RoomOrder, by: str) -> RoomStatus:
        """Asks for one, and waits for it as the order says."""
        ...

    async def cancel_room(self, key: str, by: str) -> RoomStatus:
        """Takes it back."""
        ...

    async def changes(self, name: str, since: float, until: float, limit: int) -> msgspec.Raw:
        """Decisions of the past as JSON, the newest last; of all guests when `name` is empty."""
        ...

    async def samples(self, name: str, since: float, until: float, limit: int) -> msgspec.Raw:
        """What a guest kept, used and needed, as JSON, evenly thinned out to `limit`; of the host when `name` is empty."""
        ...

    async def findings(self) -> list[Finding]:
        """What stands in the way."""
        ...

    def metrics(self) -> bytes:
        """For Prometheus."""
        ...
