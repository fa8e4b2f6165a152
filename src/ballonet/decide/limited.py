"""Limits around some guests, next to each other and within each other: what lies outside is divided first, and a limit caps
what that gives those inside. What they cannot have goes to the others.
"""

from dataclasses import dataclass

from ballonet.decide.division import LEAST_RESERVE, lend_margins, pool_of, share_out
from ballonet.decide.seat import Layer, Seat
from ballonet.decide.table import BudgetTable, Table
from ballonet.model.plan import Reserve, ReserveReason

Asked = dict[str, tuple[int, int, int, tuple[Layer, ...], int]]
"""By guest: its needs, the cache in them, and its floor, before a division bound them. A guest short under one limit may have
plenty outside it."""


@dataclass(slots=True)
class _Group:
    """Those who share one pool: they lie under the same limits."""

    seats: list[Seat]
    pool: int
    wanted: int


def divide_under_limits(table: Table, seats: list[Seat], pool: int) -> int:
    """Sets the wishes of all that can be moved. Gives what stays free of the pool.

    Args:
        table: of this tick.
        seats: among whom.
        pool: bytes of the host that are divided.
    """
    asked: Asked = {}
    if table.budgets:
        asked = {
            one.guest.name: (one.need_now_bytes, one.need_soon_bytes, one.need_lasting_bytes, one.cache_layers, one.floor_bytes)
            for one in seats
        }
    groups: dict[str, _Group] = {}
    host = BudgetTable("", seats, pool, table.reserve_bytes)
    kept = _divide(table, host, pool, table.budgets, groups, asked)
    for where, group in groups.items():
        lend_margins(table, group.seats, group.pool, group.wanted, where)
    _note_reach(table, seats, pool)
    return kept


def _divide(
    table: Table, around: BudgetTable, pool: int, budgets: list[BudgetTable], groups: dict[str, _Group], asked: Asked
) -> int:
    """Divides a pool; then each limit that is exceeded by that, the innermost first: what one caps may be all that exceeded the
    next one out. Guests under it have their fill, the others share the rest anew, which may be more than a limit of theirs: so
    this is repeated until all limits hold. A limit around others that were capped before is divided anew, from outside to
    inside: guests next to a limit have no less than those under it. Returns what stays free of the pool.
    """
    for one in budgets:
        groups.pop(one.name, None)
        table.rationed.discard(one.name)
    seats = [seat for seat in around.seats if seat.is_movable]
    group = groups[around.name] = _Group(seats, pool, around.reserve_bytes)
    kept = _share_anew(table, group, around.name, asked)
    left = sorted(budgets, key=lambda one: len(one.seats))
    full = set[str]()
    while (budget := next(filter(_is_too_much, left), None)) is not None:
        names = {seat.guest.name for seat in budget.seats}
        within = [one for one in budgets if one is not budget and names.issuperset(seat.guest.name for seat in one.seats)]
        left = [one for one in left if one is not budget and one not in within]
        room = pool_of(budget.memory_bytes, budget.seats, budget.reserve_bytes)
        _divide(table, budget, room, within, groups, asked)
        full |= names
        group.seats = [seat for seat in seats if seat.guest.name not in full]
        group.pool = pool - sum(seat.wish_bytes for seat in seats if seat.guest.name in full)
        kept = _share_anew(table, group, around.name, asked)
    return kept


def _share_anew(table: Table, group: _Group, where: str, asked: Asked) -> int:
    """What was said of these before does not count."""
    table.rationed.discard(where)
    for seat in group.seats if asked else ():
        seat.rationed_by = None
        (seat.need_now_bytes, seat.need_soon_bytes, seat.need_lasting_bytes, seat.cache_layers, seat.floor_bytes) = asked[
            seat.guest.name
        ]
        seat.cache_gone_bytes = 0
    if not group.seats:
        return max(0, min(group.wanted, group.pool))
    return share_out(table, group.seats, group.pool, group.wanted, where)


def _is_too_much(budget: BudgetTable) -> bool:
    """Whether more is wished for under a limit than it lets. Its reserve counts only as far as it stays when the limit is
    divided: else a limit would give those inside more than what lies around it does.
    """
    inside = [seat for seat in budget.seats if seat.is_movable]
    wishes = sum(seat.wish_bytes for seat in inside)
    reserve = budget.reserve_bytes
    if any(seat.rationed_by is not None for seat in inside):
        reserve = 0
    elif wishes < sum(seat.need_lasting_bytes + seat.cache_gone_bytes for seat in inside):
        reserve = int(LEAST_RESERVE * reserve)
    return wishes + reserve > pool_of(budget.memory_bytes, budget.seats, budget.reserve_bytes)


def _note_reach(table: Table, seats: list[Seat], pool: int) -> None:
    """Says when the operator's reserve is more than guests can spare."""
    if table.reserve.reason is not ReserveReason.OPERATOR:
        return
    reach = max(0, pool - _needed_bytes(table, seats))
    if table.reserve_bytes > reach:
        table.reserve = Reserve(table.reserve_bytes, ReserveReason.BEYOND, {"reach_bytes": reach})


def _needed_bytes(table: Table, seats: list[Seat]) -> int:
    """The low needs of all, as far as limits around them let them have those."""
    needs = {seat.guest.name: float(seat.need_lasting_bytes) for seat in seats}
    for budget in table.budgets:  # the smallest first
        names = [seat.guest.name for seat in budget.seats if seat.is_movable]
        most, wanted = pool_of(budget.memory_bytes, budget.seats, budget.reserve_bytes), sum(map(needs.__getitem__, names))
        if wanted > most:
            needs |= {name: needs[name] * most / wanted for name in names}
    return int(sum(needs.values()))
