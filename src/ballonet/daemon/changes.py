"""Which decisions of a tick say something new: for the log, and for history."""

from typing import Final, NamedTuple

from ballonet.model.plan import Decision, Reason
from ballonet.model.snapshot import Guest
from ballonet.model.tick import Tick
from ballonet.model.units import MIB

SAME_BYTES: Final = MIB
"""Two amounts this near are one decision: in mode `advise` a plan that nobody carries out is made again each second."""


class Changed(NamedTuple):
    """One of them."""

    decision: Decision
    guest: Guest


class Changes:
    """Remembers what was said last of each guest."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Reason, int]] = {}

    def of(self, tick: Tick) -> list[Changed]:
        """What is new in a tick: another reason, or another amount to be asked for. What failed is new when it is tried again."""
        found = []
        now: dict[str, tuple[Reason, int]] = {}
        for decision, guest in zip(tick.plan.guests, tick.snapshot.guests, strict=True):
            reason, told_bytes = self._last.get(decision.name, (None, 0))
            asks_bytes = decision.keep_bytes or 0 if decision.is_command else told_bytes
            if decision.reason is not reason or abs(asks_bytes - told_bytes) > SAME_BYTES:
                found.append(Changed(decision, guest))
                told_bytes = asks_bytes
            now[decision.name] = (decision.reason, told_bytes)
        self._last = {name: said for name, said in now.items() if name not in tick.outcome.failed}
        return found
