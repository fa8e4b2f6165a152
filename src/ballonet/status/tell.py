"""A tick as faces show it."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import ballonet
from ballonet.model.plan import Decision, Reason
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.tick import Tick
from ballonet.status.words import Change, GuestStatus, HostStatus, LimitStatus, RoomStatus, Sample, Status

MOVED: Final = "moved"


def status_of(
    tick: Tick,
    *,
    at: float,
    mode: Mode,
    hold: str = "",
    troubles: Mapping[str, str] = MappingProxyType({}),
    rooms: Iterable[RoomStatus] = (),
) -> Status:
    """The whole host now; its guests by name, in whatever order they came.

    Args:
        tick: the last one.
        at: when that was, seconds since 1970.
        mode: of the host.
        hold: why all are on hold, if they are.
        troubles: by guest: why its last command failed.
        rooms: for VMs that are about to start.
    """
    plan, host = tick.plan, tick.snapshot.host
    short = {one.name: one.bytes for one in plan.short}
    return Status(
        host=HostStatus(
            at=at,
            version=ballonet.__version__,
            mode=mode,
            policy=plan.policy,
            hold=hold,
            state=plan.host_state,
            is_alarming=plan.is_alarming,
            total_bytes=host.total_bytes,
            available_bytes=host.available_bytes,
            guests_bytes=plan.memory_bytes,
            promised_bytes=plan.promised_bytes,
            reserve_bytes=plan.reserve.bytes,
            sentence=plan.reserve.sentence,
            pressure_share=host.pressure_some_avg10_share,
            tick_s=tick.took_s,
            next_s=plan.next_s,
            theirs=host.theirs,
        ),
        guests=tuple(
            _guest(guest, decision, short.get(guest.name, 0), troubles.get(guest.name, ""))
            for guest, decision in sorted(zip(tick.snapshot.guests, plan.guests, strict=True), key=lambda both: both[0].name)
        ),
        limits=tuple(
            LimitStatus(name=one.name, guests_bytes=one.memory_bytes, promised_bytes=one.promised_bytes, guests=one.guests)
            for one in plan.budgets
        ),
        rooms=tuple(rooms),
    )


def _guest(guest: Guest, decision: Decision, short_bytes: int, trouble: str) -> GuestStatus:
    return GuestStatus(
        name=guest.name,
        uuid=guest.uuid,
        mode=guest.mode,
        ceiling_bytes=guest.ceiling_bytes,
        keep_bytes=guest.keep_bytes,
        resident_bytes=guest.resident_bytes,
        available_bytes=guest.stats.available_bytes if guest.stats else None,
        used_bytes=decision.used_bytes,
        need_bytes=decision.need_bytes,
        floor_bytes=decision.floor_bytes,
        short_bytes=short_bytes,
        target_bytes=decision.keep_bytes,
        is_command=decision.is_command,
        reason=decision.reason.value,
        sentence=decision.sentence,
        voice=guest.voice.value,
        stats_age_s=guest.stats_age_s,
        mechanisms=tuple(one.value for one in guest.mechanisms),
        leave_alone=guest.leave_alone or guest.deflates or (decision.sentence if decision.reason is Reason.INERT else ""),
        given_bytes=guest.given_bytes,
        is_bound=is_bound(guest, decision),
        theirs=guest.theirs,
        trouble=trouble,
        asked=decision.asked,
    )


def is_bound(guest: Guest, decision: Decision) -> bool:
    """Whether a guest needs more than an operator, or a limit of the host, lets it have of what it was given."""
    least = decision.need_now_bytes if decision.need_now_bytes is not None else decision.used_bytes
    return guest.given_bytes is not None and least is not None and max(least, decision.used_bytes or 0) >= guest.ceiling_bytes


def change_of(decision: Decision, guest: Guest, at: float, done: str = "") -> Change:
    """A decision as history keeps it, with what was done of it."""
    return Change(
        at=at,
        guest=decision.name,
        reason=decision.reason.value,
        keep_bytes=decision.keep_bytes,
        kept_bytes=guest.keep_bytes,
        is_command=decision.is_command,
        asked=decision.asked,
        sentence=decision.sentence,
        mode=guest.mode.value,
        done=done,
    )


def moved_change(guest: Guest, sentence: str, at: float) -> Change:
    """A balloon that others moved, as history keeps it."""
    return Change(at=at, guest=guest.name, reason=MOVED, kept_bytes=guest.keep_bytes, sentence=sentence, mode=guest.mode.value)


def reload_change(at: float, sentence: str) -> Change:
    """That the configuration was read anew, as history keeps it."""
    return Change(at=at, guest="", reason="reload", sentence=sentence)


def sample_of(tick: Tick, name: str) -> Sample | None:
    """One guest in one tick of the past; None = it was not there."""
    for guest, decision in zip(tick.snapshot.guests, tick.plan.guests, strict=True):
        if guest.name == name:
            return Sample(
                at=tick.at,
                guest=name,
                keep_bytes=guest.keep_bytes,
                resident_bytes=guest.resident_bytes,
                used_bytes=decision.used_bytes,
                need_bytes=decision.need_bytes,
                reason=decision.reason.value,
            )
    return None
