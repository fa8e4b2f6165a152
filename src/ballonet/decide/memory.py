"""What is remembered of each guest from tick to tick, in parts: each is written by one rule's file, and read by any. Frozen; a
tick makes new ones. Times are on the clock that `step` is given.
"""

from typing import Final

from msgspec import Struct

NO_DOUBT: Final = 1e18
"""A time that does not come."""


class Use(Struct, frozen=True, gc=False, omit_defaults=True):
    """What it said of its memory, and what follows from that. Written by estimate.py, with total.py (R2)."""

    sampled_at: float = -1e9
    """When the guest took the newest statistics."""
    used_bytes: int = 0
    """What it could not have freed then, of all its memory, as far as the host has seen it touch that (R9)."""
    said_bytes: int = 0
    """The same by its own word. Nothing is given on it, and nothing that it keeps is taken against it."""
    unseen_bytes: int | None = None
    """What it keeps beyond its MemTotal: kernel image, page tables. Learned while its balloon rests."""
    total_bytes: int = 0
    """Its MemTotal, when that moved last."""
    total_keep_bytes: int = 0
    """What it kept then."""
    total_follows: bool | None = None
    """Whether its MemTotal moves with its balloon (total.py); None = its balloon has not moved yet."""
    spoke_keep_bytes: int = 0
    """What it kept when it took the newest statistics."""
    slow_bytes: float = 0.0
    """`used_bytes`, risen at once and falling slowly."""
    growth_per_s: float = 0.0
    """Rise of `used_bytes` in bytes a second, risen at once and falling within seconds."""
    rose_at: float = -1e9
    """When it last rose faster than the noise of statistics."""
    swap_in_bytes: int = 0
    swap_out_bytes: int = 0
    swapped_bytes: int = 0
    """What it has paged out and not in again; fades while it asks nothing back."""
    swap_in_per_s: float = 0.0
    swap_out_per_s: float = 0.0
    stalled_us: int | None = None
    """For how long all of its tasks have stood waiting for memory since it booted; None = its last voice did not say."""
    stall_share: float = 0.0
    """Of the time between its last two statistics."""
    heap_missing_bytes: int = 0
    """What its JVMs have committed and is not resident."""
    learned_bytes: float = 0.0
    """Margin that distress has taught to add; forgotten slowly."""
    distress_until: float = -1e9


class Rise(Struct, frozen=True, gc=False, omit_defaults=True):
    """Whether it does nothing but grow. Written by leak.py (R10)."""

    rise_at: float = -1e9
    """When its use began to rise without ever falling back (leak.py)."""
    rise_from_bytes: int = 0
    """What it used then."""
    rise_peak_bytes: int = 0
    """The most that it has used since."""
    rise_peak_at: float = -1e9
    """When that last rose by more than noise."""


class Motion(Struct, frozen=True, gc=False, omit_defaults=True):
    """What its balloon was asked, and what it did. Written by stuck.py (R7)."""

    asked_bytes: int | None = None
    """The last command; None = none by us."""
    keep_bytes: int | None = None
    """What it kept at the last tick."""
    commanded_at: float = -1e9
    mark_bytes: int = -1
    """What it kept when its balloon was last seen to move."""
    is_astray: bool = False
    """It moves away from what it was asked: another hand is at its balloon."""
    moved_at: float = 0.0
    """When that was, or when it was asked to move after a rest."""
    parked_until: float = -1e9
    parked_sign: int = 0
    """-1 = it did not give when asked, 1 = it did not take, 0 = it is not parked."""
    stuck_bytes: int = 0
    """What it kept when it stopped giving, while it is parked for that."""
    stuck_used_bytes: int = 0
    """What it used then."""
    backoff_s: float = 0.0
    took_per_s: float = 0.0
    """How fast its balloon takes, measured over its recent moves; 0 = never seen."""
    seen_at: float = -1e9
    """When `keep_bytes` was seen."""
    kept_bytes: int = 0
    """What it kept when it was seen the time before."""
    kept_at: float = -1e9
    """When that was."""


class Proof(Struct, frozen=True, gc=False, omit_defaults=True):
    """Whether what its balloon takes comes back to the host. Written by inert.py (R13)."""

    proof_keep_bytes: int = 0
    """What it kept when its balloon was last seen to free what it took (inert.py); 0 = not looked at yet."""
    proof_excess_bytes: int = 0
    """What it occupied beyond that and QEMU's own then."""
    doubt_at: float = NO_DOUBT
    """Since when what its balloon takes is not seen to come back to the host."""
    inert_until: float = -1e9
    """Its balloon is left alone until then."""
    inert_keep_bytes: int = 0
    """What it kept before that balloon took anything."""
    inert_s: float = 0.0
    """How long it was left alone for that the last time."""


class Filling(Struct, frozen=True, gc=False, omit_defaults=True):
    """How fast it fills what it keeps, while it cannot be moved. Written by classify.py (R4)."""

    occupied_bytes: int = 0
    """At the last tick, while it could not be moved; 0 = never seen."""
    occupied_at: float = -1e9
    """When that was."""
    filling_per_s: float = 0.0
    """How fast that rises: risen at once, and falling slowly."""


class Peace(Struct, frozen=True, gc=False, omit_defaults=True):
    """What came of asking it to give. Written by feedback.py (R5)."""

    down_at: float = -1e9
    """The last command to give."""
    down_from_bytes: int = 0
    """What it kept before the recent commands to give."""
    cool_until: float = -1e9
    """Not asked to give until then."""
    cool_bytes: int = 0
    """The least that it keeps meanwhile."""
    cool_used_bytes: int = 0
    """What it used when that began: one that has freed memory since is no longer in trouble."""
    cool_s: float = 0.0
    """How long it was left in peace the last time."""


class Counts(Struct, frozen=True, gc=False):
    """What its host has counted of its disk's reads up to a moment."""

    at: float = -1e9
    reads: int = 0
    wait_ns: int = 0
    """What they waited, together."""
    swapped_in: int = -1
    """Pages, by its own word: they may come from the same disks. -1 = it does not say."""
    refaults: int = -1
    """By its agent's word; -1 = nobody says."""
    activations: int = -1
    """The same."""
    is_by_host: bool = True
    """Whether the host counts them; else they are its refaults."""
    bytes: int = 0
    """What they read, together; 0 = nobody counts that."""


class Reread(Struct, frozen=True, gc=False, omit_defaults=True):
    """Whether what lies in its page cache is read again. Written by cache.py (R17)."""

    counts: Counts = Counts()
    """The newest."""
    cache_bytes: int = 0
    """What of its memory was cache then, by its own word."""
    free_bytes: int = 0
    since: Counts = Counts()
    """When its cache began to stand still."""
    since_bytes: int = 0
    settles_at: float = -1e9
    """Counting begins then."""
    met_at: float = -1e9
    """When its counts began."""
    level_bytes: int = -1
    """The cache with which its reads were counted last; -1 = never."""
    level_per_s: float = 0.0
    """What it read then, a second."""
    level_s: float = 0.0
    """For how long that was counted."""
    level_at: float = -1e9
    """When."""
    is_level_full: bool = False
    """Whether its cache had no room then."""
    undecided: int = 0
    """How often nothing could be told of what it lost since: more must be lost to tell."""
    quiet_wait_s: float = 0.0
    """What one of its reads waits while its disk has little to do; 0 = never seen."""
    worth_bytes: int = 0
    """Cache that it was seen to read again."""
    price: float = 0.0
    """Of that: seconds of waiting a second, for a hundredth of its ceiling."""
    saved_per_s: float = 0.0
    """How much more it read without the last of it, a second."""
    backoff_s: float = 0.0
    hold_until: float = -1e9
    """It is not tried again before."""
    tries_bytes: int = 0
    """More cache, to see whether it reads less with it; 0 = none."""
    tries_until: float = -1e9
    """When that is over, or may begin again."""
    tries_s: float = 0.0


# gc=False: scalars only, so there is no cycle to look for among the thousand that a tick makes.
class GuestMemory(Struct, frozen=True, gc=False, omit_defaults=True):
    """One guest's past, as far as decisions need it."""

    use: Use = Use()
    rise: Rise = Rise()
    motion: Motion = Motion()
    proof: Proof = Proof()
    filling: Filling = Filling()
    peace: Peace = Peace()
    reread: Reread = Reread()
