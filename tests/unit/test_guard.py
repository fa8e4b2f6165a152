"""The guard, pass by pass: whatever a policy wishes, floors, ceilings, who may not move and what the host has all hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ballonet.decide.guard import CUSHION_SHARE, bounds, peer_bounds, peer_promises, promises
from ballonet.decide.memory import GuestMemory, Use
from ballonet.decide.seat import Seat
from ballonet.decide.table import BudgetTable, Table
from ballonet.model.limits import Limits
from ballonet.model.plan import NO_RESERVE, Reason
from ballonet.model.snapshot import Guest
from ballonet.model.units import GIB, MIB

NO_R4 = Limits(without=frozenset({"R4"}))
sizes = st.integers(0, 9 * GIB)


def seat(keep: int, wish: int, floor: int = GIB, most: int = 8 * GIB, **more: object) -> Seat:
    """A guest that uses half of what it keeps, and grows."""
    guest = Guest(name="g", ceiling_bytes=most, keep_bytes=keep)
    memory = GuestMemory(use=Use(used_bytes=keep // 2, growth_per_s=64 * MIB))
    return Seat(guest, memory, keep_bytes=keep, held_bytes=keep, floor_bytes=floor, wish_bytes=wish, **more)  # type: ignore[arg-type]


def table(*seats: Seat, free: int, reserve: int = 0, limits: Limits | None = None) -> Table:
    held = sum(one.held_bytes for one in seats)
    reserved = replace(NO_RESERVE, bytes=reserve)
    return Table(list(seats), limits or Limits(), 64 * GIB, held + free, reserved, available_bytes=free)


@given(keep=st.integers(1, 8 * GIB), wish=sizes, floor=sizes, may_give=st.booleans(), may_take=st.booleans())
@pytest.mark.parametrize("passed", [bounds, peer_bounds])
def test_nobody_leaves_its_bounds(passed: object, keep: int, wish: int, floor: int, may_give: bool, may_take: bool) -> None:
    """Below its floor is nobody sent, above its ceiling either, and who may not give or take does not."""
    one = seat(keep, wish, min(floor, 8 * GIB), may_give=may_give, may_take=may_take)
    passed(table(one, free=0))  # type: ignore[operator]
    assert 0 < one.wish_bytes <= 8 * GIB
    assert one.wish_bytes >= min(one.floor_bytes, keep)
    assert may_give or one.wish_bytes >= keep
    assert may_take or one.wish_bytes <= keep


def test_one_that_stands_below_its_floor_comes_up_to_it_and_is_told_why() -> None:
    """By our policies; a peer raises nobody, and sends nobody below."""
    ours, theirs = seat(GIB, GIB // 2, 2 * GIB), seat(3 * GIB, GIB, 2 * GIB)
    bounds(table(ours, free=0))
    peer_bounds(table(theirs, free=0))
    assert (ours.wish_bytes, ours.reason) == (2 * GIB, Reason.FLOOR)
    assert (theirs.wish_bytes, theirs.reason) == (2 * GIB, Reason.FLOOR)


def test_a_balloon_that_frees_nothing_is_given_back_though_it_may_not_move() -> None:
    """What inert.py asks for passes; nothing else does."""
    one = seat(2 * GIB, 2 * GIB, may_give=False, may_take=False, returns_bytes=3 * GIB)
    bounds(table(one, free=0))
    assert one.wish_bytes == 3 * GIB


@given(
    wishes=st.lists(st.tuples(st.integers(1, 8 * GIB), sizes), min_size=1, max_size=6),
    free=st.integers(-GIB, 8 * GIB),
    reason=st.sampled_from([Reason.NEEDS, Reason.SHORT, Reason.SPARE, Reason.DISTRESS]),
)
def test_no_more_is_promised_than_is_free(wishes: list[tuple[int, int]], free: int, reason: Reason) -> None:
    """R4: what is given out together is at most what nobody may take yet, whatever others give in the same plan; and nobody who
    asked for more is taken from. Without the rule it is more.
    """
    seats = [seat(keep, wish, floor=1, reason=reason) for keep, wish in wishes]
    free_for_all = [replace(one) for one in seats]
    promises(table(*seats, free=free))
    given_out = sum(max(0, one.wish_bytes - one.keep_bytes) for one in seats)
    assert given_out <= max(0, free)
    for one, (keep, wish) in zip(seats, wishes, strict=True):
        assert (one.wish_bytes == wish) if wish <= keep else keep <= one.wish_bytes <= wish
        assert one.wish_bytes == wish or one.reason is Reason.BUDGET
    promises(table(*free_for_all, free=free, limits=NO_R4))
    assert [one.wish_bytes for one in free_for_all] == [wish for _, wish in wishes]


def test_a_limit_around_some_is_a_budget_of_its_own() -> None:
    """Who lies in a full group gets nothing, and is told which one; who lies beside it gets all."""
    inside, beside = (seat(2 * GIB, 4 * GIB, reason=Reason.NEEDS) for _ in range(2))
    whole = table(inside, beside, free=8 * GIB)
    whole.budgets = [BudgetTable("/small.slice", [inside], 2 * GIB, 0)]
    promises(whole)
    assert (inside.wish_bytes, beside.wish_bytes) == (2 * GIB, 4 * GIB)
    assert inside.reason is Reason.BUDGET
    assert inside.numbers is not None
    assert "small.slice" in str(inside.numbers["within"])


def test_spare_stops_at_the_reserve_and_needs_do_not() -> None:
    """R3, R10: the reserve is there for who needs it; a guest that can wait leaves a third of it (R12)."""
    for reason, gets in ((Reason.SPARE, GIB), (Reason.NEEDS, 3 * GIB)):
        one = seat(2 * GIB, 8 * GIB, reason=reason)
        promises(table(one, free=3 * GIB, reserve=2 * GIB))
        assert one.wish_bytes == 2 * GIB + gets
    patient = seat(4 * GIB, 4 * GIB + 64 * MIB, reason=Reason.NEEDS)
    patient.memory = GuestMemory(use=Use(used_bytes=GIB))
    reserve = 96 * MIB
    promises(table(patient, free=64 * MIB, reserve=reserve))
    assert patient.wish_bytes == 4 * GIB + 64 * MIB - int(CUSHION_SHARE * reserve)


def test_who_is_guaranteed_comes_first() -> None:
    """R10: its guarantee before anybody's wish; without the rule all last equally long."""
    for limits in (Limits(), Limits(without=frozenset({"R10"}))):
        owed, other = (seat(2 * GIB, 4 * GIB, reason=Reason.SHORT) for _ in range(2))
        owed.guest = replace(owed.guest, guaranteed_bytes=4 * GIB)
        promises(table(owed, other, free=2 * GIB, limits=limits))
        assert (owed.wish_bytes, other.wish_bytes) == ((4 * GIB, 2 * GIB) if limits.has("R10") else (3 * GIB, 3 * GIB))


def test_what_little_there_is_lasts_all_equally_long() -> None:
    """Of two that lack memory the one that grows twice as fast gets twice as much beyond what it uses."""
    fast, slow = (seat(2 * GIB, 8 * GIB, reason=Reason.SHORT) for _ in range(2))
    for one, growth in ((fast, 512 * MIB), (slow, 256 * MIB)):
        one.memory = GuestMemory(use=Use(used_bytes=2 * GIB, growth_per_s=growth))
    promises(table(fast, slow, free=3 * GIB))
    assert fast.wish_bytes - 2 * GIB == pytest.approx(2 * GIB, abs=MIB)
    assert slow.wish_bytes - 2 * GIB == pytest.approx(GIB, abs=MIB)


def test_a_peers_gains_fit_into_what_is_free_and_what_it_frees() -> None:
    """It frees first and gives then, so both count; a host that is not measured holds nothing against it."""
    giver, taker = seat(4 * GIB, 3 * GIB), seat(2 * GIB, 6 * GIB, reason=Reason.PEER)
    peer_promises(table(giver, taker, free=GIB))
    assert (giver.wish_bytes, taker.wish_bytes) == (3 * GIB, 4 * GIB)
    unmeasured = table(seat(2 * GIB, 6 * GIB), free=0)
    unmeasured.total_bytes = 0
    peer_promises(unmeasured)
    assert unmeasured.seats[0].wish_bytes == 6 * GIB
