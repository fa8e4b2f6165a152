"""Looking: the table of one tick, made from the snapshot and what is remembered, before anything is divided."""

from typing import Final

from msgspec.structs import replace

from ballonet.decide import reserve, states, still
from ballonet.decide.classify import watch_only
from ballonet.decide.memory import GuestMemory
from ballonet.decide.policy import Policy
from ballonet.decide.seat import Seat
from ballonet.decide.state import State
from ballonet.decide.table import BudgetTable, Table
from ballonet.model.limits import Limits
from ballonet.model.plan import Reason
from ballonet.model.room import COUNTED
from ballonet.model.snapshot import Host, Mode, Snapshot

MEET_S: Final = 3.0
"""A daemon that has just started hears of all guests within moments. Until then nobody gives for one that it has not met, which
counts at all that it may take (R4): else each restart of the daemon would cost the others their page cache.
"""
_NOBODY = GuestMemory()


def laid(policy: Policy, state: State, snapshot: Snapshot, limits: Limits, now: float) -> Table:
    """The table of this tick: who sits at it with which needs, and what there is."""
    host, is_new = lent(snapshot), state.ran_s(now) < MEET_S
    kept = still.valid(state.seats, state.limits, limits)
    limits = replace(limits, without=limits.without | policy.without) if policy.without else limits
    rise = state.shown.rise_share_per_s
    seats = [
        still.again(kept, guest, now) or policy.seat(state.guests.get(guest.name, _NOBODY), guest, limits, now, rise)
        for guest in snapshot.guests
    ]
    if "R1" not in policy.without:
        _leave_advised(seats, now)
    seen = states.seen(state.host_state, host, limits)
    return Table(
        seats=seats,
        limits=limits,
        total_bytes=host.total_bytes,
        memory_bytes=snapshot.host.available_bytes + sum(map(_resident_bytes, seats)),
        available_bytes=snapshot.host.available_bytes,
        quiet_s=now - state.busy_at,
        pressure_share=max(host.pressure_some_avg10_share, host.cpu_some_avg10_share, host.io_some_avg10_share),
        state=states.lasting(state.host_state, seen, now - min(now, state.better_at)),
        is_pressed=seen in states.ALARMING,
        now=now,
        is_meeting=is_new and any(map(_is_unmet, seats)),
        is_new=is_new,
        options=snapshot.options,
        past=dict(state.past),
        budgets=_budgets(host, seats) if limits.has("R4") else [],
    )


def lent(snapshot: Snapshot) -> Host:
    """The host without what has been gathered for VMs that are about to start: that is free, and nobody's to have (R14, R18). It
    is no reason for an alarm: a VM that takes its room may do so before anybody sees it.
    """
    gathered = sum(room.gathered_bytes for room in snapshot.rooms if room.state in COUNTED)
    host = snapshot.host
    if not gathered:
        return host
    least = min(host.available_bytes, int(states.RISE * reserve.least_bytes(host.total_bytes)))
    return replace(host, available_bytes=max(least, host.available_bytes - gathered))


def _is_unmet(one: Seat) -> bool:
    """Whether its hypervisor has not said yet how it runs."""
    return one.reason is Reason.UNKNOWN or (one.guest.is_starting and not one.is_movable)


def _leave_advised(seats: list[Seat], now: float) -> None:
    """Where other guests are moved, those in mode `advise` are only watched: what they would give does not come."""
    advised = [one for one in seats if one.guest.mode is Mode.ADVISE]
    if advised and len(advised) < len(seats) and any(one.guest.mode is Mode.ACT for one in seats):
        for one in advised:
            watch_only(one, now)


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


def as_configured(snapshot: Snapshot) -> Snapshot:
    """Without R16 a daemon starts from what it was told of its guests, not from what it sees: all their memory is theirs."""
    return replace(snapshot, guests=tuple(replace(guest, keep_bytes=guest.ceiling_bytes) for guest in snapshot.guests))
