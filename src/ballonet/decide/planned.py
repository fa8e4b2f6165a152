"""Planning: what was decided, how closely to look at each guest, and when to decide again."""

from typing import Final

from ballonet.decide import rooms, watch
from ballonet.decide.seat import Seat
from ballonet.decide.states import ALARMING
from ballonet.decide.table import Table
from ballonet.model.plan import Decision, Keep, Look, Plan, PlanBudget

SOON_S: Final = 0.2
"""When to decide again while something is under way: a balloon moves 200 MiB in that time."""
AT_ONCE_S: Final = 0.1
"""The same while a guest has less than it needs in the next moments: what donors give meanwhile is lent on twice as soon."""


def planned(table: Table, decisions: tuple[Decision, ...], policy: str) -> Plan:
    """The plan of one tick."""
    interval_s = table.limits.interval_s
    is_busy = any(isinstance(one.ask, Keep) for one in decisions) or any(
        one.is_under_way and not one.memory.motion.parked_sign for one in table.seats
    )
    is_busy = is_busy or table.is_gathering
    is_tight = any(one.may_take and one.keep_bytes < one.need_now_bytes for one in table.seats)
    next_s = AT_ONCE_S if is_busy and is_tight else SOON_S if is_busy else interval_s
    gains = sum(
        one.wish_bytes - one.held_bytes
        for one in table.seats
        if one.wish_bytes > one.held_bytes and one.is_movable and not one.guest.knobs
    )
    made = rooms.told(table)
    return Plan(
        policy=policy,
        guests=decisions,
        short=tuple(table.short),
        looks={one.guest.name: _look(one, interval_s) for one in table.seats},
        next_s=min(next_s, interval_s),
        memory_bytes=table.memory_bytes,
        reserve=table.reserve,
        host_state=table.state,
        is_alarming=table.state in ALARMING,
        promised_bytes=table.memory_bytes - table.slack_bytes + gains + sum(one.gathered_bytes for one in made),
        fixed={one.guest.name: one.held_bytes for one in table.seats if not one.is_movable},
        rooms=made,
        budgets=tuple(
            PlanBudget(
                one.name, one.memory_bytes, tuple(seat.guest.name for seat in one.seats), one.memory_bytes - one.slack_bytes
            )
            for one in table.budgets
        ),
    )


def _look(one: Seat, interval_s: float) -> Look:
    if one.look is not None:
        return one.look
    look = watch.look(one, interval_s)
    if one.is_still:
        one.look = look
    return look
