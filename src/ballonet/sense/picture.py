"""One picture per tick: the host, and every guest with its operator's settings."""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from ballonet.hypervisors.contract import Hypervisor
from ballonet.model.settings import NO_HEADROOM, Headroom
from ballonet.model.snapshot import Guest, Mode, Snapshot
from ballonet.sense.host import HostSense


class GuestSettings(Struct, frozen=True, kw_only=True):
    """What the operator says of one guest."""

    floor_bytes: int | None = None
    ceiling_bytes: int | None = None
    """Less than the guest was given, if it shall never have all of it back."""
    guaranteed_bytes: int = 0
    shares: int = 1000
    mode: Mode = Mode.ACT
    headroom: Headroom = NO_HEADROOM
    """What it shall have free at any time."""
    hold: str = ""
    """Why nothing of it is to be moved, in words; empty = it may be."""
    deflates: bool = False
    """Whether a guest on hold gets all of its memory back first."""

    def headroom_bytes(self, ceiling_bytes: int) -> int:
        """That in bytes, for a guest of this size."""
        return max(self.headroom.bytes, int(self.headroom.share * ceiling_bytes))


class Eye:
    """Takes the pictures."""

    def __init__(self, host: HostSense, hypervisor: Hypervisor, settings: Callable[[Guest], GuestSettings]) -> None:
        """Args:
        host: reads the host.
        hypervisor: knows the guests.
        settings: the operator's word on a guest.
        """
        self._host = host
        self._hypervisor = hypervisor
        self._settings = settings
        self._last: dict[str, tuple[Guest, GuestSettings, Guest]] = {}
        """By name: a reading, the settings at that time, and what was made of them."""

    def look(self) -> Snapshot:
        """The world now. Guests first: what one takes between the two readings is missing from available then, and
        an error to that side promises too little. Raises SenseError.
        """
        guests = self._hypervisor.guests()
        resident = {guest.name: guest.resident_bytes for guest in guests if guest.resident_bytes is not None}
        around = self._host.read(self._hypervisor.pids(), resident)
        self._last = {guest.name: self._with_settings(guest, around.own_limits.get(guest.name)) for guest in guests}
        return Snapshot(host=around.host, guests=tuple(made for _, _, made in self._last.values()))

    def _with_settings(self, guest: Guest, own_limit: int | None) -> tuple[Guest, GuestSettings, Guest]:
        settings = self._settings(guest)
        if own_limit is not None and own_limit < (settings.ceiling_bytes or guest.ceiling_bytes):
            settings = replace(settings, ceiling_bytes=own_limit)
        last = self._last.get(guest.name)
        if last is not None and last[0] is guest and last[1] == settings and last[2].limit_bytes == own_limit:
            return last  # the very same reading stays the very same guest, which `decide` need not look at again
        ceiling = guest.ceiling_bytes if settings.ceiling_bytes is None else settings.ceiling_bytes
        made = replace(
            guest,
            ceiling_bytes=min(guest.ceiling_bytes, ceiling),
            floor_bytes=settings.floor_bytes,
            guaranteed_bytes=settings.guaranteed_bytes,
            limit_bytes=own_limit,
            given_bytes=guest.ceiling_bytes if ceiling < guest.ceiling_bytes else None,
            headroom_bytes=settings.headroom_bytes(guest.ceiling_bytes),
            shares=settings.shares,
            mode=settings.mode,
            leave_alone=guest.leave_alone if settings.deflates else settings.hold or guest.leave_alone,
            deflates=settings.hold if settings.deflates else "",
            grows_to_bytes=ceiling if ceiling > guest.ceiling_bytes else None,
        )
        return guest, settings, made
