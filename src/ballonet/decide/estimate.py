"""R2: need, not use. What a guest needs, from what it says and how that moved.

used = MemTotal - MemAvailable + what MemTotal does not show; need = the slowly falling maximum of used, a margin, and
its growth over the time that a look, a decision and a balloon take. What was paged out counts as used until the guest
has asked nothing of it back for a while. Paging in says that the estimate was too low: the margin is raised, and that is
remembered (`learned_bytes`).

Everything here is the guest's word, bounded by its own floor and ceiling; what the host has not seen it touch is kept apart
(`said_bytes`): nothing is given on it, and nothing is taken against it (R9).
"""

import math
from typing import Final

from msgspec.structs import replace

from ballonet.decide import leak
from ballonet.decide.memory import GuestMemory, Use
from ballonet.decide.total import doubt_bytes, kept_then, unseen_bytes, with_total
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, GuestStats
from ballonet.model.units import MIB

MARGIN_SHARE: Final = 0.04
"""Of the ceiling, besides the use: a kernel reclaims in the background below about 1.3 % (watermarks), and statistics
are a look old."""
REACT_S: Final = 0.2
"""The margin when not everything fits: what the fastest rise that this host showed takes in this time. A look of 0.1 to 0.15 s,
a decision, and the first extent that a balloon gives back."""
UNSEEN_RISE_SHARE_PER_S: Final = 0.08
"""Of the ceiling: the rise to expect of guests that have shown none. 1.3 GiB/s of 16 GiB."""
TIGHT_SHARE: Final = 0.02
"""Of the ceiling: what nobody can tell apart from nothing."""
LEAST_MARGIN_BYTES: Final = 16 * MIB
LEAST_TIGHT_BYTES: Final = 10 * MIB
HORIZON_S: Final = 1.2
"""Time for which growth is added: one look of 0.3 s, one decision, half a second of a donor's balloon."""
TIGHT_HORIZON_S: Final = 0.5
"""The same when not everything fits: a look and the first of a donor's memory. What is lent to one guest for longer than
that is missing for the next."""
GROWTH_FADE_S: Final = 0.85
"""Growth falls to a third in this time after the last rise: a guest that has stopped growing is soon believed."""
SLOW_FADE_S: Final = 8.0
"""Of the slow maximum: long against the seconds between two requests of a server, short against its phases."""
SWAPPED_FADE_S: Final = 20.0
"""Of what was paged out, while nothing of it is asked back: it is cold, or was freed and nobody says so."""
READ_S: Final = 8.0
"""What a guest reads back of what it has paged out in this time is needed; what comes later is given as it comes."""
READ_SOON_S: Final = 2.0
"""The same for the next moments."""
ROOM_PART: Final = 0.5
"""Of the margin: with this much beyond what comes back, what a guest reads in drives nothing else out."""
LEARNED_SHARE: Final = 0.01
"""Of the ceiling: what each bout of distress adds to the margin, up to MOST_LEARNED_SHARE."""
MOST_LEARNED_SHARE: Final = 0.08
LEARNED_FADE_S: Final = 300.0
DISTRESS_S: Final = 2.0
"""How long a sign of distress holds."""
SWAP_IN_PER_S: Final = 256 * 1024
"""Swap-in above this rate is distress: 64 pages a second, half a second of stall on a disk of 8 ms a page."""
FASTEST_SHARE_PER_S: Final = 0.25
"""Of the ceiling: more is not believed of a guest's word alone (R9). Twice the fastest that was seen, 1.8 GiB/s of 16 GiB."""
HEAP_SHARE: Final = 0.1
"""Of the ceiling: more is not kept for heaps that nobody has touched, whatever a guest says (R9)."""
NOISE_SHARE_PER_S: Final = 0.005
"""Of the ceiling: a slower rise may be the noise of statistics, 2 MiB between two looks at a guest of 4 GiB."""
STILL_PER_S: Final = 4096.0
"""Growth below a page a second is none."""
RATE_S: Final = 0.1
"""A rise is taken to have lasted at least this long: programs take memory in bursts, and agents speak in the midst of one."""
LEAST_SAMPLE_S: Final = 0.03
"""Two samples closer together than this give no rate."""


def remember(old: GuestMemory, guest: Guest, limits: Limits, now: float) -> GuestMemory:
    """What is known of a guest after this snapshot. Without fresh statistics nothing changes.

    Runs for each guest at each tick: what others would write with min, max and four exponentials is written out.
    """
    stats, age_s, keep, ceiling = guest.stats, guest.stats_age_s, guest.keep_bytes, guest.ceiling_bytes
    if stats is None or age_s is None or keep is None:
        return old
    sampled_at = now - age_s
    if sampled_at - old.use.sampled_at < LEAST_SAMPLE_S:
        return old
    total, available = stats.total_bytes, _available_bytes(stats)
    if total is None or available is None:
        return old
    if total > ceiling:
        total = ceiling
    old = with_total(old, keep, total)
    if old.use.total_follows is False:
        keep = kept_then(old, guest, keep, now)
        unseen = keep - total
    else:
        unseen = unseen_bytes(old, keep, total)
    used = (total - available if available < total else 0) + unseen
    used = 0 if used < 0 else used if used < ceiling else ceiling
    said, occupied = used, guest.occupied_bytes
    if occupied is not None and used > (touched := occupied + int(TIGHT_SHARE * ceiling)):
        # Nobody uses what it never touched: the host's own measure bounds what is given on the claim.
        used = touched if not guest.huge_bytes and limits.has("R9") else used
    if old.use.unseen_bytes is None or not limits.has("R2"):  # the first look: nothing to compare with
        use = replace(
            old.use,
            sampled_at=sampled_at,
            used_bytes=used,
            said_bytes=said,
            unseen_bytes=unseen,
            spoke_keep_bytes=keep,
            slow_bytes=used,
            swap_in_bytes=stats.swap_in_bytes or 0,
            swap_out_bytes=stats.swap_out_bytes or 0,
            stalled_us=stats.psi_full_us,
            heap_missing_bytes=stats.heap_missing_bytes or 0,
        )
        return replace(old, use=use)
    heard = {"said_bytes": said, "unseen_bytes": unseen, "spoke_keep_bytes": keep}
    return leak.follow(_compared(old, guest, sampled_at, used, doubt_bytes(old, keep), heard), ceiling, now)


def _compared(old: GuestMemory, guest: Guest, sampled_at: float, used: int, doubt: float, heard: dict[str, int]) -> GuestMemory:
    """Against what was known before; `heard` is noted as it is."""
    before, stats = old.use, guest.stats
    dt = sampled_at - before.sampled_at
    growth_per_s, slow = before.growth_per_s, before.slow_bytes
    if growth_per_s:
        growth_per_s *= math.exp(-dt / GROWTH_FADE_S)
        if growth_per_s < STILL_PER_S:
            growth_per_s = 0.0
    slow = used + (slow - used) * math.exp(-dt / SLOW_FADE_S) if slow > used + 1 else used
    paging = _paged(before, guest, sampled_at, used)
    # What goes out while a guest grows is growth too: one that pages has not stopped.
    rise_per_s = (used + paging.swapped_bytes - before.used_bytes - before.swapped_bytes - doubt) / max(dt, RATE_S)
    if stats is not None and stats.rising_per_s and not doubt:  # else its balloon is part of it
        # An agent looked twice within moments, when its last report may have been a second ago.
        rise_per_s = max(rise_per_s, min(stats.rising_per_s, FASTEST_SHARE_PER_S * guest.ceiling_bytes))
    if stats is not None and (stats.psi_full_us, stats.heap_missing_bytes or 0) != (
        before.stalled_us,
        before.heap_missing_bytes,
    ):
        paging = _stalled(paging, stats, dt)
    elif paging.stall_share:
        paging = replace(paging, stall_share=0.0)
    use = replace(
        paging,
        sampled_at=sampled_at,
        used_bytes=used,
        slow_bytes=slow,
        growth_per_s=rise_per_s if rise_per_s > growth_per_s else growth_per_s,
        rose_at=sampled_at if rise_per_s > NOISE_SHARE_PER_S * guest.ceiling_bytes else before.rose_at,
        **heard,
    )
    return replace(old, use=use)


def _stalled(old: Use, stats: GuestStats, dt: float) -> Use:
    """What only an agent tells. Voices come and go: the first count says nothing yet, and none is not the last one."""
    before, now = old.stalled_us, stats.psi_full_us
    share = 0.0 if before is None or now is None else min(1.0, max(0, now - before) / 1e6 / dt)
    return replace(old, stalled_us=now, stall_share=share, heap_missing_bytes=stats.heap_missing_bytes or 0)


def _paged(old: Use, guest: Guest, sampled_at: float, used: int) -> Use:
    """What its swap counters tell; most guests page nothing at most ticks."""
    stats, dt = guest.stats, sampled_at - old.sampled_at
    swap_in, swap_out = (stats.swap_in_bytes or 0, stats.swap_out_bytes or 0) if stats else (0, 0)
    came_in, went_out = swap_in - old.swap_in_bytes, swap_out - old.swap_out_bytes
    if not (came_in or went_out or old.swapped_bytes or old.learned_bytes or old.swap_in_per_s or old.swap_out_per_s):
        return old
    came_in, went_out = max(0, came_in), max(0, went_out)
    swapped = max(0.0, float(old.swapped_bytes + went_out - came_in))
    if used + came_in < old.used_bytes:
        # Who frees memory frees what is paged out of it in proportion, and no counter says so.
        swapped *= max(0, used - came_in) / old.used_bytes
    learned, distress_until = old.learned_bytes * math.exp(-dt / LEARNED_FADE_S), old.distress_until
    if came_in < SWAP_IN_PER_S * dt:
        swapped *= math.exp(-dt / SWAPPED_FADE_S)
    elif not has_room_for_swapped(used, int(swapped), came_in / dt, guest.keep_bytes or 0, guest.ceiling_bytes):
        if sampled_at > distress_until:  # a new bout
            ceiling = guest.ceiling_bytes
            learned = min(learned + LEARNED_SHARE * ceiling, MOST_LEARNED_SHARE * ceiling)
        distress_until = sampled_at + DISTRESS_S
    return replace(
        old,
        swap_in_bytes=swap_in,
        swap_out_bytes=swap_out,
        swapped_bytes=int(swapped),
        swap_in_per_s=came_in / dt,
        swap_out_per_s=went_out / dt,
        learned_bytes=learned if learned > 1 else 0.0,
        distress_until=distress_until,
    )


def has_room_for_swapped(used_bytes: int, swapped_bytes: int, in_per_s: float, keep_bytes: int, ceiling_bytes: int) -> bool:
    """Whether a guest has room for what it reads back of what it has paged out, soon. If it then pages in, it reads
    back what an earlier squeeze cost: more memory would not help it, and less does not harm it.
    """
    margin = max(LEAST_MARGIN_BYTES, MARGIN_SHARE * ceiling_bytes)
    return keep_bytes - used_bytes > min(swapped_bytes, in_per_s * READ_S) + ROOM_PART * margin


def _available_bytes(stats: GuestStats) -> int | None:
    """MemAvailable, or free and cache where an old driver does not send it."""
    if stats.available_bytes is not None:
        return stats.available_bytes
    return None if stats.free_bytes is None else stats.free_bytes + (stats.cache_bytes or 0) // 2


def back_bytes(memory: GuestMemory) -> int:
    """What a guest reads back in the next moments of what it has paged out: no more than its disk can. Memory beyond that would
    lie idle, while others page for want of it.
    """
    return int(min(memory.use.swapped_bytes, memory.use.swap_in_per_s * READ_SOON_S))


def needs(memory: GuestMemory, ceiling_bytes: int, rise_share_per_s: float, headroom_bytes: int = 0) -> tuple[int, int, int]:
    """What a guest needs, in bytes, not bounded by anything yet: now, soon, lasting; each is at least the one before.

    Now: the least for the next moments. Soon: by its use now, with its full margin. Lasting: the same by its recent use.

    Args:
        memory: of the guest.
        ceiling_bytes: of the guest.
        rise_share_per_s: how fast guests of this host begin to rise, of their ceilings; 0 = none has been seen to.
        headroom_bytes: what its operator wants it to have free at any time.
    """
    used, growth_per_s, back = memory.use.used_bytes, memory.use.growth_per_s, memory.use.swapped_bytes
    back_soon = back_bytes(memory) if back else 0
    least_margin = REACT_S * (rise_share_per_s or UNSEEN_RISE_SHARE_PER_S) * ceiling_bytes
    if least_margin < LEAST_TIGHT_BYTES:
        least_margin = LEAST_TIGHT_BYTES
    if least_margin < headroom_bytes:
        least_margin = headroom_bytes
    margin = MARGIN_SHARE * ceiling_bytes
    if margin < LEAST_MARGIN_BYTES:
        margin = LEAST_MARGIN_BYTES
    if margin < headroom_bytes:
        margin = headroom_bytes
    soon = int(used + back + margin + memory.use.learned_bytes + growth_per_s * HORIZON_S)
    if memory.use.heap_missing_bytes > memory.use.swapped_bytes:
        # A collector walks all of a heap: what of it is not resident is needed, but not in the next moments.
        soon += min(memory.use.heap_missing_bytes - memory.use.swapped_bytes, int(HEAP_SHARE * ceiling_bytes))
    return (
        int(used + back_soon + least_margin + growth_per_s * TIGHT_HORIZON_S),
        soon,
        soon + int(memory.use.slow_bytes) - memory.use.used_bytes,
    )
