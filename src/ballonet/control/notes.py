"""What an order comes to, for whoever gave it: what is in force now, what was before, and what does not go together."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from ballonet.decide.floor import default_floor_bytes
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.units import format_size
from ballonet.sense.contradictions import of_guest
from ballonet.sense.picture import GuestSettings


def set_notes(guest: Guest, ordered: Mapping[str, Any], before: GuestSettings, after: GuestSettings) -> tuple[str, ...]:
    """One line on each thing that was set, then what of it contradicts the guest or what else is set.

    Args:
        guest: as it was at the last look.
        ordered: what was set, by the names of GuestOrder.
        before: what counted for it.
        after: what counts now.
    """
    told = [f"{name.removesuffix('_bytes')} {_now(guest, name, after)} (was {_now(guest, name, before)})" for name in ordered]
    most = guest.ceiling_bytes if after.ceiling_bytes is None else after.ceiling_bytes
    if before.ceiling_bytes is None:  # else what the guest has is not known here, but that it has so much
        most = min(most, guest.ceiling_bytes)
    made = replace(guest, ceiling_bytes=max(1, most), floor_bytes=after.floor_bytes, guaranteed_bytes=after.guaranteed_bytes)
    return (*told, *(f"{what}; {remedy}" for what, remedy in of_guest(made)))


def order_sentence(ordered: Mapping[str, Any]) -> str:
    """What was set, in words: for history."""
    return "set " + ", ".join(f"{name.removesuffix('_bytes')} {_said(name, value)}" for name, value in ordered.items())


def _said(name: str, value: Any) -> str:
    if value is None:
        return "as configured"
    if isinstance(value, Mode):
        return value.value
    return str(value) if name == "shares" else format_size(value)


def _now(guest: Guest, name: str, settings: GuestSettings) -> str:
    value = getattr(settings, name)
    if isinstance(value, Mode):
        return value.value
    if name == "shares":
        return str(value)
    if value is not None:
        return format_size(value)
    return f"{format_size(default_floor_bytes(guest.ceiling_bytes))}, by its size" if name == "floor_bytes" else "none"
