"""What operators order while the daemon runs: taken, kept, told to history with who and when."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from ballonet.control.messages import HoldOrder, Orders
from ballonet.control.notes import order_sentence, set_notes
from ballonet.control.orders import (
    OrderBook,
    bound,
    deflates,
    held,
    key_of,
    order_of,
    standing,
    was_held,
    with_guest,
    with_hold,
    with_mode,
    without_hold,
)
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.terms import NORMAL, Terms
from ballonet.model.units import span_words
from ballonet.status.errors import ControlError, NoSuchGuestError
from ballonet.status.words import Change

log = logging.getLogger(__name__)

_NO_NAMES: Final = frozenset({".", ".."})
"""Folders, and never a VM: libvirt, Proxmox VE and others keep files under a VM's name."""
ORDER: Final = "order"
"""What stands in history in place of a decision's reason."""


class Ordering:
    """The orders as they stand."""

    def __init__(
        self,
        book: OrderBook,
        clock: Callable[[], float],
        guests: Callable[[], tuple[Guest, ...]],
        on_orders: Callable[[], None],
        tell: Callable[[Change], None],
    ) -> None:
        """Args:
        book: where they are kept.
        clock: seconds since 1970.
        guests: that are up.
        on_orders: told when orders changed.
        tell: to history.
        """
        self._book, self._clock, self._guests, self._on_orders, self._tell = book, clock, guests, on_orders, tell
        self._changing = asyncio.Lock()
        self.terms_of: Callable[[Guest], Terms] = lambda _guest: NORMAL
        """What counts for a guest, orders and configuration together."""
        self.orders, trouble = book.read(clock())
        if trouble:
            log.error("orders cannot be read; everything is on hold: ballonet release", extra={"trouble": trouble})

    # For the loop

    def hold_of(self, guest: Guest | None) -> str:
        """Why a guest, or the whole host, is on hold; empty = it is not."""
        return held(self.orders, guest, self._clock()) if self.orders.hold or self.orders.holds else ""

    def deflates(self, guest: Guest) -> bool:
        """Whether that hold gives the guest all of its memory back."""
        return deflates(self.orders, guest, self._clock())

    def order_of(self, guest: Guest) -> Terms:
        """What was ordered of a guest."""
        return order_of(self.orders, guest)

    def bind(self, guests: tuple[Guest, ...]) -> None:
        """Guests came of which something was ordered by name: from here on it is theirs, whatever they are called."""
        if (orders := bound(self.orders, guests)) is self.orders:
            return
        with contextlib.suppress(ControlError):  # by name they have it all the same; tried again at the next order
            self._book.write(orders)
        self.orders = orders

    # For clients

    async def set_guest(self, name: str, order: Mapping[str, Any], by: str) -> Orders:
        """Sets what `order` names, of a guest that may come later. Raises ControlError."""
        guest = self._guest(name)
        before = self.terms_of(guest) if guest else None
        what = order_sentence(order)
        orders = await self._change(lambda orders, key: with_guest(orders, key, order, self._called(name)), name, what, by)
        if guest is None or before is None:
            is_kept = any(value is not None for value in order.values())
            return replace(orders, notes=(what, self._awaited(name)) if is_kept else (f"nothing is ordered of {name!r}",))
        return replace(orders, notes=set_notes(guest, order, before, self.terms_of(guest)))

    async def hold(self, name: str, order: HoldOrder, by: str) -> Orders:
        """Moves nothing of a guest, or of any when `name` is empty. Raises ControlError."""
        called, now = self._called(name), self._clock()
        span = "" if order.for_s is None else f" for {span_words(order.for_s)}"
        back = " with all of its memory" if order.deflates else ""
        what = f"is put on hold{back}{span}" + (f": {order.why}" if order.why else "")
        orders = await self._change(lambda orders, key: with_hold(orders, key, order, now, called), name, what, by)
        return orders if not name or self._guest(name) else replace(orders, notes=(self._awaited(name),))

    async def release(self, name: str, by: str) -> Orders:
        """Lets it go again. Raises ControlError."""
        key = key_of(self.orders, name, self._guests()) if name else ""
        if name and self._guest(name) is None and key not in self.orders.guests and key not in self.orders.holds:
            raise NoSuchGuestError(f"no guest {name!r} here; there are: {self._names()}")
        note = was_held(self.orders, key, self._clock())
        if without_hold(self.orders, key) == self.orders:
            return replace(self.orders, notes=(note,))  # nothing is changed, so nothing is written down
        orders = await self._change(without_hold, name, "is let go", by)
        return replace(orders, notes=(note,)) if note else orders

    async def set_mode(self, mode: Mode | None, by: str) -> Orders:
        """Of the host. Raises ControlError."""
        what = f"mode {mode.value}" if mode else "mode as configured"
        return await self._change(lambda orders, _key: with_mode(orders, mode), "", what, by)

    def _guest(self, name: str) -> Guest | None:
        if not name:
            return None  # all of them, as a guest without a UUID must not be taken for
        return next((guest for guest in self._guests() if name in (guest.name, guest.uuid)), None)

    def _called(self, name: str) -> str:
        """The name of a guest that may have been named by its UUID."""
        guest = self._guest(name)
        return guest.name if guest else name

    def _names(self) -> str:
        return ", ".join(sorted(guest.name for guest in self._guests())) or "none at all"

    def _awaited(self, name: str) -> str:
        return f"no guest {name!r} is up; it is kept for when one comes. There are: {self._names()}"

    async def _change(self, change: Callable[[Orders, str], Orders], name: str, what: str, by: str) -> Orders:
        """Changes the orders, of the guest that is called so, or of the host when `name` is empty."""
        if name in _NO_NAMES:
            raise NoSuchGuestError(f"no guest {name!r}, and there can be none; there are: {self._names()}")
        async with self._changing:
            old = standing(self.orders, self._clock())
            orders = change(old, key_of(old, name, self._guests()) if name else "")
            await asyncio.to_thread(self._book.write, orders)
            self.orders = orders
        called = self._called(name)
        log.warning("ordered", extra={"guest": called, "what": what, "by": by})
        self._tell(Change(at=self._clock(), guest=called, reason=ORDER, sentence=what, by=by))
        self._on_orders()
        return orders
