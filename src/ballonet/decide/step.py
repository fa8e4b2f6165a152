"""One tick, top to bottom: look, judge and need, learn, divide, guard, ask, remember, plan."""

from typing import Final

from msgspec.structs import replace

from ballonet.decide import ladder, lay, reserve, rooms, states, still, stuck
from ballonet.decide.memory import GuestMemory
from ballonet.decide.planned import planned
from ballonet.decide.policies import POLICIES
from ballonet.decide.policy import divided
from ballonet.decide.seat import Seat
from ballonet.decide.state import State
from ballonet.decide.steering import knobs, target
from ballonet.decide.steering.knobs import Turned
from ballonet.decide.table import Table
from ballonet.model.limits import Limits
from ballonet.model.plan import Decision, Keep, Plan, Reason
from ballonet.model.snapshot import Mode, Snapshot

START: Final = State()


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
        snapshot = lay.as_configured(snapshot)
    table = lay.laid(chosen, state, snapshot, limits, now)
    shown = chosen.learn(state.shown, table.seats, now)
    table.reserve = reserve.reserve(table.total_bytes, shown.spike, table.limits)
    if limits.has("R18"):
        rooms.admit(table, snapshot.rooms, state.guests, keeps_rooms=chosen.keeps_rooms, policy=policy)
    after = divided(chosen, table, state)
    decisions, turned = _asked(table, state, now)
    memories = {one.guest.name: _remembered(one, decision, now) for one, decision in zip(table.seats, decisions, strict=True)}
    reuses = chosen.reuses_seats and shown.rise_share_per_s == state.shown.rise_share_per_s
    is_busy = any(isinstance(one.ask, Keep) and one.reason is not Reason.SPARE for one in decisions)
    after = replace(
        after,
        guests=memories,
        seats=still.kept(table.seats, memories) if reuses else {},
        limits=limits,
        decided_at=now,
        began_at=now - state.ran_s(now),
        busy_at=now if is_busy else state.busy_at,
        shown=shown,
        turned=turned,
        host_state=table.state,
        better_at=states.better_at(state.host_state, table.state, state.better_at, lay.lent(snapshot), table.limits, now),
    )
    return _climbed(after, planned(table, decisions, policy), snapshot, limits)


def _asked(table: Table, state: State, now: float) -> tuple[tuple[Decision, ...], dict[str, Turned]]:
    """One for each guest, by how it is steered; and when its knobs were changed, where it has some."""
    steered = knobs.decisions(table, state.turned) if any(one.guest.knobs is not None for one in table.seats) else {}
    told = tuple(steered.get(one.guest.name) or target.decision(one, table.limits, now) for one in table.seats)
    return told, knobs.after(state.turned, steered, table) if steered else {}


def _remembered(one: Seat, decision: Decision, now: float) -> GuestMemory:
    """A guest's past after this tick: with what was asked of it, where that is sent."""
    if isinstance(decision.ask, Keep) and one.guest.mode is Mode.ACT:
        return stuck.commanded(one.memory, decision.ask.bytes, now)
    return one.memory


def _climbed(state: State, plan: Plan, snapshot: Snapshot, limits: Limits) -> tuple[State, Plan]:
    """With the steps beyond the balloon that are due, where any is allowed (R14)."""
    if not (limits.may_ksm or limits.may_reclaim) or state.decided_at - state.stepped_at < ladder.PERIOD_S:
        return state, plan
    return replace(state, stepped_at=state.decided_at), replace(plan, emergency=ladder.emergency(plan, snapshot, limits))
