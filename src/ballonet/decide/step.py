"""One tick, top to bottom: classify, estimate, reserve, policy, guard, decide, watch."""

from typing import Final

from ballonet.decide import guard, reserve, stuck, watch
from ballonet.decide.classify import seat
from ballonet.decide.memory import GuestMemory, State
from ballonet.decide.policies import POLICIES
from ballonet.decide.seat import Seat
from ballonet.decide.table import Table
from ballonet.model.limits import Limits
from ballonet.model.plan import Decision, Plan, Reason
from ballonet.model.snapshot import Mode, Snapshot
from ballonet.model.units import MIB

START: Final = State()
_NOBODY: Final = GuestMemory()
SOON_S: Final = 0.2
"""When to decide again while something is under way: a balloon moves 200 MiB in that time."""
DEAD_BAND_SHARE: Final = 1 / 400
"""Of the ceiling, at least 1 MiB: a smaller change is not worth a command (R12)."""
RESEND_S: Final = 1.0
"""A command that shows no effect after this long is sent again: somebody else may have set the balloon."""


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
    host = snapshot.host
    seats = [seat(state.guests.get(guest.name, _NOBODY), guest, limits, now) for guest in snapshot.guests]
    spike = reserve.spike_bytes(state.spike_bytes, seats, now - state.decided_at)
    resident = sum(one.keep_bytes if one.guest.resident_bytes is None else one.guest.resident_bytes for one in seats)
    table = Table(
        seats=seats,
        limits=limits,
        total_bytes=host.total_bytes,
        memory_bytes=host.available_bytes + resident,
        reserve_bytes=reserve.reserve_bytes(host.total_bytes, spike, limits),
        quiet_s=now - state.busy_at,
    )
    POLICIES[policy](table)
    guard.apply(table)
    decisions = tuple(_decision(one, now) for one in seats)
    memories = {one.guest.name: _after(one, decision, now) for one, decision in zip(seats, decisions, strict=True)}
    is_busy = any(one.is_command and one.reason is not Reason.SPARE for one in decisions)
    after = State(guests=memories, decided_at=now, busy_at=now if is_busy else state.busy_at, spike_bytes=spike)
    return after, _plan(table, decisions, policy)


def _decision(one: Seat, now: float) -> Decision:
    memory, wish = one.memory, one.wish_bytes
    if (one.may_give or one.may_take) and stuck.asks_in_vain(memory, one.keep_bytes):
        # The value that it cannot reach is pulled back: a driver would try for ever, and burn a CPU over it.
        numbers = {"asked_bytes": memory.asked_bytes, "still_s": now - memory.moved_at}
        return Decision(one.guest.name, wish, Reason.STUCK, numbers, is_command=True)
    keep = None if one.reason is Reason.UNKNOWN else wish
    return Decision(one.guest.name, keep, one.reason, one.numbers or {}, is_command=_is_command(one, now))


def _is_command(one: Seat, now: float) -> bool:
    memory, wish = one.memory, one.wish_bytes
    if not (one.may_give or one.may_take):
        return False
    band = max(MIB, int(DEAD_BAND_SHARE * one.guest.ceiling_bytes))
    if memory.asked_bytes is None or not stuck.is_under_way(memory, one.keep_bytes):
        # At rest, a command is due when the guest is to go elsewhere.
        return abs(wish - one.keep_bytes) > band
    if memory.is_astray or abs(wish - memory.asked_bytes) > band:
        return True
    return now - max(memory.commanded_at, memory.moved_at) > RESEND_S


def _after(one: Seat, decision: Decision, now: float) -> GuestMemory:
    if decision.is_command and decision.keep_bytes is not None and one.guest.mode is Mode.ACT:
        return stuck.commanded(one.memory, decision.keep_bytes, now)
    return one.memory


def _plan(table: Table, decisions: tuple[Decision, ...], policy: str) -> Plan:
    interval_s = table.limits.interval_s
    is_busy = any(one.is_command for one in decisions) or any(
        stuck.is_under_way(one.memory, one.keep_bytes) and not one.memory.parked_sign for one in table.seats
    )
    gains = sum(max(0, one.wish_bytes - one.held_bytes) for one in table.seats)
    return Plan(
        policy=policy,
        guests=decisions,
        short=tuple(table.short),
        looks={one.guest.name: watch.look(one, interval_s) for one in table.seats},
        next_s=min(SOON_S, interval_s) if is_busy else interval_s,
        memory_bytes=table.memory_bytes,
        reserve_bytes=table.reserve_bytes,
        promised_bytes=table.memory_bytes - table.slack_bytes + gains,
    )
