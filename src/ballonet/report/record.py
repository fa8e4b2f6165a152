"""What a run leaves behind: samples of host and guests as they come, work done, and the result made of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ballonet.model.plan import Keep, Plan
from ballonet.model.result import GuestResult, HostResult, Result, Summary, geometric_mean
from ballonet.model.snapshot import Snapshot
from ballonet.model.units import MIB
from ballonet.scenarios.course import Course
from ballonet.scenarios.scenario import GuestScript, Scenario

SAMPLE_S: Final = 0.1
SLACK_BYTES: Final = 2 * MIB
"""Nearer than this to a bound is on it: balloons move in steps of 1 MiB."""
LATENCY_BUCKETS_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 60.0)
"""As lab/image/workload.py counts them, the last one bounded."""
APP_BUCKETS_S: Final = (
    *(0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 60.0),
)
"""As lab/image/apps.py counts requests to a real application."""
CHANGE_BYTES: Final = 8 * MIB
"""A move smaller than this is no change of direction."""


@dataclass
class Work:
    """What a guest's workload has done since time 0."""

    done: float = 0
    """Touches."""
    wanted: float = 0
    """Touches that its pace asked for."""
    swap_in_pages: int = 0
    oom_kills: int = 0
    latencies: list[float] = field(default_factory=lambda: [0] * len(LATENCY_BUCKETS_S))
    """Slots of work by how late they ended; of a real application, requests by how late they were answered."""

    def latency_s(self, share: float) -> float:
        """The percentile `share` of how late they ended, to the upper edge of its bucket."""
        edges = APP_BUCKETS_S if len(self.latencies) == len(APP_BUCKETS_S) else LATENCY_BUCKETS_S
        seen, limit = 0.0, share * sum(self.latencies)
        for count, edge in zip(self.latencies, edges, strict=True):
            seen += count
            if seen >= limit and count:
                return edge
        return 0.0


@dataclass
class GuestRecord:
    """One guest over a run."""

    script: GuestScript
    course: Course
    keeps_series: bool = True
    """For charts; a long simulation does without."""
    work: Work = field(default_factory=Work)
    keeps: list[tuple[float, int]] = field(default_factory=list)
    needs: list[tuple[float, float]] = field(default_factory=list)
    lacks: list[bool] = field(default_factory=list)
    """For each sample, whether the guest needed more than it kept."""
    keep_min_bytes: int | None = None
    keep_max_bytes: int = 0
    shortage_s: float = 0.0
    floor_violations: int = 0
    direction_changes: int = 0
    """How often it was made to give after it was given, or the reverse, by more than CHANGE_BYTES, since time 0."""
    requests: int = 0
    """Commands since time 0."""
    reactions_s: list[float] = field(default_factory=list)
    """For each time that it began to lack memory: how long until a command that gave it some."""
    _lacking: tuple[float, int] | None = None
    _was_lacking: bool = False
    _asked: tuple[float, int] | None = None
    _low_asked: bool = False
    _turn: int | None = None
    _sign: int = 0

    def sample(self, at: float, keep: int, need: float, span_s: float = SAMPLE_S) -> None:
        """Takes one sample that stands for `span_s`."""
        lacks = need > keep + SLACK_BYTES
        if lacks and not self._was_lacking:
            is_given = self._asked is not None and self._asked[0] >= at - SAMPLE_S and self._asked[1] > keep
            if is_given:
                self.reactions_s.append(0.0)
            else:
                self._lacking = (at, keep)
        self._was_lacking = lacks
        if self.keeps_series:
            self._draw(at, keep, need, lacks=lacks, span_s=span_s)
        if at >= 0:
            self.keep_min_bytes = keep if self.keep_min_bytes is None else min(self.keep_min_bytes, keep)
            self.keep_max_bytes = max(self.keep_max_bytes, keep)
            self.shortage_s += span_s if lacks else 0.0
            self.floor_violations += self._low_asked and keep < self._least_bytes()

    def _draw(self, at: float, keep: int, need: float, *, lacks: bool, span_s: float) -> None:
        """Adds to the series; between two far samples nothing changed."""
        if self.keeps and at - self.keeps[-1][0] > 2 * span_s:
            self.keeps.append((at - span_s, self.keeps[-1][1]))
            self.needs.append((at - span_s, self.needs[-1][1]))
            self.lacks.append(self.lacks[-1])
        self.keeps.append((at, keep))
        self.needs.append((at, need))
        self.lacks.append(lacks)

    def asked(self, at: float, keep: int) -> None:
        """Notes that ballonet asked it to keep `keep` bytes."""
        if self._lacking is not None and keep > self._lacking[1]:
            self.reactions_s.append(max(0.0, at - self._lacking[0]))
            self._lacking = None
        self._asked = (at, keep)
        self._low_asked = self._low_asked or keep < self._least_bytes()
        if at >= 0:
            self.requests += 1
            self._note_turn(keep)

    def end(self, at: float) -> None:
        """The run is over: who still waits has waited until now."""
        if self._lacking is not None:
            self.reactions_s.append(max(0.0, at - self._lacking[0]))
            self._lacking = None

    def is_inflating(self, keep: int) -> bool:
        """Whether its balloon is on its way to what was asked last."""
        return self._asked is not None and self._asked[1] < keep - SLACK_BYTES

    def _least_bytes(self) -> int:
        return (self.script.terms.floor_bytes or 0) - SLACK_BYTES

    def _note_turn(self, keep: int) -> None:
        way = keep - (keep if self._turn is None else self._turn)
        if self._turn is not None and abs(way) < CHANGE_BYTES:
            return
        new = (way > 0) - (way < 0)
        self.direction_changes += new != 0 and self._sign not in (0, new)
        self._sign, self._turn = new or self._sign, keep


@dataclass
class Record:
    """One arm of a scenario."""

    scenario: Scenario
    policy: str
    seed: int
    budget_bytes: int
    guests: dict[str, GuestRecord]
    where: str = "lab"
    accelerator: str | None = None
    kernel_enforced: bool | None = None
    keeps_series: bool = True
    occupied: list[tuple[float, int]] = field(default_factory=list)
    peak_used_bytes: int = 0
    budget_violations: int = 0
    tick_late_s: float = 0.0
    alarm_s: float = 0.0
    alarms: int = 0
    unexplained: int = 0
    inflations_at_once: int = 0
    ticks: int = 0
    ended_at: float = 0.0
    _tick_due: float | None = None
    _alarmed_at: float | None = None

    def sample(self, at: float, snapshot: Snapshot, occupied: Mapping[str, int]) -> None:
        """Takes one sample at scenario time `at`; what each guest needs is by its script."""
        self.host_sample(at, sum(occupied.values()))
        growing = sum(self.guests[guest.name].is_inflating(guest.keep_bytes or 0) for guest in snapshot.guests)
        self.inflations(at, growing)
        for guest in snapshot.guests:
            one = self.guests[guest.name]
            one.sample(at, guest.keep_bytes or one.script.memory_bytes, one.course.used_bytes(at))

    def host_sample(self, at: float, guests_bytes: int, own_bytes: int = 0) -> None:
        """What all guests occupy at a time, and the host itself."""
        if self.keeps_series:
            self.occupied.append((at, guests_bytes))
        self.ended_at = at
        self.peak_used_bytes = max(self.peak_used_bytes, guests_bytes + own_bytes)
        self.budget_violations += at >= 0 and guests_bytes + own_bytes > self.budget_bytes + SLACK_BYTES

    def inflations(self, at: float, count: int) -> None:
        """How many balloons grow at a time."""
        if at >= 0:
            self.inflations_at_once = max(self.inflations_at_once, count)

    def tick(self, at: float, plan: Plan, took_s: float) -> None:
        """Notes a tick that began at scenario time `at`: what it asked for, and whether it was late."""
        if self._tick_due is not None:
            self.tick_late_s = max(self.tick_late_s, at - self._tick_due)
        if self._alarmed_at is not None:
            self.alarm_s += at - self._alarmed_at
        self.alarms += plan.is_alarming and at >= 0 and self._alarmed_at is None
        self._alarmed_at = at if plan.is_alarming and at >= 0 else None
        self._tick_due = at + took_s + plan.next_s
        self.ticks += 1
        for decision in plan.guests:
            if isinstance(decision.ask, Keep):
                self.guests[decision.name].asked(at, decision.ask.bytes)
                self.unexplained += not decision.reason.is_for_command

    def result(self, ideal: "Record | None", oracle: "Record | None" = None) -> Result:
        """The run in numbers.

        Args:
            ideal: the arm of fully backed guests; without one throughput is against each guest's own pace.
            oracle: the clairvoyant's arm, for `regret_share`.
        """
        for one in self.guests.values():
            one.end(self.ended_at)
        guests = tuple(self._guest_result(one, ideal) for one in self.guests.values())
        host = HostResult(
            budget_bytes=self.budget_bytes,
            peak_used_bytes=self.peak_used_bytes,
            promised_bytes=sum(one.script.memory_bytes for one in self.guests.values()),
        )
        summary = self._summary(guests)
        if oracle is not None:
            best = oracle.result(ideal).summary.throughput_share
            summary.regret_share = round(max(0.0, 1 - summary.throughput_share / best), 4) if best else None
        return Result(
            scenario=self.scenario.name,
            policy=self.policy,
            where=self.where,
            seed=self.seed,
            duration_s=self.scenario.duration_s,
            summary=summary,
            guests=guests,
            host=host,
            accelerator=self.accelerator,
            kernel_enforced=self.kernel_enforced,
        )

    def _summary(self, guests: tuple[GuestResult, ...]) -> Summary:
        shares = [guest.throughput_share for guest in guests]
        records = self.guests.values()
        reactions = sorted(second for one in records for second in one.reactions_s)
        return Summary(
            throughput_share=geometric_mean(shares),
            throughput_share_worst=min(shares, default=0.0),
            swap_in_pages=sum(guest.swap_in_pages for guest in guests),
            oom_kills=sum(one.work.oom_kills for one in records),
            floor_violations=sum(one.floor_violations for one in records),
            budget_violations=self.budget_violations,
            reaction_p50_s=_quantile(reactions, 0.5),
            reaction_p99_s=_quantile(reactions, 0.99),
            shortage_s=round(sum(guest.shortage_s for guest in guests), 2),
            direction_changes=sum(guest.direction_changes for guest in guests),
            requests=sum(one.requests for one in records),
            alarm_s=round(self.alarm_s, 2),
            alarms=self.alarms,
            unexplained=self.unexplained,
            inflations_at_once=self.inflations_at_once,
            tick_late_s=round(self.tick_late_s, 3),
        )

    def _guest_result(self, one: GuestRecord, ideal: "Record | None") -> GuestResult:
        yardstick = ideal.guests[one.script.name].work if ideal else None
        # By share of what was wanted: two arms never run for exactly the same number of slots.
        best = yardstick.done / max(1, yardstick.wanted) if yardstick else 1.0
        return GuestResult(
            name=one.script.name,
            # One that never ran has lost nothing.
            throughput_share=round(one.work.done / max(1, one.work.wanted) / best, 4)
            if best and one.work.wanted
            else float(not one.work.wanted),
            latency_p50_s=one.work.latency_s(0.5),
            latency_p99_s=one.work.latency_s(0.99),
            done=int(one.work.done),
            swap_in_pages=int(one.work.swap_in_pages),
            keep_min_bytes=one.keep_min_bytes or 0,
            keep_max_bytes=one.keep_max_bytes,
            shortage_s=round(one.shortage_s, 2),
            direction_changes=one.direction_changes,
        )


def _quantile(values: list[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, int(share * len(values)))], 3) if values else None
