"""A guest's place at the table: what it needs, what it may, and what it counts at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ballonet.decide.classify import SILENT_S, raw_seat, seat, watch_only
from ballonet.decide.memory import GuestMemory, Motion
from ballonet.model.limits import Limits
from ballonet.model.plan import Reason
from ballonet.model.snapshot import Guest, GuestStats, Mode
from ballonet.model.units import GIB, MIB

NEW = GuestMemory()


def guest(used: int = 2 * GIB, keep: int = 4 * GIB, **more: object) -> Guest:
    stats = GuestStats(total_bytes=keep, available_bytes=max(0, keep - used), free_bytes=max(0, keep - used))
    whole = {"resident_bytes": min(used, keep), "stats": stats, "stats_age_s": 0.0} | more
    return Guest(name="g", ceiling_bytes=8 * GIB, keep_bytes=keep, **whole)  # type: ignore[arg-type]


@given(used=st.integers(0, 9 * GIB), keep=st.integers(1, 8 * GIB), floor=st.integers(0, 9 * GIB), age=st.floats(0, 100))
def test_needs_keep_their_order_and_their_bounds(used: int, keep: int, floor: int, age: float) -> None:
    """Now <= soon <= lasting, none below the floor, none above the ceiling, whatever a guest says."""
    one = seat(NEW, guest(used, keep, floor_bytes=floor, stats_age_s=age), Limits(), 1.0)
    assert one.need_now_bytes <= one.need_soon_bytes <= one.need_lasting_bytes <= 8 * GIB
    assert one.need_now_bytes >= min(floor, 8 * GIB) or not one.may_take
    assert 0 <= one.floor_bytes <= 8 * GIB
    assert one.counted_bytes <= one.held_bytes <= one.whole_bytes or one.is_movable


@pytest.mark.parametrize(
    ("change", "rule", "reason"),
    [
        ({"can_balloon": False}, "R13", Reason.ALONE),
        ({"is_migrating": True}, "R13", Reason.ALONE),
        ({"leave_alone": "it is paused"}, "R13", Reason.ALONE),
        ({"mode": Mode.OBSERVE}, "", Reason.OBSERVED),
        ({"keep_bytes": None}, "", Reason.UNKNOWN),
    ],
)
def test_who_is_not_moved_and_why(change: dict[str, object], rule: str, reason: Reason) -> None:
    """By us and by any peer; with its rule off it is moved."""
    for make in (seat, raw_seat):
        one = make(NEW, replace(guest(), **change), Limits(), 1.0)
        assert (one.is_movable, one.reason) == (False, reason)
        if rule:
            assert make(NEW, replace(guest(), **change), Limits(without=frozenset({rule})), 1.0).is_movable


def test_nobody_is_moved_on_old_news() -> None:
    """R8; it is told why."""
    old = guest(stats_age_s=5.0)
    one = seat(NEW, old, Limits(), 1.0)
    assert (one.is_movable, one.reason) == (False, Reason.STALE)
    assert seat(NEW, old, Limits(without=frozenset({"R8"})), 1.0).may_give


def test_what_is_asked_for_counts_as_held_until_it_is_parked() -> None:
    """R4: a guest that was told to grow may do so at any moment."""
    asked = GuestMemory(motion=Motion(keep_bytes=4 * GIB, asked_bytes=6 * GIB, seen_at=0.5))
    assert seat(asked, guest(), Limits(), 1.0).held_bytes == 6 * GIB
    parked = replace(asked, motion=replace(asked.motion, parked_sign=1, parked_until=60.0))
    assert seat(parked, guest(), Limits(), 1.0).held_bytes == 4 * GIB


def test_who_cannot_be_moved_counts_at_what_it_occupies_and_an_expected_rise() -> None:
    """R4: nobody pages for what nobody uses. One that starts counts at all that it has, one that is
    only late at what it keeps.
    """
    alone = guest(resident_bytes=GIB, can_balloon=False)
    one = seat(NEW, alone, Limits(), 1.0)
    assert GIB < one.held_bytes < 2 * GIB
    assert seat(NEW, replace(alone, is_starting=True), Limits(), 1.0).held_bytes == 8 * GIB
    for age_s, is_whole in ((SILENT_S - 1, True), (SILENT_S + 1, False)):
        late = seat(NEW, guest(resident_bytes=GIB, stats_age_s=age_s), Limits(), 1.0)
        assert late.may_take or (late.held_bytes == 4 * GIB) is is_whole


def test_one_that_is_only_watched_is_nobodys_to_move() -> None:
    """It needs what it keeps, and counts at what it occupies."""
    one = seat(NEW, guest(), Limits(), 1.0)
    watch_only(one, 1.0)
    assert (one.is_movable, one.reason) == (False, Reason.OBSERVED)
    assert one.need_now_bytes == one.need_lasting_bytes == 4 * GIB
    assert 2 * GIB <= one.held_bytes < 4 * GIB


def test_without_swap_nobody_is_squeezed_below_what_it_uses() -> None:
    """R6: who does not say that it has swap has none."""
    one = seat(NEW, guest(used=3 * GIB, floor_bytes=GIB), Limits(), 1.0)
    assert one.floor_bytes > 3 * GIB
    stats = GuestStats(total_bytes=4 * GIB, available_bytes=GIB, free_bytes=GIB, swap_free_bytes=8 * GIB)
    assert seat(NEW, guest(used=3 * GIB, floor_bytes=GIB, stats=stats), Limits(), 1.0).floor_bytes == GIB


def test_a_ceiling_below_what_a_guest_keeps_is_approached_in_portions() -> None:
    """R6: an operator's ceiling of 2 GiB takes nothing at once, and nothing that is used."""
    one = seat(NEW, replace(guest(used=GIB), ceiling_bytes=2 * GIB, given_bytes=8 * GIB), Limits(), 1.0)
    assert 2 * GIB < one.guest.ceiling_bytes < 4 * GIB
    assert 4 * GIB - one.guest.ceiling_bytes < GIB
    used = seat(NEW, replace(guest(used=4 * GIB - 64 * MIB), ceiling_bytes=2 * GIB, given_bytes=8 * GIB), Limits(), 1.0)
    assert used.guest.ceiling_bytes >= 4 * GIB - 64 * MIB
