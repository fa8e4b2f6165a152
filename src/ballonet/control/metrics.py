"""What Prometheus scrapes: the last tick, in base units, with the labels by which the libvirt exporters name a guest.

https://prometheus.io/docs/practices/naming/. `domain` is the guest's name, `uuid` its UUID.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ballonet.control.messages import GuestStatus, HostStatus, Status
from ballonet.decide.states import NAMES
from ballonet.hypervisors.alone import NOT_HEARD

LABELS: Final = ("domain", "uuid")

GUEST_GAUGES: Final = {
    "ceiling_bytes": ("has_bytes", "What it has with its balloon empty"),
    "keep_bytes": ("keeps_bytes", "What its balloon leaves it"),
    "resident_bytes": ("holds_bytes", "What its RAM occupies on the host"),
    "available_bytes": ("available_bytes", "What it can free without paging, by its own word"),
    "used_bytes": ("used_bytes", "What it uses, page cache that can be freed not counted"),
    "need_bytes": ("need_bytes", "What it should keep, with its margin (R2)"),
    "floor_bytes": ("floor_bytes", "Never below (R6)"),
    "short_bytes": ("short_bytes", "What it lacks of what it needs (R10)"),
    "wish_bytes": ("shall_keep_bytes", "What it shall keep by the last plan"),
    "statistics_age_seconds": ("heard_s", "Age of its statistics"),
}
"""Name after `ballonet_guest_`: the field of a guest's status, and what it is."""

HOST_GAUGES: Final = {
    "total_bytes": ("total_bytes", "The host's memory"),
    "available_bytes": ("available_bytes", "What can be handed out without reclaim"),
    "guests_bytes": ("memory_bytes", "Memory for guests: what they hold and what is available"),
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


class TickCollector(Collector):
    """The last status and the counters, as metrics."""

    def __init__(self, status: Status | None, counters: Counters) -> None:
        self._status, self._counters = status, counters

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        yield from _counted(self._counters)
        if self._status is not None:
            yield from _of_host(self._status.host)
            yield from _of_guests(self._status.guests)


def exposition(status: Status | None, counters: Counters) -> bytes:
    """The text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TickCollector(status, counters))
    return generate_latest(registry)


def _counted(counters: Counters) -> Iterator[Metric]:
    yield CounterMetricFamily("ballonet_ticks", "Turns of the loop", value=counters.ticks)
    yield GaugeMetricFamily("ballonet_tick_gap_seconds", "Longest time between two ticks of a minute", value=counters.gap_s)
    yield CounterMetricFamily("ballonet_history_lost", "Ticks that history could not keep", value=counters.lost)
    commands = CounterMetricFamily("ballonet_guest_commands", "Balloon commands sent", labels=(*LABELS, "reason"))
    for (name, uuid, reason), count in counters.commands.items():
        commands.add_metric((name, uuid, reason), count)
    yield commands
    failures = CounterMetricFamily("ballonet_guest_command_failures", "Balloon commands that failed", labels=LABELS)
    for key, count in counters.failures.items():
        failures.add_metric(key, count)
    yield failures


def _of_host(host: HostStatus) -> Iterator[Metric]:
    info = GaugeMetricFamily("ballonet_info", "Version, mode and policy", labels=("version", "mode", "policy"))
    info.add_metric((host.version, host.mode.value, host.policy), 1)
    yield info
    yield GaugeMetricFamily("ballonet_hold", "1 while all guests are on hold", value=float(bool(host.hold)))
    state = GaugeMetricFamily("ballonet_host_state", "1 for the state that the host is in (R14)", labels=("state",))
    for name in NAMES:
        state.add_metric((name,), float(name == host.state))
    yield state
    for name, (field, what) in HOST_GAUGES.items():
        yield GaugeMetricFamily(f"ballonet_host_{name}", what, value=float(getattr(host, field)))


def _of_guests(guests: tuple[GuestStatus, ...]) -> Iterator[Metric]:
    for name, (field, what) in GUEST_GAUGES.items():
        gauge = GaugeMetricFamily(f"ballonet_guest_{name}", what, labels=LABELS)
        for guest in guests:
            if (value := getattr(guest, field)) is not None:
                gauge.add_metric((guest.name, guest.uuid), value)
        yield gauge
    alone = GaugeMetricFamily("ballonet_guest_left_alone", "1 while it is not ballooned (R13, holds)", labels=LABELS)
    bound = GaugeMetricFamily("ballonet_guest_ceiling_binds", "1 while it needs more than its ceiling", labels=LABELS)
    reason = GaugeMetricFamily("ballonet_guest_reason", "1 for the reason of its last decision", labels=(*LABELS, "reason"))
    mode = GaugeMetricFamily("ballonet_guest_mode", "1 for its mode", labels=(*LABELS, "mode"))
    for guest in guests:
        alone.add_metric((guest.name, guest.uuid), float(bool(guest.left_alone) and guest.left_alone != NOT_HEARD))
        bound.add_metric((guest.name, guest.uuid), float(guest.is_bound))
        reason.add_metric((guest.name, guest.uuid, guest.reason), 1)
        mode.add_metric((guest.name, guest.uuid, guest.mode.value), 1)
    asked = GaugeMetricFamily("ballonet_guest_asked_bytes", "What is asked for it now, by what that is", labels=(*LABELS, "what"))
    for guest in guests:
        for what, value in guest.asked.items():
            if what.endswith("_bytes") and isinstance(value, int):
                asked.add_metric((guest.name, guest.uuid, what.removesuffix("_bytes")), value)
    yield from (alone, bound, reason, mode, asked)
