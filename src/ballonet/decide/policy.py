"""What a policy is: a way to divide the table, how often it does so, what a seat at its table is, and what stands around it."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ballonet.decide import guard, shown
from ballonet.decide.classify import raw_seat, seat
from ballonet.decide.memory import GuestMemory
from ballonet.decide.seat import Seat
from ballonet.decide.shown import Shown
from ballonet.decide.state import State
from ballonet.decide.table import Table
from ballonet.model.limits import RULES, Limits
from ballonet.model.plan import Reason
from ballonet.model.snapshot import Guest

PEER_RULES: Final = frozenset({"R4", "R6", "R13"})
"""What stays on top of a peer's policy: the budget, floors, and whom to leave alone. The rest is what the peer lacks."""
Passes = tuple[Callable[[Table], None], ...]


class Policy(Struct, frozen=True):
    """One way to divide a host's memory."""

    divide: Callable[[Table], None]
    """Sets `wish_bytes` and the reason of each seat that may move."""
    period_s: float = 0.0
    """How long its last word stands; 0 = it speaks at each tick."""
    seat: Callable[[GuestMemory, Guest, Limits, float, float], Seat] = seat
    """Makes a guest's seat: with our needs, parking and calm, or as another controller sees it."""
    guard: Passes = guard.PASSES
    """What corrects its wishes, in this order."""
    without: frozenset[str] = frozenset()
    """The rules that are not in force around it."""
    reuses_seats: bool = True
    keeps_rooms: bool = False
    """Whether it gathers memory for VMs that are about to start (R18)."""
    learn: Callable[[Shown, list[Seat], float], Shown] = shown.note
    """What of the host's past it goes by."""


def peer(divide: Callable[[Table], None], period_s: float = 0.0) -> Policy:
    """One that decides as another controller does: on the raw numbers. The order of its commands (free first, then give) is
    `act`'s, so the budget is held against where all of them lead.
    """
    return Policy(
        divide,
        period_s,
        seat=raw_seat,
        guard=guard.PEER_PASSES,
        without=frozenset(RULES) - PEER_RULES,
        reuses_seats=False,
        learn=lambda known, _seats, _now: known,
    )


def divided(policy: Policy, table: Table, state: State) -> State:
    """Lets the policy speak, or repeats its last word while that stands, and the guard after it."""
    now = table.now
    stands = bool(policy.period_s) and now - state.spoke_at < policy.period_s
    if stands:
        _repeat(table, state)
    else:
        policy.divide(table)
        said = {one.guest.name: (one.wish_bytes, one.numbers or {}) for one in table.seats if one.reason is Reason.PEER}
    for correct in policy.guard:
        correct(table)
    if stands:
        return state
    if policy.period_s:
        return replace(state, past=table.past, spoke_at=now, said=said)
    return replace(state, past=table.past)


def _repeat(table: Table, state: State) -> None:
    for one in table.seats:
        if one.is_movable and one.guest.name in state.said:
            wish, numbers = state.said[one.guest.name]
            one.say(wish, Reason.PEER, **numbers)
