"""What goes over the control API: frozen values, each a JSON object. Sizes in bytes, times in seconds, unknown = null."""

from typing import Annotated

from msgspec import Meta, Struct

from ballonet.model.snapshot import Mode
from ballonet.model.terms import Terms

Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
"""Up to a year."""
Why = Annotated[str, Meta(max_length=200)]


class HoldOrder(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """For how long nothing is moved, and why; without `for_s` until released."""

    for_s: Seconds | None = None
    why: Why = ""
    deflates: bool = False
    """All of its memory is given back first, as far as the host has it."""


class ModeOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ballonet does on this host until it is told otherwise; null goes back to the configuration."""

    mode: Mode | None


class Hold(Struct, frozen=True, kw_only=True):
    """A hold as it stands."""

    since: float
    until: float | None = None
    why: str = ""
    deflates: bool = False


class Orders(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ballonet.orders/1`: all that an operator has said since the configuration was written."""

    schema: str = "ballonet.orders/1"
    mode: Mode | None = None
    hold: Hold | None = None
    """Of all guests."""
    holds: dict[str, Hold] = {}
    """By UUID; by name until one of that name is up."""
    guests: dict[str, Terms] = {}
    """The same."""
    names: dict[str, str] = {}
    """By UUID: the name that the guest had when it was ordered."""
    notes: tuple[str, ...] = ()
    """What is in force by the last order, and what of it contradicts what else; not kept."""
