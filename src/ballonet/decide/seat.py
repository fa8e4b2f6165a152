"""One guest at the table of one tick: what it is, what it was, what it needs, what it may."""

from typing import Any, NamedTuple

from msgspec import Struct

from ballonet.decide.memory import GuestMemory
from ballonet.model.plan import Look, Reason
from ballonet.model.snapshot import Guest


class Layer(NamedTuple):
    """Some of a guest's page cache."""

    price: float
    """Seconds of waiting a second, for a hundredth of its ceiling; infinite = by its operator's word."""
    bytes: int


class Seat(Struct, gc=False):
    """Working notes of one tick; never leaves `decide`. A guest in which nothing moves takes its place again as it was."""

    guest: Guest
    memory: GuestMemory
    may_give: bool = True
    may_take: bool = True
    reason: Reason = Reason.CALM
    """Why it may not give or take, while it may not; later, why its wish is what it is."""
    numbers: dict[str, Any] | None = None

    keep_bytes: int = 0
    """What it keeps now."""
    held_bytes: int = 0
    """What R4 counts: what it may take without asking again, or occupies already if that is more. A guest that cannot be moved
    counts at what it occupies and an expected rise; one that is starting at all that it has."""
    counted_bytes: int = 0
    """What it counts at when memory is divided and taken: the same, without what one that is starting may never touch."""
    whole_bytes: int = 0
    """All that it may take without asking, however unlikely: spare is handed out only beyond that."""
    floor_bytes: int = 0
    """Never below (R6)."""
    need_now_bytes: int = 0
    """The least with which it does not page in the next moments."""
    need_soon_bytes: int = 0
    """What it should have by its use now: with its full margin."""
    proven_bytes: int = 0
    """What it needs for the next moments as far as the host has seen it touch that (R9)."""
    claim_bytes: int = 0
    """What it asks for while not everything fits (R10)."""
    part_bytes: int = 0
    """Its share of all that is divided, while not everything fits, whatever others need (R9)."""
    part_now_bytes: int = 0
    """What it should have by that division (R10)."""
    leave_bytes: int = 0
    """What it is left with of what it uses (R10): its part, if nothing were kept for those who have not asked for theirs. For
    what may be asked for nobody gives up what it uses: it would get it back at the host's next breath (R12)."""
    need_lasting_bytes: int = 0
    """What it should have by its recent use: with its full margin."""
    cache_layers: tuple[Layer, ...] = ()
    """Page cache that is part of its needs soon and lasting, and given up before any margin is, the cheapest first (R17)."""
    cache_gone_bytes: int = 0
    """What of that was given up at this tick."""
    needs_bytes: tuple[int, int] | None = None
    """`need_now_bytes` and `need_lasting_bytes` before they were bound by what it may give and take; to be told."""
    is_distressed: bool = False
    is_short: bool = False
    """It does not get what it needs (R10)."""
    rationed_by: str | None = None
    """What is too small for the least needs of all: "" = the host, else the limit around some guests; None = all fit (R10)."""
    is_over: bool = False
    """It holds more than its part while others lack theirs (R10)."""
    is_cooling: bool = False
    """It suffered from giving, and is not asked to (R5)."""

    is_under_way: bool = False
    """It was asked to keep something else than it keeps now."""
    returns_bytes: int = 0
    """What it is to keep again though it is not moved otherwise: its balloon frees nothing (inert.py); 0 = nothing."""
    is_still: bool = False
    """Nothing of it moves: while the guest says the same, it needs the same."""
    look: Look | None = None
    """How closely to watch it, while it is still."""

    wish_bytes: int = 0
    """What the policy wants it to keep."""

    def say(self, wish: int, reason: Reason, /, **numbers: Any) -> None:
        """Sets the wish, and why."""
        self.wish_bytes, self.reason, self.numbers = wish, reason, numbers

    @property
    def cache_bytes(self) -> int:
        """Page cache among its needs."""
        return sum(layer.bytes for layer in self.cache_layers) if self.cache_layers else 0

    @property
    def is_movable(self) -> bool:
        """Whether it may move at all."""
        return self.may_give or self.may_take

    @property
    def used_bytes(self) -> int:
        """What its newest statistics say that it uses, cache not counted; what it keeps when they say nothing."""
        stats = self.guest.stats
        if stats is None or stats.total_bytes is None or stats.available_bytes is None:
            return self.keep_bytes
        return max(0, min(self.guest.ceiling_bytes, stats.total_bytes - stats.available_bytes))

    @property
    def most_bytes(self) -> int:
        """The most that it can keep after this tick."""
        return self.guest.ceiling_bytes if self.may_take else self.keep_bytes
