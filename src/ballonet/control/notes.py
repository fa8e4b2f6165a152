"""What an order comes to, for the operator who gave it: what is in force now, what was before, and what does not go together."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from ballonet.decide.floor import default_floor_bytes
from ballonet.model.snapshot import Guest
from ballonet.model.terms import Terms, in_words, name_of, sentence
from ballonet.model.units import format_size
from ballonet.sense.contradictions import of_guest


def set_notes(guest: Guest, ordered: Mapping[str, Any], before: Terms, after: Terms) -> tuple[str, ...]:
    """One line on each thing that was set, then what of it contradicts the guest or what else is set.

    Args:
        guest: as it was at the last look.
        ordered: what was set, by the names of Terms.
        before: what counted for it.
        after: what counts now.
    """
    told = [_told(guest, name, ordered[name], before, after) for name in ordered]
    most = guest.ceiling_bytes if after.ceiling_bytes is None else after.ceiling_bytes
    if before.ceiling_bytes is None:  # else what the guest has is not known here, but that it has at least this
        most = min(most, guest.ceiling_bytes)
    made = replace(guest, ceiling_bytes=max(1, most), floor_bytes=after.floor_bytes, guaranteed_bytes=after.guaranteed_bytes)
    return (*told, *(f"{what}; {remedy}" for what, remedy in of_guest(made)))


def order_sentence(ordered: Mapping[str, Any]) -> str:
    """What was set, in words: for history."""
    return f"set {sentence(ordered)}"


def _told(guest: Guest, name: str, wanted: Any, before: Terms, after: Terms) -> str:
    """What is in force of one, and was; of a mode that is more than the host's, that it is not in force."""
    now = _now(guest, name, after)
    if name == "mode" and wanted is not None and wanted is not after.mode:
        return f"mode {in_words(name, wanted)} is ordered and not in force: the host's is {now} (`ballonet mode`)"
    return f"{name_of(name)} {now} (was {_now(guest, name, before)})"


def _now(guest: Guest, name: str, terms: Terms) -> str:
    value = getattr(terms, name)
    if value is None and name == "floor_bytes":
        return f"{format_size(default_floor_bytes(guest.ceiling_bytes))}, by its size"
    return "none" if value is None else in_words(name, value)
