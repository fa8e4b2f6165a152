"""Settings that contradict a guest, its host or each other: they count all the same, and are told."""

from collections.abc import Iterable, Iterator

from ballonet.model.finding import Finding, Level
from ballonet.model.snapshot import Guest, Snapshot
from ballonet.model.text import is_called
from ballonet.model.units import format_size


def of_guest(guest: Guest) -> Iterator[tuple[str, str]]:
    """What of one guest's settings does not go together, and the remedy."""
    most, stats = guest.ceiling_bytes, guest.stats
    for size, what in (
        (guest.floor_bytes, "its floor of {}"),
        (guest.guaranteed_bytes, "what is guaranteed to it, {},"),
        (guest.headroom_bytes, "the headroom that is set for it, {},"),
        (guest.cache_bytes, "the page cache that it is said to need, {},"),
    ):
        if size is not None and size > most:
            text = f"{what.format(format_size(size))} is above the {format_size(most)} that it may have at most"
            yield text, "a smaller one, or a larger ceiling or VM; until then it keeps all that it may have"
    if stats is None or stats.total_bytes is None or stats.available_bytes is None:
        return
    if (used := stats.total_bytes - stats.available_bytes) > most:
        text = f"it uses {format_size(used)}, and its ceiling is {format_size(most)}: it pages, or is killed where it has no swap"
        yield text, "a higher ceiling"


def findings(snapshot: Snapshot, settled: Iterable[str]) -> list[Finding]:
    """All contradictions on a host.

    Args:
        snapshot: with the settings in it.
        settled: the names that the configuration has settings for.
    """
    found = [
        Finding(level=Level.WARNING, where=guest.name, what=what, remedy=remedy)
        for guest in snapshot.guests
        for what, remedy in of_guest(guest)
    ]
    promised = sum(min(guest.guaranteed_bytes, guest.ceiling_bytes) for guest in snapshot.guests)
    if promised > snapshot.host.total_bytes:
        what = f"{format_size(promised)} are guaranteed to guests, and the host has {format_size(snapshot.host.total_bytes)}"
        found.append(Finding(level=Level.WARNING, where="host", what=what, remedy="smaller guarantees: these cannot be kept"))
    names = {name for guest in snapshot.guests for name in (guest.name, guest.uuid)}
    tags = {f"tag:{tag}" for guest in snapshot.guests for tag in guest.tags}
    for name in sorted(set(settled) - names - tags - {"default"}):
        if any(is_called(one, name) for one in names):
            continue  # a pattern
        what = f"[guest.{name}] is in the configuration, and no guest of that name is up"
        found.append(Finding(level=Level.NOTE, where=name, what=what, remedy="nothing, if it will come; else correct the name"))
    return found
