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


class RoomOrder(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Room for a VM that is about to start."""

    bytes: Annotated[int, Meta(gt=0, le=1 << 50)]
    """What the VM may take before its balloon answers: all of its memory, unless less is known."""
    least_bytes: Annotated[int, Meta(gt=0, le=1 << 50)] | None = None
    """With less it is of no use; null = with less than `bytes`."""
    name: Annotated[str, Meta(max_length=255)] = ""
    """The VM's; empty = the key is its name."""
    wait_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """How long the client goes on waiting: meanwhile the room may queue, and does not expire. One answer takes 30 s at most."""
    expires_s: Annotated[float, Meta(gt=0, le=86_400)] = 120.0
    """How long it is kept after that, or once it is ready, while no VM takes it."""


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
