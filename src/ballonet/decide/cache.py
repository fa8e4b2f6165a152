"""R17: page cache that is read again is needed.

A guest's kernel calls its page cache available, whether anybody lives on it or not. Its disk tells the two apart: a guest that
loses cache which it reads again reads that much more from its disk, and one that loses a stream's, or cold files, reads what it
read before. So each time its cache has become a step smaller or larger, its reads before and after are compared, and what they
cost: seconds of waiting for the disk in each second, for each hundredth of its ceiling. Cache of which that is worth something
is needed from then on, in the comfortable needs (soon, lasting), never in the least one: without it a guest waits for its disk,
and does not page.

The host counts the reads. Where an agent counts refaults too (workingset_refault_file), the smaller of both words counts (R9);
what an agent says alone, where nobody counts the reads, counts half.

Sources: the price of cache as misses a second for its size is one point of the miss curves of Lu & Shen (USENIX ATC'07); that
refaults are the reads of a disk was seen on Linux 6.1, to 0 to 2 % for reads; TMO (ASPLOS'22) stops at 0.1 % of waiting.
"""

import math
from typing import Final, NamedTuple

from msgspec.structs import replace

from ballonet.decide.memory import Counts, GuestMemory, Reread
from ballonet.model.snapshot import Guest, GuestStats
from ballonet.model.units import PAGE_BYTES

STEP_SHARE: Final = 0.02
"""Of the ceiling: a change of the cache by this is judged. 10 of 512 MiB found the knee of a set of 240 MiB within 10 MiB."""
ASKED_SHARE: Final = 0.025
"""Of the ceiling: this is asked for at once, so that what comes is a step."""
MOST_STEPS: Final = 3.0
"""A guest that reads much anyway is asked for this many at once; for more only when nothing could be told of these."""
STEADY_SHARE: Final = 0.01
"""Of the ceiling: a cache that moves by less stands still."""
SAME_SHARE: Final = 0.0025
"""Of the ceiling: caches of such a difference are the same."""
LEVEL_S: Final = 1800.0
"""What a guest read longer ago says nothing of what it reads now."""
SETTLE_S: Final = 1.0
"""After a change, before reads are counted: what was on its way is read."""
JUDGE_S: Final = 5.0
"""Reads are counted for this long; for longer while there are too few to tell, up to LONGEST_JUDGE_S."""
LONGEST_JUDGE_S: Final = 20.0
WORTH: Final = 0.001
"""Seconds of waiting a second, for a hundredth of the ceiling: cache of this price is needed (TMO stops at 0.1 % too). At 1 ms a
read PostgreSQL at 60 to 150 transactions a second had 0.16 to 0.6 %, a set that is read evenly 1.7 %, a stream 0."""
FREE: Final = 0.0003
"""Cache below this price is nobody's loss."""
SIGMAS: Final = 9.0
"""Three standard deviations, squared: counts of reads vary as those of Poisson do."""
HASTY_SIGMAS: Final = 25.0
"""Of a count that is made while the cache shrinks, second by second: many tries, so five standard deviations."""
LEAST_WAIT_S: Final = 0.0001
MOST_WAIT_S: Final = 0.02
"""A read's wait is taken to be within these: below is a cache of the host's, above a disk that others keep busy."""
USUAL_WAIT_S: Final = 0.001
"""Where nobody says."""
BUSY_SHARE: Final = 0.5
"""Of the time: a disk that is waited for longer, each read twice as long as usual, is full: it shows no more misses, whatever is
taken. From it there is no verdict that cache is free."""
BACKOFF_S: Final = 20.0
LONGEST_BACKOFF_S: Final = 1800.0
"""After cache was found worth something it is not tried again for the first, then twice as long, up to the second: each try costs
a read of all that it took. A set of 240 MiB tried by 2 % each 240 s costs 2.7 % of its disk."""
FADE_S: Final = 2600.0
"""What was worth something and has not been tried since fades: by half in 1,800 s."""
GROW: Final = 0.01
"""Seconds of waiting a second, for what more cache would hold: worth a step more, to see whether it reads less then."""
MEET_S: Final = 30.0
"""A guest whose cache has not stood still for this time has none that could be judged."""
COUNTED_S: Final = 30.0
"""A guest whose reads nobody has counted for this time is not counted."""
RESTLESS_S: Final = 300.0
"""A guest whose cache has not stood still for this time cannot be judged either."""
TRY_S: Final = 40.0
"""A try lasts this long: until the guest has read that much, and its reads have been counted twice."""
ALL_SHARE: Final = 0.8
"""Of its cache: more is all."""
SMALL_BYTES: Final = 32 << 10
"""A read of no more than this is one of a database or of small files: what is read from end to end is read ahead, 128 KiB at a
time (Linux's default read_ahead_kb)."""
FULL_SHARE: Final = 0.03
"""Of the ceiling: with less than this free its cache has no room."""
OLD_S: Final = 3.0
"""Older statistics say nothing of the cache with which something was read."""
LEAST_SAMPLE_S: Final = 0.4
"""Counts closer together give no rate."""


def follow(memory: GuestMemory, guest: Guest, now: float, old_s: float = OLD_S) -> GuestMemory:
    """What is known of the guest's page cache after this snapshot. Statistics older than `old_s` say nothing of it."""
    old, stats = memory.reread, guest.stats
    if stats is None or stats.available_bytes is None or stats.free_bytes is None:
        return memory
    if guest.stats_age_s is None or guest.stats_age_s > max(old_s, OLD_S):
        return memory  # its cache is not what it was
    refaults, activations = (None, None) if stats.mglru else (stats.refaults, stats.activations)
    swapped_in = None if stats.swap_in_bytes is None else stats.swap_in_bytes // PAGE_BYTES
    if guest.disk_reads is not None:
        reads, wait_ns, at = guest.disk_reads, guest.disk_read_ns or 0, now - guest.disk_age_s  # 0 = nobody tells
    elif refaults is not None:
        reads, wait_ns, at, swapped_in = refaults, 0, now - guest.stats_age_s, None
    else:
        return memory  # nobody counts them
    if at - old.counts.at < LEAST_SAMPLE_S:
        return memory
    told = [-1 if one is None else one for one in (swapped_in, refaults, activations)]
    counts = Counts(at, reads, wait_ns, told[0], told[1], told[2], guest.disk_reads is not None, guest.disk_read_bytes or 0)
    one = replace(old, counts=counts, cache_bytes=_cache_bytes(guest, stats), free_bytes=stats.free_bytes)
    if old.counts.at >= 0 and counts.is_by_host and _fell(counts, old.counts):
        one = replace(one, since=counts, since_bytes=one.cache_bytes, settles_at=at)  # its own word: only this count is lost
    if old.counts.at < 0 or counts.is_by_host is not old.counts.is_by_host or reads < old.counts.reads:
        new = replace(one, since=counts, since_bytes=one.cache_bytes, settles_at=at, met_at=at, level_bytes=-1)
        return replace(memory, reread=new)
    one = _faded(one, at - old.counts.at, now)
    return replace(memory, reread=_missed(one, old.counts, guest.ceiling_bytes, now) or _looked(one, guest.ceiling_bytes, now))


def _cache_bytes(guest: Guest, stats: GuestStats) -> int:
    """What of its memory is page cache, by its word; no more than the host has seen it touch beyond what it uses (R9)."""
    free, available = stats.free_bytes or 0, stats.available_bytes or 0
    cache, occupied = max(0, available - free), guest.occupied_bytes
    if occupied is None or guest.huge_bytes or stats.total_bytes is None:
        return cache
    return min(cache, max(0, occupied - max(0, stats.total_bytes - available)))


def _fell(new: Counts, old: Counts) -> bool:
    """Whether what only rises has fallen, by its own word. What another voice does not say has not fallen."""
    return any(0 <= now < before for now, before in ((new.swapped_in, old.swapped_in), (new.refaults, old.refaults)))


def _missed(one: Reread, before: Counts, ceiling: int, now: float) -> Reread | None:
    """It loses cache, and already reads more than chance could explain, so that there is nothing to wait for; else None."""
    if one.level_bytes - one.cache_bytes < STEP_SHARE * ceiling or now < one.hold_until:
        return None
    seen = _seen(one, before)
    return _worth(one, seen, ceiling, now) if _is_worth(one, seen, ceiling, HASTY_SIGMAS) else None


def _faded(one: Reread, dt: float, now: float) -> Reread:
    """What was worth something is forgotten slowly, once it may be tried again."""
    if not one.worth_bytes or now < one.hold_until:
        return one
    return replace(one, worth_bytes=int(one.worth_bytes * math.exp(-dt / FADE_S)))


def _looked(one: Reread, ceiling: int, now: float) -> Reread:
    """Counts while the cache stands still, and judges when that is enough."""
    at = one.counts.at
    if abs(one.cache_bytes - one.since_bytes) > STEADY_SHARE * ceiling:
        return replace(one, since=one.counts, since_bytes=one.cache_bytes, settles_at=at + SETTLE_S)
    if at < one.settles_at:
        return replace(one, since=one.counts)
    if at - one.since.at < JUDGE_S:
        return one
    seen = _seen(one, one.since)
    if seen.per_s:
        one = replace(one, quiet_wait_s=min(seen.wait_s, one.quiet_wait_s or seen.wait_s))
    change = one.cache_bytes - one.level_bytes
    if one.level_bytes < 0 or abs(change) < STEP_SHARE * ceiling:
        return _explored(_near_level(one, seen, change, ceiling), seen, ceiling, now)
    judge = _smaller if one.cache_bytes < one.level_bytes else _larger
    return judge(one, seen, ceiling, now)


class _Seen(NamedTuple):
    """Of a while in which the cache stood still."""

    per_s: float
    """Reads."""
    wait_s: float
    """Of one of them."""
    lasted: float
    each_bytes: float = 0.0
    """What one of them read; 0 = nobody counts that, or some of them brought back what had been paged out."""
    activated_per_s: float = 0.0
    """Pages that would have been there if its cache had all of its memory."""

    @property
    def would_gain(self) -> bool:
        """Whether the guest waits long enough for its disk, for what more cache would hold, to be worth a try."""
        return self.activated_per_s * self.wait_s > GROW

    def is_more_than(self, base_per_s: float, base_s: float, sigmas: float = SIGMAS) -> bool:
        """Whether it is more than chance would make of that, which was counted for `base_s`."""
        more = self.per_s - base_per_s
        return more > 0 and more * more > sigmas * (base_per_s / base_s + self.per_s / self.lasted)

    def least(self, base_per_s: float) -> float:
        """The least more than that that could be told from chance."""
        return (SIGMAS + math.sqrt(SIGMAS * SIGMAS + 8 * SIGMAS * base_per_s * self.lasted)) / (2 * self.lasted)


def _seen(one: Reread, since: Counts) -> _Seen:
    lasted, reads = max(LEAST_SAMPLE_S, one.counts.at - since.at), max(0, one.counts.reads - since.reads)
    is_paging = one.counts.swapped_in > since.swapped_in
    each_bytes = max(0.0, one.counts.bytes - since.bytes) / reads if reads and not is_paging else 0.0
    if one.counts.swapped_in >= 0 and since.swapped_in >= 0:
        reads = max(0, reads - max(0, one.counts.swapped_in - since.swapped_in))
    waited_s = (one.counts.wait_ns - since.wait_ns) / 1e9
    wait_s = waited_s / reads if reads > 0 and waited_s > 0 else one.quiet_wait_s or USUAL_WAIT_S
    if one.counts.refaults >= 0 and since.refaults >= 0:
        reads = min(reads, max(0, one.counts.refaults - since.refaults))
    activated = 0
    if one.counts.activations >= 0 and since.activations >= 0:
        activated = min(reads, max(0, one.counts.activations - since.activations))
    return _Seen(reads / lasted, min(MOST_WAIT_S, max(LEAST_WAIT_S, wait_s)), lasted, each_bytes, activated / lasted)


def _at_level(one: Reread, seen: _Seen, ceiling: int) -> Reread:
    """What is read with this much cache: the next change is compared with that."""
    return replace(
        one,
        since=one.counts,
        since_bytes=one.cache_bytes,
        level_bytes=one.cache_bytes,
        level_per_s=seen.per_s,
        level_s=seen.lasted,
        level_at=one.counts.at,
        is_level_full=one.free_bytes < FULL_SHARE * ceiling,
        undecided=0,
    )


def _near_level(one: Reread, seen: _Seen, change: int, ceiling: int) -> Reread:
    """What it loses little by little is judged when it is a step, and so is what comes where there was no room. Else the level
    rises with its cache, as files are read for the first time.
    """
    new = _at_level(one, seen, ceiling)
    if one.level_bytes < 0 or not change or new.level_at > one.level_at + LEVEL_S:
        return new
    if change > 0 and not one.is_level_full:
        return new
    return replace(new, level_bytes=one.level_bytes) if abs(change) <= SAME_SHARE * ceiling else replace(one, since=one.counts)


def _price(more_per_s: float, wait_s: float, bytes_: int, ceiling: int) -> float:
    """Seconds of waiting a second, for a hundredth of the ceiling."""
    return more_per_s * wait_s / (bytes_ / (0.01 * ceiling))


def _smaller(one: Reread, seen: _Seen, ceiling: int, now: float) -> Reread:
    """It has lost some: whether it reads more for that."""
    if _is_worth(one, seen, ceiling):
        return _worth(one, seen, ceiling, now)
    lost, base = one.level_bytes - one.cache_bytes, one.level_per_s
    is_more, price = seen.is_more_than(base, one.level_s), _price(seen.per_s - base, seen.wait_s, lost, ceiling)
    is_full = seen.per_s * seen.wait_s > BUSY_SHARE and seen.wait_s > 2 * one.quiet_wait_s
    could_tell = _price(seen.least(base), seen.wait_s, lost, ceiling) <= WORTH
    if not is_full and could_tell:
        if not is_more or price < FREE:
            one = replace(one, worth_bytes=min(one.worth_bytes, one.cache_bytes), backoff_s=one.backoff_s / 2)
        return _at_level(one, seen, ceiling)
    # Nothing can be told yet; what it loses besides is judged with this. From a full disk nothing more is asked.
    if seen.lasted < LONGEST_JUDGE_S:
        return one
    return replace(one, since=one.counts, undecided=one.undecided + (not is_full))


def _is_worth(one: Reread, seen: _Seen, ceiling: int, sigmas: float = SIGMAS) -> bool:
    """Whether it reads more than before, by more than chance, and that costs something."""
    lost, more = one.level_bytes - one.cache_bytes, seen.per_s - one.level_per_s
    return seen.is_more_than(one.level_per_s, one.level_s, sigmas) and _price(more, seen.wait_s, lost, ceiling) >= WORTH


def _worth(one: Reread, seen: _Seen, ceiling: int, now: float) -> Reread:
    """What it had before it read more it needs."""
    lost, more = one.level_bytes - one.cache_bytes, seen.per_s - one.level_per_s
    backoff_s = min(LONGEST_BACKOFF_S, max(BACKOFF_S, 2 * one.backoff_s))
    found = replace(
        one,
        worth_bytes=max(one.worth_bytes, one.level_bytes),
        price=_price(more, seen.wait_s, lost, ceiling),
        saved_per_s=more,
        backoff_s=backoff_s,
        hold_until=now + backoff_s,
        settles_at=now + SETTLE_S,
    )
    return _at_level(found, seen, ceiling)


def _larger(one: Reread, seen: _Seen, ceiling: int, now: float) -> Reread:
    """It has more than before: whether it reads less for that. So does who has read all in: what had no room before counts."""
    less = one.level_per_s - seen.per_s
    before = _Seen(one.level_per_s, seen.wait_s, one.level_s)
    price = _price(less, one.quiet_wait_s or seen.wait_s, one.cache_bytes - one.level_bytes, ceiling)
    had_no_room = one.is_level_full or one.worth_bytes > one.level_bytes
    if before.is_more_than(seen.per_s, seen.lasted) and price >= WORTH and had_no_room:
        hold = max(one.hold_until, now + BACKOFF_S)
        worth = max(one.worth_bytes, one.cache_bytes)
        one = replace(
            one, worth_bytes=worth, price=max(price, one.price), hold_until=hold, saved_per_s=max(less, one.saved_per_s)
        )
        one = replace(one, tries_bytes=0, tries_s=0.0)
    return _at_level(one, seen, ceiling)


def _explored(one: Reread, seen: _Seen, ceiling: int, now: float) -> Reread:
    """A guest that waits for what more cache would hold and has no room is given a step more for a while: where all needs fit,
    since what is tried has no price. An agent says so; or all that it has is worth something, and it goes on reading; or nobody
    has seen yet what it is worth, and it reads small pieces, as nothing does that reads a file once from end to end.
    """
    if one.tries_bytes:
        if now < one.tries_until:
            return one
        again_s = min(LONGEST_BACKOFF_S, max(BACKOFF_S, 2 * one.tries_s))
        return replace(one, tries_bytes=0, tries_s=again_s, tries_until=now + again_s)
    has_room = one.free_bytes > FULL_SHARE * ceiling
    is_all_worth = one.worth_bytes > ALL_SHARE * one.cache_bytes and seen.per_s * seen.wait_s > GROW
    is_unjudged = not one.worth_bytes and seen.per_s * seen.wait_s > GROW and 0 < seen.each_bytes <= SMALL_BYTES
    if has_room or not (seen.would_gain or is_all_worth or is_unjudged) or now < one.tries_until:
        return one
    more = int(2 * STEP_SHARE * ceiling)
    return replace(one, tries_bytes=one.cache_bytes + more, tries_until=now + TRY_S)


def askable_bytes(memory: GuestMemory, ceiling_bytes: int, now: float) -> int | None:
    """What of its cache may be asked for now: a step, until it is seen what that costs. None = all: nobody counts what it reads,
    or its cache never stands still.
    """
    one = memory.reread
    if now - one.counts.at > COUNTED_S:
        return None
    if one.level_bytes < 0:  # nobody knows yet what it reads with what it has
        return 0 if one.counts.at - one.met_at < MEET_S else None
    if one.counts.at - one.level_at > RESTLESS_S and not one.worth_bytes:
        return None
    if one.counts.at < memory.peace.down_at:
        return 0  # what came of the last step has not been counted
    # The more it reads anyway, the more must be lost for that to be told from chance.
    least_per_s = _Seen(0.0, 0.0, LONGEST_JUDGE_S).least(one.level_per_s)
    share = 0.01 * least_per_s * (one.quiet_wait_s or USUAL_WAIT_S) / WORTH
    step = min(MOST_STEPS, max(share / ASKED_SHARE, 1.0)) + one.undecided
    return max(0, one.cache_bytes - one.level_bytes + int(step * ASKED_SHARE * ceiling_bytes))
