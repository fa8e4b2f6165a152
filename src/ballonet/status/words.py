"""What is told of a tick, now and of the past: frozen values, each a JSON object. Sizes in bytes, times in seconds since 1970,
unknown = null.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from ballonet.model.room import RoomState
from ballonet.model.snapshot import Mode

BOUND: Final = "ceiling binds"
"""How every face names a guest that lacks what its ceiling keeps from it."""


class GuestStatus(Struct, frozen=True, kw_only=True):
    """One guest now: what it is, needs, keeps and shall keep, and why."""

    name: str
    uuid: str
    mode: Mode
    ceiling_bytes: int
    """With its balloon empty."""
    keep_bytes: int | None
    resident_bytes: int | None
    """What its RAM occupies on the host."""
    available_bytes: int | None
    used_bytes: int | None
    need_bytes: int | None
    floor_bytes: int
    short_bytes: int
    """What it lacks of what it needs (R10)."""
    target_bytes: int | None
    is_command: bool
    reason: str
    sentence: str
    voice: str
    stats_age_s: float | None
    """Age of its statistics."""
    mechanisms: tuple[str, ...]
    leave_alone: str
    """Why, in words; empty = it is not."""
    trouble: str
    """What became of the last command, when it failed."""
    given_bytes: int | None = None
    """What its hypervisor gave it, where a ceiling or limit is lower; null = all of it."""
    is_bound: bool = False
    """It needs more than its ceiling, and was given more: the ceiling is what it lacks."""
    theirs: dict[str, int | str] = {}
    """What its hypervisor's own loop does with it, where there is one: as in `ballonet.snapshot/1`."""
    asked: dict[str, int | str | None] = {}
    """What is asked of its hypervisor now: keep_bytes, or what its own loop is to go by; empty = nothing."""


class HostStatus(Struct, frozen=True, kw_only=True):
    """The host and the daemon now."""

    at: float
    """Seconds since 1970, UTC."""
    version: str
    mode: Mode
    policy: str
    hold: str
    """Why all guests are on hold; empty = they are not."""
    state: str
    """high, clear, soft, hard or low (R14)."""
    is_alarming: bool
    total_bytes: int
    available_bytes: int
    guests_bytes: int
    """For guests: what they hold and what is available."""
    promised_bytes: int
    """What guests may take without asking again."""
    reserve_bytes: int
    sentence: str
    """Why this much is kept free."""
    pressure_share: float
    """PSI some avg10 of memory."""
    tick_s: float
    """How long the last tick took."""
    next_s: float = 1.0
    """After how long the next one was due, if nothing happened before."""
    theirs: str = ""
    """The state that the hypervisor's own loop sees, in its words; empty = there is none."""


class LimitStatus(Struct, frozen=True, kw_only=True):
    """A limit of the host around some guests (a slice, a cgroup), that binds besides the host itself."""

    name: str
    guests_bytes: int
    """For these guests: what they hold of it and what is left."""
    promised_bytes: int
    """What they may take without asking again."""
    guests: tuple[str, ...]


Bytes = Annotated[int, Meta(ge=0, le=1 << 50)]


class RoomStatus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ballonet.room/1`: memory that is gathered and kept for a VM that is about to start."""

    schema: str = "ballonet.room/1"
    key: str
    """Its UUID, else its name."""
    name: str
    state: RoomState
    asked_bytes: Bytes
    least_bytes: Bytes
    """With less than this it is of no use."""
    granted_bytes: Bytes = 0
    """What it is to have: all that was asked for, or what can be had of it."""
    gathered_bytes: Bytes = 0
    """What of that the host has available."""
    can_bytes: Bytes = 0
    """What could be had for it when it was judged."""
    eta_s: float | None = None
    """In how many seconds it will be there, at the speed at which balloons take; null = nobody knows."""
    waits: bool = False
    """It may queue."""
    asked_at: float
    expires_s: Annotated[float, Meta(gt=0, le=86_400)]
    """How long it is kept once it is ready, or nobody waits for it any more."""
    expires_at: float
    ready_at: float | None = None
    taken_at: float | None = None
    settled_at: float | None = None
    stalled_at: float | None = None
    """Since when it cannot be had any more, though it was granted."""
    gone_at: float | None = None
    """Since when its VM, which had started, is not seen."""
    over_at: float | None = None
    reason: str
    sentence: str
    givers: dict[str, int] = {}
    """By guest: what it is giving just now."""
    helps: tuple[str, ...] = ()
    """What an operator could do, the most helpful first."""
    by: str = ""
    """Who asked."""


class Status(Struct, frozen=True, kw_only=True):
    """`ballonet.status/1`."""

    schema: str = "ballonet.status/1"
    host: HostStatus
    guests: tuple[GuestStatus, ...]
    limits: tuple[LimitStatus, ...] = ()
    rooms: tuple[RoomStatus, ...] = ()
    """For VMs that are about to start, in the order in which they were asked for."""


class Fact(Struct, frozen=True):
    """One number of an explanation."""

    what: str
    value: str


class Explanation(Struct, frozen=True, kw_only=True):
    """`ballonet.explanation/1`: one guest, in words."""

    schema: str = "ballonet.explanation/1"
    guest: str
    at: float
    is_past: bool
    sentence: str
    """What it keeps, and why."""
    reason: str
    facts: tuple[Fact, ...]
    host: str
    """How the host stands, in a sentence."""
    changes: tuple[str, ...]
    """What would change it: what ballonet waits for, and what an operator can do."""


class Change(Struct, frozen=True, kw_only=True):
    """Something that happened: a decision that differs from the one before, a command, or a balloon that others moved."""

    at: float
    guest: str
    """Empty = the whole host."""
    reason: str
    """Of a decision; `moved` = others moved its balloon, `order`, `reload`."""
    keep_bytes: int | None = None
    kept_bytes: int | None = None
    is_command: bool = False
    """Whether something is to be sent, by the plan; what became of it is in `done`."""
    asked: dict[str, int | str | None] = {}
    """What that is: keep_bytes, or what its hypervisor's own loop is to go by; empty = nothing."""
    sentence: str
    mode: str = ""
    """Of the guest at that time."""
    done: str = ""
    """What came of it: sent, waits (its memory is not there yet), failed, advised (nothing is sent then); empty = nothing."""
    by: str = ""
    """Who, of an order: a user, or a client with the token."""


class Sample(Struct, frozen=True, kw_only=True):
    """One guest at one moment of the past."""

    at: float
    guest: str
    keep_bytes: int | None
    resident_bytes: int | None
    used_bytes: int | None
    need_bytes: int | None
    reason: str


class HostSample(Struct, frozen=True):
    """The host at one moment of the past; sums over its guests."""

    at: float
    total_bytes: int
    available_bytes: int
    guests_bytes: int
    """For guests."""
    promised_bytes: int
    reserve_bytes: int
    keep_bytes: int
    used_bytes: int
    need_bytes: int
    short_bytes: int
    guests: int
    state: str
