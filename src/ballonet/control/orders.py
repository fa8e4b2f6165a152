"""What an operator says while the daemon runs: kept in a file of its own, so that a hold outlives a restart.

The configuration is the operator's own file and is never written. Orders count before it, until they are taken back.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ballonet.control.kept import Kept
from ballonet.control.messages import Hold, HoldOrder, Orders
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.terms import UNSAID, Terms
from ballonet.model.text import typed
from ballonet.model.units import format_size, span_words
from ballonet.status.errors import ConflictError


def key_of(orders: Orders, name: str, guests: Iterable[Guest]) -> str:
    """By what a guest's orders are kept: its UUID, whatever it is called later; its name while none of that name is up.

    Args:
        orders: as they stand.
        name: as an operator names it, or its UUID.
        guests: that are up.
    """
    for guest in guests:
        if name in (guest.name, guest.uuid):
            return guest.uuid or guest.name
    return next((key for key, called in orders.names.items() if called == name), name)


def bound(orders: Orders, guests: Iterable[Guest]) -> Orders:
    """The same, with what was said of guests that were not up now kept by the UUIDs of those that are."""
    loose = {key for key in (*orders.guests, *orders.holds) if key not in orders.names}
    found = {guest.name: guest.uuid for guest in guests if guest.name in loose and guest.uuid} if loose else {}
    if not found:
        return orders
    return replace(
        orders,
        guests={found.get(key, key): order for key, order in orders.guests.items()},
        holds={found.get(key, key): hold for key, hold in orders.holds.items()},
        names=orders.names | {uuid: name for name, uuid in found.items()},
    )


def _kept(orders: Orders, key: str = "", name: str = "") -> Orders:
    """The same, with the name of a guest whose UUID is known, without those of which nothing is ordered any more."""
    names = orders.names | ({key: name} if key != name else {})
    return replace(orders, names={key: name for key, name in names.items() if key in orders.guests or key in orders.holds})


def order_of(orders: Orders, guest: Guest) -> Terms:
    """What was ordered of a guest."""
    return orders.guests.get(guest.uuid) or orders.guests.get(guest.name) or UNSAID


def held(orders: Orders, guest: Guest | None, now: float) -> str:
    """Why a guest is on hold, in words; empty = it is not.

    Args:
        orders: as they stand.
        guest: None = the whole host.
        now: seconds since 1970.
    """
    return next((in_words(hold, now, command) for hold, command in _holds(orders, guest, now)), "")


def in_words(hold: Hold, now: float, command: str) -> str:
    """What a hold is, how long it stands, why, and what ends it."""
    rest = "" if hold.until is None else f" for {span_words(hold.until - now)} more"
    back = " with all of its memory" if hold.deflates else ""
    why = f" ({hold.why})" if hold.why else ""
    return f"on hold{back}{rest}{why}; to let it go: {command}"


def deflates(orders: Orders, guest: Guest, now: float) -> bool:
    """Whether a guest is on hold that gets all of its memory back."""
    return next((hold.deflates for hold, _ in _holds(orders, guest, now)), False)


def _holds(orders: Orders, guest: Guest | None, now: float) -> Iterator[tuple[Hold, str]]:
    """Those that stand, each with the command that ends it; one that moves nothing at all comes before one that deflates."""
    own = (orders.holds.get(guest.uuid) or orders.holds.get(guest.name)) if guest else None
    both = ((orders.hold, "ballonet release"), (own, typed("release", guest.name if guest else "")))
    stand = [(hold, command) for hold, command in both if hold is not None and not is_over(hold, now)]
    yield from sorted(stand, key=lambda one: one[0].deflates)


def is_over(hold: Hold, now: float) -> bool:
    """Whether its time has passed."""
    return hold.until is not None and now >= hold.until


def standing(orders: Orders, now: float) -> Orders:
    """The same without holds whose time has passed."""
    holds = {key: hold for key, hold in orders.holds.items() if not is_over(hold, now)}
    return _kept(replace(orders, holds=holds, hold=None if orders.hold and is_over(orders.hold, now) else orders.hold))


def was_held(orders: Orders, key: str, now: float) -> str:
    """What to say to an operator who lets a guest go, or all when `key` is empty, and nothing is on hold; else nothing."""
    holds = [orders.holds[key]] if key in orders.holds else []
    if not key:
        holds = [*([orders.hold] if orders.hold else []), *orders.holds.values()]
    if not holds:
        return "it was not on hold" if key else "nothing was on hold"
    return "the hold had ended by itself" if all(is_over(hold, now) for hold in holds) else ""


def with_hold(orders: Orders, key: str, order: HoldOrder, now: float, name: str = "") -> Orders:
    """The same with a guest on hold, or the whole host when `key` is empty. Raises ConflictError when memory would be given back
    to one of which nothing is to be moved.
    """
    old = orders.holds.get(key) if key else orders.hold
    if order.deflates and old is not None and not old.deflates and not is_over(old, now):
        raise ConflictError(f"{name or 'every guest'} is on hold, so nothing of it moves: first {typed('release', name)}")
    hold = Hold(since=now, until=None if order.for_s is None else now + order.for_s, why=order.why, deflates=order.deflates)
    return _kept(replace(orders, holds=orders.holds | {key: hold}), key, name) if key else replace(orders, hold=hold)


def without_hold(orders: Orders, key: str) -> Orders:
    """The same with a guest let go; all of them, and the whole host, when `key` is empty."""
    if not key:
        return _kept(replace(orders, hold=None, holds={}))
    return _kept(replace(orders, holds={one: hold for one, hold in orders.holds.items() if one != key}))


def with_mode(orders: Orders, mode: Mode | None) -> Orders:
    """The same with another mode of the host; None = the configuration's."""
    return replace(orders, mode=mode)


def with_guest(orders: Orders, key: str, order: Mapping[str, Any], name: str) -> Orders:
    """The same with what `order` names set, or taken back where it says None.

    Raises:
        ConflictError: floor and ceiling contradict each other.
    """
    both = Terms(**(orders.guests.get(key, UNSAID).said() | dict(order)))
    floor, ceiling = both.floor_bytes, both.ceiling_bytes
    if floor is not None and ceiling is not None and floor > ceiling:
        text = f"a floor of {format_size(floor)} is above the ceiling of {format_size(ceiling)}; lower it or raise the ceiling"
        raise ConflictError(f"{name}: {text}")
    rest = {one: kept for one, kept in orders.guests.items() if one != key}
    return _kept(replace(orders, guests=rest | ({key: both} if both.said() else {})), key, name)


class OrderBook(Kept[Orders]):
    """The file."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: where orders are kept; made when there is something to keep.
        """
        super().__init__(path, Orders)

    def read(self, now: float) -> tuple[Orders, str]:
        """The orders, and what was wrong with the file: it may have held a hold, so everything is on hold then."""
        found, trouble = self.load()
        return (Orders(hold=Hold(since=now, why="the orders of before cannot be read")) if trouble else found), trouble

    def write(self, orders: Orders) -> None:
        """All or nothing. Raises ControlError."""
        self.save(replace(orders, notes=()))
