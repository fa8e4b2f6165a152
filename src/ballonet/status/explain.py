"""Why a guest keeps what it keeps, for people: the numbers, how the host stands, and what would change it."""

import shlex
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ballonet.decide.floor import floor_bytes
from ballonet.model.plan import Decision, Plan, Reason, Shortage, limit_of
from ballonet.model.room import NAMED, RoomState
from ballonet.model.snapshot import Guest, GuestStats, Host, Mode, Voice
from ballonet.model.text import typed
from ballonet.model.tick import Tick
from ballonet.model.units import MIB, format_size
from ballonet.status.errors import NoSuchGuestError
from ballonet.status.words import Explanation, Fact

STATES: Final = {
    "high": "plenty is free",
    "clear": "enough is free",
    "soft": "tight",
    "hard": "critical",
    "low": "about to run out of memory",
}
"""The host's states (R14) in plain words."""
VOICES: Final = {
    Voice.NONE: "nobody known",
    Voice.BALLOON: "its balloon driver",
    Voice.HYPERVISOR: "its hypervisor's samples",
    Voice.GUEST_AGENT: "QEMU's guest agent",
    Voice.AGENT: "ballonet's agent",
}

MOST_NAMED: Final = 3
"""As many as one reads; the rest are a number."""


class Case(NamedTuple):
    """One guest in one tick."""

    guest: Guest
    decision: Decision
    plan: Plan
    mode: Mode
    """Of the host."""
    others: tuple[tuple[Guest, Decision], ...] = ()
    """Of the same host."""

    @property
    def keep_bytes(self) -> int:
        """What it keeps; its ceiling while nobody knows."""
        return self.guest.ceiling_bytes if self.guest.keep_bytes is None else self.guest.keep_bytes

    @property
    def spare_bytes(self) -> int:
        """What it keeps beyond its need."""
        return 0 if self.decision.need_bytes is None else max(0, self.keep_bytes - self.decision.need_bytes)

    @property
    def slack_bytes(self) -> int:
        """What is promised to nobody."""
        return self.plan.memory_bytes - self.plan.promised_bytes


def explain(tick: Tick, name: str, *, at: float, mode: Mode | None) -> Explanation:
    """One guest, in words. Raises NoSuchGuestError.

    Args:
        tick: of that moment.
        name: of the guest.
        at: when that was, seconds since 1970.
        mode: of the host; None = this is history, and it is what its guests had.
    """
    for guest, decision in zip(tick.snapshot.guests, tick.plan.guests, strict=True):
        if guest.name == name:
            others = tuple(both for both in zip(tick.snapshot.guests, tick.plan.guests, strict=True) if both[0].name != name)
            case = Case(guest, decision, tick.plan, mode or _mode_then(tick), others)
            return Explanation(
                guest=name,
                at=at,
                is_past=mode is None,
                sentence=f"{name} {decision.sentence}.",
                reason=decision.reason.value,
                facts=tuple(_facts(case)),
                host=_host(tick.snapshot.host, tick.plan),
                changes=tuple(_changes(case)),
            )
    known = ", ".join(guest.name for guest in tick.snapshot.guests) or "none at all"
    raise NoSuchGuestError(f"no guest {name!r} here{' at that time' if mode is None else ''}; there are: {known}")


def _mode_then(tick: Tick) -> Mode:
    """Of the host in a tick of the past: no guest has more than that, and most have as much."""
    modes = {guest.mode for guest in tick.snapshot.guests}
    return next((one for one in (Mode.ACT, Mode.ADVISE) if one in modes), Mode.OBSERVE)


def _facts(case: Case) -> Iterator[Fact]:
    guest, decision = case.guest, case.decision
    yield Fact("ceiling, with its balloon empty", _size(guest.ceiling_bytes))
    yield Fact("keep: what its balloon leaves it now", _size(guest.keep_bytes))
    yield from _asked(case)
    yield Fact("resident on the host", _size(guest.resident_bytes))
    yield from _elsewhere(guest)
    yield from _limits(case)
    yield Fact("used", _size(decision.used_bytes))
    yield Fact("need, with the margin that it has shown to want", _size(decision.need_bytes))
    yield from _cache(decision)
    yield Fact("need now: the least that keeps it from paging", _size(decision.need_now_bytes))
    yield Fact("floor", _floor_now(case))
    if guest.guaranteed_bytes:
        yield Fact("guaranteed", _size(guest.guaranteed_bytes))
    yield Fact("shares", str(guest.shares))
    yield Fact("swap", _swap(guest.stats))
    yield Fact("pages", _paging(case))
    age = "never" if guest.stats_age_s is None else f"{guest.stats_age_s:.1f} s ago"
    yield Fact("last heard", f"{age}, by {VOICES[guest.voice]}" if guest.stats_age_s is not None else age)
    for name, value in guest.theirs.items():
        yield Fact(f"its hypervisor's {name}", theirs_text(name, value))
    yield Fact("moves by", ", ".join(one.value for one in guest.mechanisms) or "nothing")
    yield Fact("mode", guest.mode.value)


def _cache(decision: Decision) -> Iterator[Fact]:
    """Page cache that is part of its need, because its disk shows that it is read again (R17)."""
    size, reads = (decision.numbers.get(name) for name in ("cache_bytes", "cache_reads_per_s"))
    if size and reads is not None:
        yield Fact("page cache", f"keeps {_size(size)} of it: without it it read {reads} times a second from its disk")


def _asked(case: Case) -> Iterator[Fact]:
    """What is asked of its hypervisor now."""
    is_sent = case.guest.mode is Mode.ACT
    for name, value in case.decision.asked.items():
        text = str(value) if isinstance(value, str) else theirs_text(name.split("_")[0], value) if value is not None else "none"
        if name == "keep_bytes":
            yield Fact("is asked to keep" if is_sent else "would be asked to keep", text)
        else:
            what = name.removesuffix("_bytes").removesuffix("_percent")
            yield Fact(f"its hypervisor's {what} {'is' if is_sent else 'would be'} set to", text)


def _elsewhere(guest: Guest) -> Iterator[Fact]:
    """What most guests have none of: each changes what it counts at, or what it may keep."""
    if guest.swapped_bytes:
        yield Fact("in the host's swap", _size(guest.swapped_bytes))
    if guest.huge_bytes:
        yield Fact("in huge pages of the host, which no other guest can be lent", _size(guest.huge_bytes))
    if guest.given_bytes is not None:
        yield Fact("was given; its ceiling is lower", _size(guest.given_bytes))
    if guest.limit_bytes is not None:
        yield Fact("limited by the host to", _size(guest.limit_bytes))
    if guest.headroom_bytes:
        yield Fact("stays free in it, as set", _size(guest.headroom_bytes))
    if guest.cache_bytes:
        yield Fact("page cache that counts as needed, as set", _size(guest.cache_bytes))


def _limits(case: Case) -> Iterator[Fact]:
    """Those around it and others, that bind besides the host."""
    for one in case.plan.budgets:
        if case.guest.name in one.guests:
            taken = f"{_size(one.promised_bytes)} of {_size(one.memory_bytes)}"
            yield Fact(f"lies within {limit_of(one.name)}, whose guests may take", taken)


def theirs_text(name: str, value: int | str) -> str:
    """A number of the hypervisor's own loop, in its unit."""
    if isinstance(value, str) or name in {"shares", "priority"}:
        return str(value)
    return f"{value} %" if name in {"pressure", "buffer", "latency"} else _size(value)


def _floor_now(case: Case) -> str:
    own, now = case.guest.floor_bytes, case.decision.floor_bytes
    if own is None:
        return f"{_size(now)}, by its size; more where it is not known to have swap left to page to"
    if own >= now:
        return f"{_size(own)}, as set (`ballonet orders` lists what was ordered; else by the configuration or metadata)"
    why = "raised because it is not known to have swap left to page to"
    return f"{_size(now)}: {_size(own)} are set, {why}"


def _paging(case: Case) -> str:
    come, gone = (case.decision.numbers.get(name) for name in ("swap_in_bytes", "swap_out_bytes"))
    if come is None or gone is None:
        return "not known"
    return f"{_size(come)} in and {_size(gone)} out a second" if come or gone else "nothing"


def _swap(stats: GuestStats | None) -> str:
    if stats is None or stats.swap_total_bytes is None:
        has_paged = stats is not None and (stats.swap_out_bytes or stats.swap_in_bytes)
        return "some, since it has paged; how much, only an agent says" if has_paged else "not known: only an agent says"
    free = "" if stats.swap_free_bytes is None else f", {_size(stats.swap_free_bytes)} of it free"
    return f"{_size(stats.swap_total_bytes)}{free}" if stats.swap_total_bytes else "none"


def _size(size: int | None) -> str:
    return "not known" if size is None else format_size(size)


def _host(host: Host, plan: Plan) -> str:
    short = "".join(f" {_lacking(plan, where)}." for where in sorted({one.within for one in plan.short}))
    theirs = f" Its own loop says: {host.theirs}." if host.theirs else ""
    memory, promised = plan.memory_bytes, plan.promised_bytes
    taken = f"guests may take {format_size(promised)} of the {format_size(memory)} that it has for them"
    if promised > memory:
        over = format_size(promised - memory)
        taken = f"guests may take {format_size(promised)} already, {over} beyond the {format_size(memory)} that it has for them"
    return (
        f"The host has {format_size(host.total_bytes)}, {format_size(host.available_bytes)} available; {taken}."
        f" {begun(plan.reserve.sentence)}. State: {plan.host_state} ({STATES[plan.host_state]}).{theirs}{short}"
    )


def begun(text: str) -> str:
    """A clause as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def _lacking(plan: Plan, where: str) -> str:
    """Which guests need what the host, or one limit, does not have."""
    lacking = [one.bytes for one in plan.short if one.within == where]
    who = "1 guest lacks" if len(lacking) == 1 else f"{len(lacking)} guests lack"
    within = f"Within {limit_of(where)} {who}" if where else who
    return f"{within} {format_size(sum(lacking))} of the least that keeps them from paging"


# What would change it


def _changes(case: Case) -> Iterator[str]:
    yield from CHANGES[case.decision.reason](case)
    if case.guest.mode is Mode.ADVISE and case.decision.reason is not Reason.ALONE:
        yield f"Nothing of this is sent in mode advise: {_act(case)}."


def _act(case: Case) -> str:
    return "`ballonet mode act`" if case.mode is not Mode.ACT else _set(case, "--mode act")


def _more(case: Case) -> str:
    decision = case.decision
    if decision.used_bytes is None or decision.need_bytes is None:
        return "It gets more when it says that it needs more."
    if case.keep_bytes >= case.guest.ceiling_bytes:
        return _all_of_it(case.guest)
    line = max(0, case.keep_bytes - (decision.need_bytes - decision.used_bytes))
    if decision.used_bytes >= line:
        need = format_size(decision.need_bytes)
        keep = format_size(case.keep_bytes)
        return f"It needs {need}, and keeps {keep}: it gets the rest when that is worth a command, or it pages."
    return f"It gets more when it uses more than {format_size(line)}, and at once when it pages."


def _all_of_it(guest: Guest) -> str:
    """Where it has what it may have: what would give it more."""
    if guest.given_bytes is None:
        size = format_size(guest.ceiling_bytes)
        return f"It has all of its memory, {size}; if it ever needs more, give the VM more memory."
    whose = "a limit of the host" if guest.limit_bytes == guest.ceiling_bytes else "its ceiling"
    raised = (
        "raise memory.max of its cgroup"
        if guest.limit_bytes == guest.ceiling_bytes
        else typed("set", guest.name, "--ceiling SIZE")
    )
    return (
        f"It has all that {whose} lets it have, {format_size(guest.ceiling_bytes)} of {format_size(guest.given_bytes)}: {raised}."
    )


def _less(case: Case) -> str:
    reserve = case.plan.reserve.bytes
    if not case.spare_bytes:
        return "It has nothing to spare, so it is not asked to give."
    return (
        f"It can spare {format_size(case.spare_bytes)}, and is asked for it when the host needs it for its reserve:"
        f" {format_size(reserve)} is the aim, {format_size(max(0, case.slack_bytes))} is promised to no guest now."
    )


def _floor(case: Case) -> str:
    hold = f"`{typed('hold', case.guest.name)}`"
    return f"To let it keep more whatever happens: {_set(case, '--floor SIZE')}; to move nothing of it: {hold}."


def _set(case: Case, what: str) -> str:
    return f"`{typed('set', case.guest.name, what)}`"


def _typed(size: int | None) -> str:
    """A size as a command takes it."""
    return "SIZE" if size is None else f"{-(-size // MIB)}MiB"


def _calm(case: Case) -> Iterator[str]:
    yield _more(case)
    yield _less(case)
    yield _floor(case)


def _growing(case: Case) -> Iterator[str]:
    yield "It has what it asked for when it stops growing; the margin shrinks again within minutes."
    first = _set(case, f"--guaranteed {_typed(case.decision.need_bytes)}")
    yield f"To have it before it grows: {first}, which others may not use."


def _distressed(case: Case) -> Iterator[str]:
    yield "What it paged is added to its margin, and forgotten slowly while it does not page."
    if case.keep_bytes >= case.guest.ceiling_bytes:
        yield f"{_all_of_it(case.guest)} Or find what grows in it."
    else:
        yield f"If it comes again: {_set(case, f'--floor {_typed(case.decision.need_bytes)}')}, what it needs now."


def _donor(case: Case) -> Iterator[str]:
    reserve, need = format_size(case.plan.reserve.bytes), _size(case.decision.need_bytes)
    yield f"It gives until the host has its reserve of {reserve}, and never below its need of {need}."
    yield "It stops at once, and gets back what it gave, when it begins to page."
    yield _floor(case)


def _short(case: Case) -> Iterator[str]:
    own = next((one for one in case.plan.short if one.name == case.guest.name), Shortage(case.guest.name, 0, _within(case)))
    of_all = sum(one.bytes for one in case.plan.short if one.within == own.within)
    least, together = _size(case.decision.need_now_bytes), "all within that limit" if own.within else "all guests"
    yield f"It lacks {_size(own.bytes)} of its least need of {least}; {together} lack {_size(of_all)} together."
    yield _too_small(own.within)
    yield from _kept_by_order(case, own.within)
    first = _set(case, f"--guaranteed {_typed(case.decision.need_now_bytes)}")
    yield f"To put this guest before others, which then give and have less: {first}, or `--shares` above {case.guest.shares}."


def _within(case: Case) -> str:
    """The limit that its part is a part of; "" = the host."""
    told = str(case.decision.numbers.get("within", ""))
    return next((one.name for one in case.plan.budgets if told == limit_of(one.name)), "")


def _too_small(within: str) -> str:
    """What is, and what to do: outside a full limit the host may have plenty."""
    if within:
        full = f"What is too small for them now is {limit_of(within)}, whatever the host has free"
        return f"{full}: raise it, or move a guest out of it."
    return "This host is too small for them now: move a guest to another host, or end one; what comes free is shared out at once."


def _kept_by_order(case: Case, within: str) -> Iterator[str]:
    """Who is left alone, or deflated, with more than it needs: what an operator ordered, an operator can take back."""
    inside = {name for one in case.plan.budgets if one.name == within for name in one.guests}
    idle = [
        ((guest.keep_bytes or 0) - (decision.need_bytes or guest.ceiling_bytes), guest)
        for guest, decision in case.others
        if (guest.deflates or guest.leave_alone) and (not within or guest.name in inside)
    ]
    most = sorted((one for one in idle if one[0] > 0), key=lambda one: -one[0])
    for spare, guest in most[:MOST_NAMED]:
        why = guest.deflates or guest.leave_alone
        yield f"{guest.name} keeps {format_size(spare)} more than it needs, and gives nothing: {why}."
    if len(most) > MOST_NAMED:
        rest = format_size(sum(spare for spare, _ in most[MOST_NAMED:]))
        yield f"{len(most) - MOST_NAMED} others left alone keep {rest} more than they need: see `ballonet status`."


def _over_its_part(case: Case) -> Iterator[str]:
    yield "Guests below their parts get theirs first; a guest that holds more gives, even if it pages meanwhile."
    yield _too_small(_within(case))
    yield from _kept_by_order(case, _within(case))
    yield f"To make its part larger, at others' cost: {_set(case, '--shares')} above {case.guest.shares}, or `--guaranteed SIZE`."


def _leak(case: Case) -> Iterator[str]:
    yield "More memory would not help it for long: find what grows in the guest (a leak, a cache without a bound)."
    size = _typed(case.decision.keep_bytes)
    yield f"To bound it from now on, whatever the host has free: {_set(case, f'--ceiling {size}')}."
    yield "Others keep their parts meanwhile. Restarted in the guest, what grows gives all of it back within seconds."


def _inert(case: Case) -> Iterator[str]:
    yield "Something pins or hides its memory: passed-through devices, vDPA, locked, huge or encrypted memory."
    yield "It counts at what it occupies; its balloon is tried again after an hour, and when the guest starts anew."
    yield f"To leave it alone for good: `{typed('hold', case.guest.name)}`."


def _deflating(case: Case) -> Iterator[str]:
    missing = case.guest.ceiling_bytes - case.keep_bytes
    yield f"{format_size(missing)} is not back yet: it comes out of what no guest uses or fills, and others' needs come first."
    yield f"The host has {format_size(max(0, case.slack_bytes - case.plan.reserve.bytes))} left for that now."
    for one in case.plan.budgets:
        if case.guest.name in one.guests:
            left = format_size(max(0, one.memory_bytes - one.promised_bytes))
            yield f"It lies within {limit_of(one.name)}, which has {left} left for its guests, whatever the host has free."
    yield f"To have it ballooned again: `{typed('release', case.guest.name)}`."


def _bounded(case: Case) -> Iterator[str]:
    if within := _within(case):
        yield f"The rest comes from the others in {limit_of(within)}, whatever the host has free: raise it, or move a guest out."
        yield from _kept_by_order(case, within)
        return
    yield f"{format_size(max(0, case.slack_bytes))} of the host is promised to no guest then; the rest comes from other guests."
    if by_order := list(_kept_by_order(case, "")):
        yield from by_order
        return
    yield "If that is often too late: a larger `host.reserve` in the configuration keeps more free for such moments."


def _at_floor(case: Case) -> Iterator[str]:
    swap = None if case.guest.stats is None else case.guest.stats.swap_total_bytes
    if case.decision.floor_bytes <= floor_bytes(case.guest):
        yield f"To let it give more: {_set(case, '--floor SIZE')}, less than {format_size(case.decision.floor_bytes)}."
    elif swap is None:
        yield "Whether it has swap is not known, so its floor is what it uses: with ballonet's agent in the guest it is known."
    else:
        yield "It has no swap left, so its floor is what it uses; some more swap in the guest lets it give more."


def _stale(case: Case) -> Iterator[str]:
    if case.guest.knobs is not None:
        yield "What its hypervisor's loop goes by stays as it is until there is news of it: see that its tools or services run."
        return
    yield "It may give again when it has spoken: within a second where its balloon driver is well."
    yield "Look in the guest: is it hung, or its driver unloaded (Linux: lsmod | grep virtio_balloon; Windows: service BLNSVR)?"


def _stuck(_: Case) -> Iterator[str]:
    yield "It is asked again by itself, each time after a longer wait; no other guest's memory depends on it meanwhile."
    yield "In the guest, locked memory, a driver without CPU time, or kernel memory that cannot be moved keep a balloon still."


def _alone(case: Case) -> Iterator[str]:
    why, _, remedy = (case.guest.leave_alone or case.guest.deflates).partition("; ")
    if remedy.startswith("to let it go: "):
        yield f"It is moved again after `{remedy.removeprefix('to let it go: ')}`, or when the time of the hold is over."
    elif remedy:
        yield f"What to do: {remedy}."
        yield "It takes part again by itself as soon as that is so."
    elif case.guest.is_migrating:
        yield "It takes part again when the migration is over."
    else:
        counted = _size(case.plan.fixed.get(case.guest.name, case.guest.resident_bytes))
        yield f"It counts at {counted}, what it holds and may soon take, as long as that is so: {why or 'it cannot be moved'}."


def _unknown(_: Case) -> Iterator[str]:
    yield "Its hypervisor has not said yet what its balloon keeps; it counts with all of its memory. `ballonet doctor` says more."


def _observed(case: Case) -> Iterator[str]:
    if case.decision.need_bytes is not None and case.guest.knobs is None:
        yield f"In mode act it could spare {format_size(case.spare_bytes)} of the {format_size(case.keep_bytes)} that it keeps."
    if case.mode is Mode.OBSERVE:
        yield f"To see what would be done, on the whole host: `ballonet mode advise`; to do it: {_act(case)}."
    elif case.guest.mode is not Mode.ADVISE:  # of which this is said in any case
        yield f"To have it ballooned: {_act(case)}."


def _entitled(case: Case) -> Iterator[str]:
    yield "Its hypervisor balloons and pages by itself; what is reserved it never takes, so that follows the least need."
    yield from _of_own_loop(case)


def _bounded_by(case: Case) -> Iterator[str]:
    yield "Its hypervisor gives each guest its demand and the buffer on top while there is memory; who rises has a larger buffer."
    yield from _of_own_loop(case)


def _of_own_loop(case: Case) -> Iterator[str]:
    """What an operator can do where a hypervisor's own loop moves the memory."""
    guaranteed, shares = _set(case, f"--guaranteed {_typed(case.decision.need_bytes)}"), _set(case, "--shares")
    yield f"To have more for it at any time: {guaranteed}; to put it before others: {shares} above {case.guest.shares}."
    yield f"To leave what is set as it stands: `{typed('hold', case.guest.name)}`; to put it back: `ballonet restore`."


def _policy(case: Case) -> Iterator[str]:
    yield f"The policy {case.plan.policy} decides so; `loop.policy` of the configuration names another."


def _gives_for_rooms(case: Case) -> Iterator[str]:
    waiting = [one for one in case.plan.rooms if one.state is RoomState.GATHERING]
    for one in waiting[:NAMED]:
        yield f"{one.sentence}; to take that back: `{typed('room', '', f'--cancel {shlex.quote(one.name)}')}`."
    yield from _donor(case)


CHANGES: Final[dict[Reason, Callable[[Case], Iterator[str]]]] = {
    Reason.CALM: _calm,
    Reason.NEEDS: _growing,
    Reason.DISTRESS: _distressed,
    Reason.SPARE: _calm,
    Reason.FEEDBACK: _distressed,
    Reason.DONOR: _donor,
    Reason.ROOM: _gives_for_rooms,
    Reason.SHORT: _short,
    Reason.PART: _over_its_part,
    Reason.LEAK: _leak,
    Reason.RECALL: _calm,
    Reason.INERT: _inert,
    Reason.DEFLATE: _deflating,
    Reason.ENTITLED: _entitled,
    Reason.BOUNDED: _bounded_by,
    Reason.STATIC: _policy,
    Reason.PEER: _policy,
    Reason.FLOOR: _at_floor,
    Reason.BUDGET: _bounded,
    Reason.STALE: _stale,
    Reason.STUCK: _stuck,
    Reason.PARKED: _stuck,
    Reason.ALONE: _alone,
    Reason.UNKNOWN: _unknown,
    Reason.OBSERVED: _observed,
}
