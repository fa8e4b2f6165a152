"""What Prometheus scrapes: the last tick, in base units, with the labels by which the libvirt exporters name a guest.

https://prometheus.io/docs/practices/naming/. `domain` is the guest's name, `uuid` its UUID. The text is written here and not by
prometheus_client: of 1,000 guests that took 80 ms, in which no tick is decided. Its parser, and promtool, read it in the tests.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Final

from ballonet.decide.states import NAMES
from ballonet.hypervisors.local.alone import NOT_HEARD
from ballonet.status.words import GuestStatus, HostStatus, RoomStatus, Status

GUEST_GAUGES: Final = {
    "ceiling_bytes": ("ceiling_bytes", "What it has with its balloon empty"),
    "keep_bytes": ("keep_bytes", "What its balloon leaves it"),
    "resident_bytes": ("resident_bytes", "What its RAM occupies on the host"),
    "available_bytes": ("available_bytes", "What it can free without paging, by its own word"),
    "used_bytes": ("used_bytes", "What it uses, page cache that can be freed not counted"),
    "need_bytes": ("need_bytes", "What it should keep, with its margin (R2)"),
    "floor_bytes": ("floor_bytes", "Never below (R6)"),
    "short_bytes": ("short_bytes", "What it lacks of what it needs (R10)"),
    "target_bytes": ("target_bytes", "What it shall keep by the last plan"),
    "stats_age_seconds": ("stats_age_s", "Age of its statistics"),
}
"""Name after `ballonet_guest_`: the field of a guest's status, and what it is."""

HOST_GAUGES: Final = {
    "total_bytes": ("total_bytes", "The host's memory"),
    "available_bytes": ("available_bytes", "What can be handed out without reclaim"),
    "guests_bytes": ("guests_bytes", "Memory for guests: what they hold and what is available"),
    "promised_bytes": ("promised_bytes", "What guests may take without asking again (R4)"),
    "reserve_bytes": ("reserve_bytes", "What is to stay unpromised (R3)"),
    "pressure_ratio": ("pressure_share", "Of the last 10 s, in which some task waited for memory (PSI)"),
    "alarm": ("is_alarming", "1 while the host is about to run out of memory (R14)"),
    "tick_duration_seconds": ("tick_s", "How long the last tick took"),
    "last_tick_timestamp_seconds": ("at", "When the last tick was"),
}
"""The same after `ballonet_host_`, of the host's status."""


GAP_WITHIN_S: Final = 60.0
"""Of which time the longest gap is told: longer than between two scrapes."""


class Counters:
    """What only adds up: told of each tick, read by each scrape."""

    def __init__(self) -> None:
        self.ticks = 0
        self.commands: Counter[tuple[str, str, str]] = Counter()
        """By guest, UUID and reason."""
        self.failures: Counter[tuple[str, str]] = Counter()
        """By guest and UUID."""
        self.lost = 0
        """Ticks that history could not keep."""
        self._last_s, self._gaps = 0.0, deque[tuple[float, float]]()

    def tick(self, now: float) -> None:
        """One more, at a time of a clock that only rises."""
        self.ticks += 1
        if self._last_s:
            self._gaps.append((now, now - self._last_s))
        self._last_s = now
        while self._gaps and now - self._gaps[0][0] > GAP_WITHIN_S:
            self._gaps.popleft()

    @property
    def gap_s(self) -> float:
        """The longest time between two ticks of the last minute."""
        return max((gap for _, gap in self._gaps), default=0.0)

    def keep_only(self, names: Iterable[str]) -> None:
        """Forgets guests that are gone: names of a thousand short-lived VMs a day would add up."""
        known = set(names)
        for counter in (self.commands, self.failures):
            for key in [key for key in counter if key[0] not in known]:
                del counter[key]


def exposition(status: Status | None, counters: Counters) -> bytes:
    """The text format, version 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
    lines = [*_counted(counters)]
    if status is not None:
        lines += _of_host(status.host)
        lines += _of_guests(status.guests)
        lines += _of_rooms(status.rooms)
    return "\n".join((*lines, "")).encode()


def _family(name: str, kind: str, what: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    """A metric with its samples: labels as they stand in the text, and a value."""
    name = f"ballonet_{name}"
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}", *[f"{name}{labels} {float(value)!r}" for labels, value in samples]]


def _labels(**values: str) -> str:
    """Of a sample, as they stand in the text."""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _counted(counters: Counters) -> Iterator[str]:
    yield from _family("ticks_total", "counter", "Turns of the loop", [("", counters.ticks)])
    yield from _family("tick_gap_seconds", "gauge", "Longest time between two ticks of a minute", [("", counters.gap_s)])
    yield from _family("history_lost_total", "counter", "Ticks that history could not keep", [("", counters.lost)])
    commands = [
        (_labels(domain=name, uuid=uuid, reason=reason), count) for (name, uuid, reason), count in counters.commands.items()
    ]
    yield from _family("guest_commands_total", "counter", "Commands sent", commands)
    failures = [(_labels(domain=name, uuid=uuid), count) for (name, uuid), count in counters.failures.items()]
    yield from _family("guest_command_failures_total", "counter", "Commands that failed", failures)


def _of_host(host: HostStatus) -> Iterator[str]:
    info = _labels(version=host.version, mode=host.mode.value, policy=host.policy)
    yield from _family("info", "gauge", "Version, mode and policy", [(info, 1)])
    yield from _family("hold", "gauge", "1 while all guests are on hold", [("", bool(host.hold))])
    states = [(_labels(state=name), name == host.state) for name in NAMES]
    yield from _family("host_state", "gauge", "1 for the state that the host is in (R14)", states)
    for name, (field, what) in HOST_GAUGES.items():
        yield from _family(f"host_{name}", "gauge", what, [("", getattr(host, field))])


def _of_rooms(rooms: tuple[RoomStatus, ...]) -> Iterator[str]:
    kept = [one for one in rooms if not one.state.is_over]
    named = [(_labels(domain=one.name, uuid=one.key, state=one.state.value), one) for one in kept]
    for what, field, text in (
        ("bytes", "granted_bytes", "What a VM that is about to start is to have (R18)"),
        ("gathered_bytes", "gathered_bytes", "What of that the host has available"),
    ):
        yield from _family(f"room_{what}", "gauge", text, [(labels, getattr(one, field)) for labels, one in named])
    waited = [(labels, one.ready_at - one.asked_at) for labels, one in named if one.ready_at is not None]
    yield from _family("room_wait_seconds", "gauge", "How long it took to gather", waited)


def _of_guests(guests: tuple[GuestStatus, ...]) -> Iterator[str]:
    named = [(_labels(domain=guest.name, uuid=guest.uuid), guest) for guest in guests]
    for name, (field, what) in GUEST_GAUGES.items():
        known = [(labels, value) for labels, guest in named if (value := getattr(guest, field)) is not None]
        yield from _family(f"guest_{name}", "gauge", what, known)
    alone = [(labels, bool(guest.leave_alone) and guest.leave_alone != NOT_HEARD) for labels, guest in named]
    yield from _family("guest_leave_alone", "gauge", "1 while it is not ballooned (R13, holds)", alone)
    bound = [(labels, guest.is_bound) for labels, guest in named]
    yield from _family("guest_ceiling_binds", "gauge", "1 while it needs more than its ceiling", bound)
    reasons = [(_and(labels, "reason", guest.reason), 1) for labels, guest in named]
    yield from _family("guest_reason", "gauge", "1 for the reason of its last decision", reasons)
    modes = [(_and(labels, "mode", guest.mode.value), 1) for labels, guest in named]
    yield from _family("guest_mode", "gauge", "1 for its mode", modes)
    asked = [
        (_and(labels, "what", what.removesuffix("_bytes")), value)
        for labels, guest in named
        for what, value in guest.asked.items()
        if what.endswith("_bytes") and isinstance(value, int)
    ]
    yield from _family("guest_asked_bytes", "gauge", "What is asked for it now, by what that is", asked)


def _and(labels: str, name: str, value: str) -> str:
    """One more label."""
    return f'{labels[:-1]},{name}="{_escaped(value)}"}}'
