"""What of a tick is new: decisions that differ, every command that went out, and balloons that others moved."""

import logging
from typing import Final, NamedTuple

from ballonet.hypervisors.local.alone import NOT_HEARD
from ballonet.model.finding import Finding, Level
from ballonet.model.knobs import Steering
from ballonet.model.plan import Decision, Keep, Reason
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.tick import Tick
from ballonet.model.units import MIB, format_size

log = logging.getLogger(__name__)

SAME_BYTES: Final = MIB
"""Two amounts this near are one decision: in mode `advise` a plan that nobody carries out is made again each second."""
OF_LATE_S: Final = 3600.0
THERE_BYTES: Final = 2 * MIB
"""A balloon this near to what was asked is there."""


class Changed(NamedTuple):
    """One decision that is new."""

    decision: Decision
    guest: Guest
    done: str
    """As in history: sent, waits, failed, advised, or nothing."""


class Moved(NamedTuple):
    """A balloon that was where it was asked to be, and is not any more, though nobody here asked for that."""

    guest: Guest
    from_bytes: int

    @property
    def sentence(self) -> str:
        """In words."""
        to = format_size(self.guest.keep_bytes or 0)
        return f"another controller moved its balloon, from {format_size(self.from_bytes)} to {to} (virsh setmem, pvestatd, MOM?)"


class _Said(NamedTuple):
    """What was told last of a guest."""

    reason: Reason
    asked: Decision | None
    """The last decision that asked for something."""


class Changes:
    """Remembers what was said last of each guest."""

    def __init__(self) -> None:
        self._last: dict[str, _Said] = {}

    def of(self, tick: Tick) -> list[Changed]:
        """What is new in a tick: another reason, another amount to be asked for, a command. What failed is new when it is tried
        again. What goes out, or fails, later than it was asked for is told as it was asked.
        """
        found = []
        now: dict[str, _Said] = {}
        for decision, guest in zip(tick.plan.guests, tick.snapshot.guests, strict=True):
            name, last = decision.name, self._last.get(decision.name)
            if last is None and _is_unheard(decision, guest):
                continue  # each start would tell of each guest that it is not known yet
            asked = last.asked if last else None
            is_new = last is None or decision.reason is not last.reason or _is_other(decision, asked)
            is_told = name in tick.outcome.begun or name in tick.outcome.failed
            if is_new or is_told:
                late = is_told and decision.ask is None and decision.steering is not Steering.TARGET
                found.append(Changed(asked if late and asked else decision, guest, _done(tick, decision, guest)))
            if decision.ask is not None and (is_new or is_told):
                asked = decision
            now[name] = _Said(decision.reason, asked)
        self._last = {name: said for name, said in now.items() if name not in tick.outcome.failed}
        return found


def _is_other(decision: Decision, asked: Decision | None) -> bool:
    """Whether something is asked for that is not the same as what was asked for last."""
    if decision.ask is None:
        return False
    if asked is None or not isinstance(decision.ask, Keep) or not isinstance(asked.ask, Keep):
        return asked is None or decision.ask != asked.ask
    return abs(decision.ask.bytes - asked.ask.bytes) > SAME_BYTES


def _is_unheard(decision: Decision, guest: Guest) -> bool:
    """Whether nothing is known of a guest yet, which was met just now."""
    return decision.reason is Reason.UNKNOWN or guest.leave_alone == NOT_HEARD


def _done(tick: Tick, decision: Decision, guest: Guest) -> str:
    name, outcome = decision.name, tick.outcome
    if name in outcome.failed:
        return "failed"
    if name in outcome.begun:
        return "sent"
    if not decision.is_command:
        return ""
    if guest.mode is Mode.ADVISE:
        return "advised"
    return "waits" if name in outcome.waiting or name in outcome.under_way else ""


class Outsiders:
    """Notices what others do to balloons."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[int, bool]] = {}
        """By guest: what it was asked to keep, and whether it has been there."""
        self._times: dict[str, list[float]] = {}
        """By guest: when it was moved by others, recently."""

    def of(self, tick: Tick) -> list[Moved]:
        """Those that were moved since the last tick."""
        found = []
        begun = set(tick.outcome.begun)
        asked = {one.name: one.ask.bytes for one in tick.plan.guests if one.name in begun and isinstance(one.ask, Keep)}
        for guest in tick.snapshot.guests:
            keep, (goal, was_there) = guest.keep_bytes, self._asked.get(guest.name, (0, False))
            if keep is not None and was_there and abs(keep - goal) > THERE_BYTES and not guest.is_starting:
                found.append(Moved(guest, goal))
                log.warning("balloon moved by another controller", extra={"guest": guest.name, "what": found[-1].sentence})
                self._times.setdefault(guest.name, []).append(tick.at)
            if keep is not None and (goal or guest.name in asked):
                self._asked[guest.name] = self._next(guest, keep, goal, asked.get(guest.name), was_there=was_there)
        names = {guest.name for guest in tick.snapshot.guests}
        self._asked = {name: one for name, one in self._asked.items() if name in names}
        late = {name: [at for at in times if tick.at - at < OF_LATE_S] for name, times in self._times.items()}
        self._times = {name: times for name, times in late.items() if times}
        return found

    def findings(self) -> list[Finding]:
        """Guests that others move again and again: two controllers undo each other's work."""
        remedy = "let one of the two alone: end the other, or `ballonet set VM --mode observe`; pvestatd: qm set VMID --shares 0"
        return [
            Finding(
                level=Level.WARNING,
                where=name,
                what=f"another controller moved its balloon {len(times)} times in an hour",
                remedy=remedy,
            )
            for name, times in sorted(self._times.items())
            if len(times) > 1
        ]

    @staticmethod
    def _next(guest: Guest, keep: int, goal: int, asked: int | None, *, was_there: bool) -> tuple[int, bool]:
        if asked is not None:
            return asked, False
        if was_there and (abs(keep - goal) > THERE_BYTES or guest.is_starting):
            return keep, not guest.is_starting  # where it is now is where it was put
        return goal, was_there or abs(keep - goal) <= THERE_BYTES
