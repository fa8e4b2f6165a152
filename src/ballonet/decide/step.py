"""One tick, top to bottom: classify, estimate, reserve, policy, guard, decide, watch."""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from ballonet.decide import guard, ladder, reserve, shown, stuck, watch
from ballonet.decide.classify import raw_seat, seat, seat_again, watch_only
from ballonet.decide.memory import GuestMemory
from ballonet.decide.policies import POLICIES
from ballonet.decide.policy import Policy
from ballonet.decide.seat import Seat
from ballonet.decide.state import State
from ballonet.decide.states import ALARMING, LASTS_S, is_better, state_of
from ballonet.decide.steering import knobs, target
from ballonet.decide.steering.knobs import Turned
from ballonet.decide.table import BudgetTable, Table
from ballonet.model.limits import Limits
from ballonet.model.plan import Decision, Keep, Look, Plan, PlanBudget, Reason
from ballonet.model.snapshot import Guest, Host, Mode, Snapshot

START: Final = State()
_NOBODY: Final = GuestMemory()
SOON_S: Final = 0.2
"""When to decide again while something is under way: a balloon moves 200 MiB in that time."""
AT_ONCE_S: Final = 0.1
"""The same while a guest has less than it needs in the next moments: what donors give meanwhile is lent on twice as soon."""


def step(state: State, snapshot: Snapshot, limits: Limits, now: float, policy: str = "adaptive") -> tuple[State, Plan]:
    """Decides what every guest shall keep.

    Args:
        state: what the last step left; `START` at first. A daemon that was killed starts anew: it adopts what it sees.
        snapshot: the world now.
        limits: what binds every decision.
        now: seconds on any clock that only rises, the same for all steps.
        policy: a name of `POLICIES`.

    Returns:
        The state for the next step, and the plan: one decision per guest, in the snapshot's order.
    """
    chosen = POLICIES[policy]
    if state.decided_at == START.decided_at and not limits.has("R16"):
        snapshot = _as_configured(snapshot)
    table = _laid(chosen, state, snapshot, limits, now)
    seen = state.shown if chosen.is_peer else shown.note(state.shown, table.seats, now)
    table.reserve = reserve.reserve(table.total_bytes, seen.spike, table.limits)
    after = _divided(chosen, table, state)
    decisions, turned = _decisions(table, state, now)
    memories = {one.guest.name: _after(one, decision, now) for one, decision in zip(table.seats, decisions, strict=True)}
    is_busy = any(isinstance(one.ask, Keep) and one.reason is not Reason.SPARE for one in decisions)
    busy_at = now if is_busy else state.busy_at
    is_same = seen.rise_share_per_s == state.shown.rise_share_per_s and not chosen.is_peer
    after = replace(
        after,
        guests=memories,
        seats=_still(table, memories) if is_same else {},
        limits=limits,
        decided_at=now,
        busy_at=busy_at,
        shown=seen,
        turned=turned,
        host_state=table.state,
        better_at=_better_at(state, table, snapshot.host, now),
    )
    return _climbed(after, _plan(table, decisions, policy), snapshot, limits)


def _climbed(state: State, plan: Plan, snapshot: Snapshot, limits: Limits) -> tuple[State, Plan]:
    """With the steps beyond the balloon that are due, where any is allowed (R14)."""
    if not (limits.may_ksm or limits.may_reclaim) or state.decided_at - state.stepped_at < ladder.PERIOD_S:
        return state, plan
    return replace(state, stepped_at=state.decided_at), replace(plan, emergency=ladder.emergency(plan, snapshot, limits))


def _still(table: Table, memories: Mapping[str, GuestMemory]) -> dict[str, Seat]:
    """The places that can be taken again as they are: nothing of the guest moves, and nothing was asked of it just now."""
    return {one.guest.name: one for one in table.seats if one.is_still and memories[one.guest.name] is one.memory}


def _as_configured(snapshot: Snapshot) -> Snapshot:
    """Without R16 a daemon starts from what it was told of its guests, not from what it sees: all their memory is theirs."""
    return replace(snapshot, guests=tuple(replace(guest, keep_bytes=guest.ceiling_bytes) for guest in snapshot.guests))


def _leave_advised(seats: list[Seat], now: float) -> None:
    """Beside guests that are moved, those in mode `advise` are only watched: what they would give does not come."""
    advised = [one for one in seats if one.guest.mode is Mode.ADVISE]
    if advised and len(advised) < len(seats) and any(one.guest.mode is Mode.ACT for one in seats):
        for one in advised:
            watch_only(one, now)


def _laid(policy: Policy, state: State, snapshot: Snapshot, limits: Limits, now: float) -> Table:
    """The table of this tick, before anything is divided."""
    host = snapshot.host
    if policy.is_peer:
        limits = replace(limits, without=limits.without | policy.without)
        seats = [raw_seat(state.guests.get(guest.name, _NOBODY), guest, limits, now) for guest in snapshot.guests]
    else:
        seats = [_seat(state, guest, limits, now) for guest in snapshot.guests]
        _leave_advised(seats, now)
    return Table(
        seats=seats,
        limits=limits,
        total_bytes=host.total_bytes,
        memory_bytes=host.available_bytes + sum(map(_resident_bytes, seats)),
        available_bytes=host.available_bytes,
        quiet_s=now - state.busy_at,
        pressure_share=max(host.pressure_some_avg10_share, host.cpu_some_avg10_share, host.io_some_avg10_share),
        state=_state(state, host, limits, now),
        is_pressed=_seen_state(state, host, limits) in ALARMING,
        now=now,
        options=snapshot.options,
        past=dict(state.past),
        budgets=_budgets(host, seats) if limits.has("R4") else [],
    )


def _resident_bytes(one: Seat) -> int:
    """What a guest has of the host's memory; where nobody can measure that, what it keeps, as on the other side of the sum."""
    measured = one.guest.measured_bytes
    return one.keep_bytes if measured is None else measured


def _budgets(host: Host, seats: list[Seat]) -> list[BudgetTable]:
    """Limits around some guests, the smallest first: of two, one within the other, the inner one."""
    found = []
    for budget in sorted(host.budgets, key=lambda one: (len(one.guests), one.limit_bytes)):
        names = set(budget.guests)
        inside = [one for one in seats if one.guest.name in names]
        memory = budget.available_bytes + sum(map(_resident_bytes, inside))
        found.append(BudgetTable(budget.name, inside, memory, reserve.least_bytes(budget.limit_bytes)))
    return found


def _seat(state: State, guest: Guest, limits: Limits, now: float) -> Seat:
    last = state.seats.get(guest.name) if state.limits is limits else None
    again = seat_again(last, guest, now) if last is not None else None
    return again or seat(state.guests.get(guest.name, _NOBODY), guest, limits, now, state.shown.rise_share_per_s)


def _state(old: State, host: Host, limits: Limits, now: float) -> str:
    """R14: falls at once, and rises when it has been better for a while."""
    seen = _seen_state(old, host, limits)
    return old.host_state if is_better(seen, old.host_state) and now - min(now, old.better_at) < LASTS_S else seen


def _seen_state(old: State, host: Host, limits: Limits) -> str:
    least = reserve.least_bytes(host.total_bytes)
    return state_of(host.available_bytes / least, old.host_state) if limits.has("R14") and least else "high"


def _better_at(old: State, table: Table, host: Host, now: float) -> float:
    """Since when the host has been better than the state that it is in."""
    if not is_better(_seen_state(replace(old, host_state=table.state), host, table.limits), table.state):
        return 1e18
    return min(now, old.better_at) if table.state == old.host_state else now


def _divided(policy: Policy, table: Table, state: State) -> State:
    """Lets the policy speak, or repeats its last word while that stands, and the guard after it."""
    now = table.now
    if policy.period_s and now - state.spoke_at < policy.period_s:
        for one in table.seats:
            if one.is_movable and one.guest.name in state.said:
                wish, numbers = state.said[one.guest.name]
                one.say(wish, Reason.PEER, **numbers)
        guard.apply_to_peer(table)
        return state
    policy.divide(table)
    if not policy.is_peer:
        guard.apply(table)
        return replace(state, past=table.past)
    said = {one.guest.name: (one.wish_bytes, one.numbers or {}) for one in table.seats if one.reason is Reason.PEER}
    guard.apply_to_peer(table)
    return replace(state, past=table.past, spoke_at=now, said=said if policy.period_s else {})


def _decisions(table: Table, state: State, now: float) -> tuple[tuple[Decision, ...], dict[str, Turned]]:
    """One for each guest, by how it is steered; and when its knobs were changed, where it has some."""
    steered = knobs.decisions(table, state.turned) if any(one.guest.knobs is not None for one in table.seats) else {}
    told = tuple(steered.get(one.guest.name) or target.decision(one, table.limits, now) for one in table.seats)
    return told, knobs.after(state.turned, steered, table) if steered else {}


def _after(one: Seat, decision: Decision, now: float) -> GuestMemory:
    if isinstance(decision.ask, Keep) and one.guest.mode is Mode.ACT:
        return stuck.commanded(one.memory, decision.ask.bytes, now)
    return one.memory


def _plan(table: Table, decisions: tuple[Decision, ...], policy: str) -> Plan:
    interval_s = table.limits.interval_s
    is_busy = any(isinstance(one.ask, Keep) for one in decisions) or any(
        one.is_under_way and not one.memory.parked_sign for one in table.seats
    )
    is_tight = any(one.may_take and one.keep_bytes < one.tight_bytes for one in table.seats)
    next_s = AT_ONCE_S if is_busy and is_tight else SOON_S if is_busy else interval_s
    gains = sum(
        one.wish_bytes - one.held_bytes
        for one in table.seats
        if one.wish_bytes > one.held_bytes and one.is_movable and not one.guest.knobs
    )
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
        promised_bytes=table.memory_bytes - table.slack_bytes + gains,
        fixed={one.guest.name: one.held_bytes for one in table.seats if not one.is_movable},
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
