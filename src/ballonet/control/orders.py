"""What an operator says while the daemon runs: kept in a file of its own, so that a hold outlives a restart.

The configuration is the operator's own file and is never written. Orders count before it, until they are taken back.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ballonet.control.messages import ConflictError, ControlError, GuestOrder, Hold, HoldOrder, Orders, given
from ballonet.model.decode import UndecodableError, decoded
from ballonet.model.snapshot import Mode
from ballonet.model.units import format_size


def held(orders: Orders, name: str, now: float) -> str:
    """Why a guest is on hold, in words; empty = it is not.

    Args:
        orders: as they stand.
        name: of the guest; empty = the whole host.
        now: seconds since 1970.
    """
    for hold, command in ((orders.hold, "ballonet release"), (orders.holds.get(name), f"ballonet release {name}")):
        if hold is not None and (hold.until is None or now < hold.until):
            rest = "" if hold.until is None else f" for {(hold.until - now) / 60:.0f} min more"
            why = f" ({hold.why})" if hold.why else ""
            return f"on hold{rest}{why}; to let it go: {command}"
    return ""


def with_hold(orders: Orders, name: str, order: HoldOrder, now: float) -> Orders:
    """The same with a guest on hold, or the whole host when `name` is empty."""
    hold = Hold(since=now, until=None if order.for_s is None else now + order.for_s, why=order.why)
    return replace(orders, holds=orders.holds | {name: hold}) if name else replace(orders, hold=hold)


def without_hold(orders: Orders, name: str) -> Orders:
    """The same with a guest let go; all of them, and the whole host, when `name` is empty."""
    if not name:
        return replace(orders, hold=None, holds={})
    return replace(orders, holds={one: hold for one, hold in orders.holds.items() if one != name})


def with_mode(orders: Orders, mode: Mode | None) -> Orders:
    """The same with another mode of the host; None = the configuration's."""
    return replace(orders, mode=mode)


def with_guest(orders: Orders, name: str, order: GuestOrder) -> Orders:
    """The same with what `order` names set. Raises ConflictError when floor and ceiling contradict each other."""
    old = given(orders.guests.get(name, GuestOrder()))
    both: dict[str, Any] = {key: value for key, value in (old | given(order)).items() if value is not None}
    floor, ceiling = both.get("floor_bytes"), both.get("ceiling_bytes")
    if floor is not None and ceiling is not None and floor > ceiling:
        text = f"a floor of {format_size(floor)} is above the ceiling of {format_size(ceiling)}; lower it or raise the ceiling"
        raise ConflictError(f"{name}: {text}")
    rest = {one: kept for one, kept in orders.guests.items() if one != name}
    return replace(orders, guests=rest | ({name: GuestOrder(**both)} if both else {}))


class OrderBook:
    """The file."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: where orders are kept; made when there is something to keep.
        """
        self._path = path

    def read(self, now: float) -> tuple[Orders, str]:
        """The orders, and what was wrong with the file: it may have held a hold, so everything is on hold then."""
        try:
            return decoded(self._path.read_bytes(), Orders), ""
        except FileNotFoundError:
            return Orders(), ""
        except (OSError, UndecodableError) as error:
            trouble = f"{self._path}: {error}"
            with contextlib.suppress(OSError):
                self._path.rename(self._path.with_suffix(".damaged"))
            return Orders(hold=Hold(since=now, why="the orders of before cannot be read")), trouble

    def write(self, orders: Orders) -> None:
        """All or nothing: a daemon that dies, or a disk that is full, leaves the old ones. Raises ControlError."""
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as file:
                file.write(msgspec.json.encode(orders))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            raise ControlError(f"cannot write {self._path}: {error.strerror}; nothing is changed") from error
