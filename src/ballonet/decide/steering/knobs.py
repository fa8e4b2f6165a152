"""Where a hypervisor's own loop moves the memory: what it is to go by for each guest, and when a change is due.

Nobody is asked to keep anything there: a decision tells how the knobs stand, or what they are asked to be.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec import Struct, structs

from ballonet.decide.seat import Seat
from ballonet.decide.steering import bounds, entitlement
from ballonet.decide.table import Table
from ballonet.model.knobs import Bounds, Entitlement, Knobs, Steering, steering_of
from ballonet.model.plan import Decision, Reason
from ballonet.model.snapshot import Mode
from ballonet.model.units import format_size


class Pace(NamedTuple):
    """Between two changes of one guest, in seconds: as a rule, and while it pages."""

    rule_s: float
    urgent_s: float


PACES: Final = {
    Steering.ENTITLEMENT: Pace(20.0, 15.0),  # ESXi publishes each 20 s what it sampled, and its loop balances each 15 s
    Steering.BOUNDS: Pace(10.0, 2.0),  # Hyper-V's loop looks each second
}


class Turned(Struct, frozen=True):
    """When what a guest's loop goes by was changed."""

    asked_at: float = -1e9
    freed_at: float = -1e9
    """When a limit was taken back."""


_NEVER: Final = Turned()


def decisions(table: Table, turned: Mapping[str, Turned]) -> dict[str, Decision]:
    """One for each guest that has knobs, by name.

    Args:
        table: divided already.
        turned: when they were changed last.
    """
    entitled = (one for one in table.seats if isinstance(one.guest.knobs, Entitlement) and _is_steered(one))
    part = entitlement.part_of(entitled, table.total_bytes)
    return {
        one.guest.name: _decision(one, old, table, turned.get(one.guest.name, _NEVER), part)
        for one in table.seats
        if (old := one.guest.knobs) is not None
    }


def after(old: Mapping[str, Turned], decisions: Mapping[str, Decision], table: Table) -> dict[str, Turned]:
    """When they were changed, this tick counted: what is only advised is not. A limit that was taken back stays away also
    from one that is not seen for a while.
    """
    found = {name: one for name, one in old.items() if table.now - one.freed_at < entitlement.LIMIT_PAUSE_S}
    for one in table.seats:
        name, guest = one.guest.name, one.guest
        if guest.knobs is None:
            continue
        last, ask = old.get(name, _NEVER), decisions[name].ask
        if ask is not None and guest.mode is Mode.ACT:
            freed_at = table.now if _is_release(guest.knobs, ask) else last.freed_at
            last = Turned(asked_at=table.now, freed_at=freed_at)
        found[name] = last
    return found


def _is_steered(one: Seat) -> bool:
    """Whether the loop may be told of a guest: it is not only watched or left alone, and there is news."""
    is_known = one.needs_bytes is not None and one.guest.stats is not None
    is_free = one.guest.can_balloon and one.guest.mode is not Mode.OBSERVE and not one.guest.deflates
    return is_known and is_free and one.reason.is_for_command


def _decision(one: Seat, old: Knobs, table: Table, last: Turned, part: float) -> Decision:
    guest = one.guest
    is_steered = _is_steered(one)
    wish = _wish(one, old, table, last, part) if is_steered else _freed(one, old)
    ask = wish if wish != old and _is_worth(old, wish) and _is_due(one, old, wish, last, table.now) else None
    reason, numbers = _REASONS[steering_of(old)], _numbers(one, ask or old, is_asked=ask is not None)
    if not is_steered:
        reason, numbers = (Reason.ALONE, {"why": guest.deflates}) if guest.deflates else (one.reason, one.numbers or {})
    used = need = tight = None
    if guest.stats is not None and one.needs_bytes is not None:
        used, (tight, need) = one.memory.use.used_bytes, one.needs_bytes
    keep = None if one.reason is Reason.UNKNOWN else one.keep_bytes
    return Decision(guest.name, keep, reason, numbers, ask, used, need, tight, one.floor_bytes, steering_of(old))


_REASONS: Final = {Steering.ENTITLEMENT: Reason.ENTITLED, Steering.BOUNDS: Reason.BOUNDED}


def _wish(one: Seat, old: Knobs, table: Table, last: Turned, part: float) -> Knobs:
    if isinstance(old, Bounds):
        return bounds.wish(one, old, table.state)
    may_limit = table.limits.may_limit and table.now - last.freed_at >= entitlement.LIMIT_PAUSE_S
    return entitlement.wish(one, old, part, table.state, may_limit=may_limit)


def _freed(one: Seat, old: Knobs) -> Knobs:
    return entitlement.freed(one, old) if isinstance(old, Entitlement) else old


def _is_worth(old: Knobs, new: Knobs) -> bool:
    if isinstance(old, Entitlement) and isinstance(new, Entitlement):
        return entitlement.is_worth(old, new)
    return isinstance(old, Bounds) and isinstance(new, Bounds) and bounds.is_worth(old, new)


def _is_release(old: Knobs, new: object) -> bool:
    """Whether it takes a limit back: that waits for nothing."""
    if not isinstance(old, Entitlement) or not isinstance(new, Entitlement):
        return False
    return old.limit_bytes is not None and new.limit_bytes is None


def _is_due(one: Seat, old: Knobs, new: Knobs, last: Turned, now: float) -> bool:
    pace = PACES[steering_of(old)]
    is_urgent = one.is_distressed or one.is_cooling or (isinstance(old, Bounds) and bounds.is_rising(one))
    wait_s = pace.urgent_s if is_urgent else pace.rule_s
    if _is_release(old, new):
        return now - last.freed_at >= pace.urgent_s  # at once, and again when nothing came of it
    return now - last.asked_at >= wait_s


def _numbers(one: Seat, knobs: Knobs, *, is_asked: bool) -> dict[str, Any]:
    """What the sentence tells: the knobs, as they stand or are asked to be, and the needs that they follow."""
    tight, need = one.needs_bytes or (None, None)
    limit = knobs.limit_bytes if isinstance(knobs, Entitlement) else None
    return structs.asdict(knobs) | {
        "has": "gets" if is_asked else "has",
        "limited": f", never more than {format_size(limit)}" if limit is not None else "",
        "pages": "; it pages" if one.is_distressed else "",
        "used_bytes": one.memory.use.used_bytes,
        "swap_in_bytes": int(one.memory.use.swap_in_per_s),
        "swap_out_bytes": int(one.memory.use.swap_out_per_s),
        "need_bytes": need,
        "need_now_bytes": tight,
    }
