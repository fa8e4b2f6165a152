"""Limits around guests, beside and within each other, and the host around all: what each should have."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ballonet.decide.division import pool_of
from ballonet.decide.lay import laid
from ballonet.decide.limited import divide_under_limits
from ballonet.decide.policies import POLICIES
from ballonet.decide.reserve import reserve
from ballonet.decide.step import START
from ballonet.decide.table import Table
from ballonet.model.limits import Limits
from ballonet.model.plan import ReserveReason
from ballonet.model.snapshot import Budget, Guest, GuestStats, Host, Snapshot
from ballonet.model.units import GIB, MIB

SLACK = 2 * MIB
Limit = tuple[int, tuple[int, ...]]
"""How much (MiB), and around which guests, by number."""


def divided(total: int, uses: list[tuple[int, int]], limits: list[Limit], ordered: int | None = None) -> Table:
    """The table once all is divided: guests of 4 GiB that keep what they use (MiB), and their shares."""
    guests = []
    for number, (used, shares) in enumerate(uses):
        keep = used * MIB
        said = GuestStats(total_bytes=keep, available_bytes=0, swap_in_bytes=0, swap_out_bytes=0)
        one = Guest(name=f"g{number}", ceiling_bytes=4 * GIB, keep_bytes=keep, resident_bytes=used * MIB, stats=said)
        guests.append(
            Guest(**{name: getattr(one, name) for name in one.__struct_fields__} | {"stats_age_s": 0.0, "shares": shares})
        )
    budgets = []
    for number, (size, inside) in enumerate(limits):
        left = size - sum(uses[one][0] for one in inside)
        names = tuple(f"g{one}" for one in inside)
        budgets.append(Budget(name=f"/l{number}", limit_bytes=size * MIB, available_bytes=left * MIB, guests=names))
    free = total * MIB - sum(used for used, _ in uses) * MIB
    host = Host(total_bytes=total * MIB, available_bytes=free, budgets=tuple(budgets))
    bound = Limits(reserve_bytes=None if ordered is None else ordered * MIB)
    table = laid(POLICIES["adaptive"], START, Snapshot(host=host, guests=tuple(guests)), bound, 0.0)
    table.reserve = reserve(table.total_bytes, START.shown.spike, bound)
    table.is_pressed = False  # margins are another matter (R14)
    divide_under_limits(table, table.seats, pool_of(table.memory_bytes, table.seats, table.reserve_bytes))
    return table


def wishes(table: Table) -> list[int]:
    """In MiB."""
    return [seat.wish_bytes // MIB for seat in table.seats]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], list[Limit]]:
    """A host on which all that is used fits, and limits that hold it too: a tree of them, as cgroups are."""
    uses = draw(st.lists(st.tuples(st.integers(128, 3600), st.sampled_from([500, 1000, 1000, 4000])), min_size=2, max_size=6))
    limits: list[Limit] = []

    def within(some: tuple[int, ...], depth: int) -> None:
        if depth and len(some) > 1 and draw(st.booleans()):
            cut = draw(st.integers(1, len(some) - 1))
            for part in (some[:cut], some[cut:]):
                if draw(st.booleans()):
                    used = sum(uses[one][0] for one in part)
                    limits.append((draw(st.integers(used, used + 1500)), part))
                within(part, depth - 1)

    within(tuple(range(len(uses))), 3)
    used = sum(one for one, _ in uses)
    return draw(st.integers(used, used + 4096)), uses, limits


def room(table: Table, number: int) -> int:
    budget = next(one for one in table.budgets if one.name == f"/l{number}")
    return max(pool_of(budget.memory_bytes, budget.seats, budget.reserve_bytes), sum(seat.floor_bytes for seat in budget.seats))


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_every_limit_holds(world: tuple[int, list[tuple[int, int]], list[Limit]]) -> None:
    """No more is wished for under any limit than it has, nor on the host, where floors fit."""
    table = divided(*world)
    for number, (_, inside) in enumerate(world[2]):
        assert sum(table.seats[one].wish_bytes for one in inside) <= room(table, number) + SLACK
    floors = sum(seat.floor_bytes for seat in table.seats)
    assert sum(seat.wish_bytes for seat in table.seats) <= max(table.memory_bytes, floors) + SLACK


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_a_limit_gives_nobody_inside_more_and_nobody_outside_less(
    world: tuple[int, list[tuple[int, int]], list[Limit]],
) -> None:
    """Each outermost limit alone, against none at all."""
    total, uses, limits = world
    free = divided(total, uses, [])
    for limit in limits:
        table = divided(total, uses, [limit])
        inside = set(limit[1])
        both = list(enumerate(zip(table.seats, free.seats, strict=True)))
        floors = sum(seat.floor_bytes for number, (seat, _) in both if number in inside)
        before = sum(seat.wish_bytes for number, (_, seat) in both if number in inside)
        assert sum(seat.wish_bytes for number, (seat, _) in both if number in inside) <= max(before, floors) + SLACK
        for number, (seat, was) in both:
            assert number in inside or seat.wish_bytes >= min(was.wish_bytes, seat.need_lasting_bytes) - SLACK


def test_siblings_of_an_inner_limit_have_as_much_as_those_inside() -> None:
    """What lies outside is divided first: an inner limit that is wide enough for that is no privilege."""
    for used in (900, 1000, 1010):
        equal = wishes(divided(32768, [(used, 1000)] * 4, [(3072, (0, 1)), (4096, (0, 1, 2, 3))]))
        assert max(equal) - min(equal) <= 1
        assert sum(equal) > 0.97 * 4096
    inner = wishes(divided(32768, [(800, 1000)] * 4, [(1700, (0, 1)), (4096, (0, 1, 2, 3))]))
    assert sum(inner[:2]) <= 1700
    assert min(inner[2:]) > 1000  # what those cannot have


def test_r3_an_ordered_reserve_is_had_beside_a_full_limit() -> None:
    """Those under the limit cannot have what they want, so the others' needs and the reserve fit."""
    table = divided(12288, [(1900, 1000), (1900, 1000), (1000, 1000)], [(3850, (0, 1))], ordered=6144)
    assert table.reserve.reason is ReserveReason.OPERATOR
    assert sum(wishes(table)) <= 12288 - 6144
    beyond = divided(12288, [(1900, 1000), (1900, 1000), (1000, 1000)], [(3850, (0, 1))], ordered=8192)
    assert beyond.reserve.reason is ReserveReason.BEYOND
    assert 12288 - 3850 - 1300 < beyond.reserve.numbers["reach_bytes"] // MIB < 12288 - 3850 - 1000


def test_a_limit_about_as_large_as_their_part_of_the_host_lifts_nobody_above_it() -> None:
    """A host that is too small, and a limit that gives those inside what the host does, or a little more or less."""
    uses = [(1500, 1000)] * 4
    free = sum(wishes(divided(6100, uses, []))[:2])
    for more in range(-40, 80, 5):
        assert sum(wishes(divided(6100, uses, [(free + more, (0, 1))]))[:2]) <= max(free, 3000) + 1


def test_an_inner_limit_holds_where_the_one_around_it_is_found_exceeded_later() -> None:
    """What the inner one caps goes to its siblings, which makes the outer one too small: both hold, and little lies idle."""
    table = divided(6048, [(1556, 1000), (1491, 1000), (1393, 500), (1531, 4000)], [(4457, (0, 1, 2)), (3101, (0, 1))])
    found = wishes(table)
    assert found[0] + found[1] <= 3101
    assert 0.97 * 4457 <= sum(found[:3]) <= 4457
