"""Room: memory for a VM that is about to start (R18). What was asked for, what became of it, and the sentence for that."""

import enum
import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from ballonet.model.units import format_size, span_words


class RoomState(enum.Enum):
    """Of a room, from the request to its end."""

    ASKED = "asked"
    """No tick has judged it yet."""
    QUEUED = "queued"
    """It cannot be had now, and the client that asked waits."""
    GATHERING = "gathering"
    """It can be had: guests are giving."""
    READY = "ready"
    """The host has it available, and lends it to nobody."""
    TAKEN = "taken"
    """The VM has started: what it may take is counted with the guest."""
    SETTLED = "settled"
    """Its balloon driver has spoken: a guest as any other, which is not asked to give for a while."""
    REFUSED = "refused"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Nobody started the VM in time."""

    @property
    def is_pending(self) -> bool:
        """Whether the VM is still to come."""
        return self in _PENDING

    @property
    def is_over(self) -> bool:
        """Whether nothing is kept for it any more."""
        return self in _OVER


PEACE_S: Final = 60.0
"""How long a guest that has just started is not asked to give: it has not read in yet what it works on. Qubes OS squeezed one to
138 MiB right after its boot (qubes-issues 4887)."""
NAMED: Final = 3
"""This many names are told."""
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_uuid(key: str) -> bool:
    """Whether a key is a UUID, as libvirt, QEMU and Proxmox VE write them."""
    return _UUID.fullmatch(key) is not None


def some(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + rest


_PENDING: Final = frozenset({RoomState.ASKED, RoomState.QUEUED, RoomState.GATHERING, RoomState.READY})
_OVER: Final = frozenset({RoomState.REFUSED, RoomState.CANCELLED, RoomState.EXPIRED})
COUNTED: Final = frozenset({RoomState.GATHERING, RoomState.READY})
"""What counts besides the reserve."""


class Room(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One room as a decision finds it. In a snapshot rooms are in the order in which they were asked for."""

    key: str
    """UUID of the VM, else its name."""
    name: str
    """Of the VM, for people."""
    asked_at: float = 0.0
    """When; tells it from an earlier one of the same key."""
    asked_bytes: int
    least_bytes: int
    """With less than this it is of no use."""
    waits: bool = False
    """Whether it may queue while it cannot be had."""
    state: RoomState = RoomState.ASKED
    granted_bytes: int = 0
    gathered_bytes: int = 0
    """What of it the host had available after the last tick."""
    was_ready: bool = False
    """It was there once, and guests have needed some of it since."""
    stalled_s: float = 0.0
    """For how long it could not be had any more, though it was granted."""
    taken_s: float = 0.0
    """How long ago its VM appeared."""
    settled_s: float = 0.0
    """How long ago it settled."""


class RoomReason(enum.Enum):
    """Why a room is in its state. The value is the code in history, logs and files."""

    QUEUED = "room-queued"
    GATHERING = "room-gathering"
    STALLED = "room-stalled"
    AGAIN = "room-again"
    READY = "room-ready"
    TAKEN = "room-taken"
    EARLY = "room-early"
    SETTLED = "room-settled"
    GONE = "room-gone"
    SHORT = "room-short"
    OTHERS = "room-others"
    PEER = "room-peer"
    RUNS = "room-runs"
    WATCHED = "room-watched"


ROOM_SENTENCES: Final = {
    RoomReason.QUEUED: "{name} waits: {asked} asked, and {can_bytes} can be had now{ahead}",
    RoomReason.GATHERING: "{granted_bytes} are gathered for {name}: {gathered_bytes} are there{from_}",
    RoomReason.STALLED: "{granted_bytes} are to be gathered for {name}, and {can_bytes} can be had now: guests have come to need"
    " more, or may not be moved",
    RoomReason.AGAIN: "{granted_bytes} are gathered for {name} anew: guests needed some of it, and {gathered_bytes} are there",
    RoomReason.READY: "{granted_bytes} are kept free for {name}: it can start now",
    RoomReason.TAKEN: "{name} has started and counts at the {granted_bytes} that it was to have; {gathered_bytes} were there",
    RoomReason.EARLY: "{name} has started before any memory was gathered for it",
    RoomReason.GONE: "{name} had started, and is not seen any more",
    RoomReason.SETTLED: "{name} runs, and is not asked to give memory for {peace_s}",
    RoomReason.SHORT: "no room for {name}: {asked} asked, {can_bytes} can be had{held}",
    RoomReason.OTHERS: "no room for {name}: its host's hypervisor divides memory by a loop of its own, and takes no such order",
    RoomReason.PEER: "no room for {name}: the policy {policy} keeps none; `adaptive` does",
    RoomReason.RUNS: "no room for {name}: a VM of that name runs already",
    RoomReason.WATCHED: "no room for {name}: no guest here is in mode act, so nothing is moved; {can_bytes} could be had",
}


class RoomPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tick made of one room."""

    key: str
    name: str
    asked_at: float = 0.0
    state: RoomState
    reason: RoomReason
    numbers: dict[str, Any] = {}
    """By the names in the reason's sentence: sizes end in _bytes, spans in _s."""
    granted_bytes: int = 0
    gathered_bytes: int = 0
    can_bytes: int = 0
    """What could be had for it."""
    is_stalled: bool = False
    """It was granted, and cannot be had any more."""
    eta_s: float | None = None
    """Until it is there, at the speed at which balloons take; None = nobody gives."""
    givers: dict[str, int] = {}
    """By guest: what it is giving just now, for this room and those before it."""
    helps: tuple[str, ...] = ()
    """What an operator could do about it, the most helpful first."""

    @property
    def sentence(self) -> str:
        """The state and why, in words."""
        told = {"name": self.name, "granted_bytes": self.granted_bytes, "gathered_bytes": self.gathered_bytes}
        told |= {"can_bytes": self.can_bytes, **self.numbers}
        words = {key: _in_words(key, value) for key, value in told.items()}
        return ROOM_SENTENCES[self.reason].format_map(
            {"from_": _from(self.givers), "asked": "", "ahead": "", "held": "", **words}
        )


def _in_words(key: str, value: Any) -> str:
    if key.endswith("_bytes"):
        return format_size(value)
    return span_words(value) if key.endswith("_s") else str(value)


def _from(givers: dict[str, int]) -> str:
    if not givers:
        return ""
    most = sorted(givers.items(), key=lambda one: -one[1])
    return f"; just now give {some([f'{name} {format_size(size)}' for name, size in most])}"
