"""One picture per tick: the host, and every guest with its operator's settings."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from ballonet.hypervisors.contract import Hypervisor
from ballonet.model.room import Room
from ballonet.model.snapshot import Guest, Mode, Snapshot
from ballonet.model.terms import FIELDS, NORMAL, GuestSettings, Terms
from ballonet.sense.host import HostSense

_PLAIN: Final = tuple(name for name in FIELDS if name in Guest.__struct_fields__ and name not in {"ceiling_bytes", "mode"})
"""Terms that a guest has as they are said."""


class Observer:
    """Takes the pictures."""

    def __init__(
        self,
        host: HostSense,
        hypervisor: Hypervisor,
        settings: Callable[[Guest], GuestSettings],
        rooms: Callable[[], tuple[Room, ...]] = tuple,
    ) -> None:
        """Args:
        host: reads the host.
        hypervisor: knows the guests.
        settings: the operator's word on a guest.
        rooms: for VMs that are about to start.
        """
        self._host = host
        self._hypervisor = hypervisor
        self._settings = settings
        self._rooms = rooms
        self._plain: dict[str, tuple[Terms, dict[str, Any]]] = {}
        """By name: terms, and what of them a guest has as they are."""
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
        if len(self._plain) > 2 * len(guests) + 64:
            self._plain.clear()  # of guests that have gone
        return Snapshot(host=around.host, guests=tuple(made for _, _, made in self._last.values()), rooms=self._rooms())

    def _with_settings(self, guest: Guest, own_limit: int | None) -> tuple[Guest, GuestSettings, Guest]:
        settings = self._settings(guest)
        terms = settings.terms
        if own_limit is not None and own_limit < (terms.ceiling_bytes or guest.ceiling_bytes):
            settings = replace(settings, terms=replace(terms, ceiling_bytes=own_limit))
        last = self._last.get(guest.name)
        if last is not None and last[0] is guest and last[1] == settings and last[2].limit_bytes == own_limit:
            return last  # the very same reading stays the very same guest, which `decide` need not look at again
        plain = self._plain.get(guest.name)
        if plain is None or plain[0] is not settings.terms:
            plain = self._plain[guest.name] = settings.terms, _plain(settings.terms)
        return guest, settings, _with_terms(guest, settings, plain[1], own_limit)


def _plain(terms: Terms) -> dict[str, Any]:
    resolved = terms.over(NORMAL)
    return {name: getattr(resolved, name) for name in _PLAIN}


def _with_terms(guest: Guest, settings: GuestSettings, plain: Mapping[str, Any], own_limit: int | None) -> Guest:
    terms = settings.terms
    ceiling = guest.ceiling_bytes if terms.ceiling_bytes is None else terms.ceiling_bytes
    return replace(
        guest,
        **plain,
        ceiling_bytes=min(guest.ceiling_bytes, ceiling),
        limit_bytes=own_limit,
        given_bytes=guest.ceiling_bytes if ceiling < guest.ceiling_bytes else None,
        **terms.portions(guest.ceiling_bytes),
        mode=terms.mode or Mode.ACT,
        leave_alone=guest.leave_alone if settings.deflates else settings.hold or guest.leave_alone,
        deflates=settings.hold if settings.deflates else "",
        grows_to_bytes=ceiling if ceiling > guest.ceiling_bytes else None,
    )
