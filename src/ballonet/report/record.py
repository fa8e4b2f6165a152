"""What a run leaves behind: samples of host and guests ten times a second, work done, and the result made of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ballonet.model.plan import Plan
from ballonet.model.result import GuestResult, HostResult, Result, Summary, geometric_mean
from ballonet.model.snapshot import Snapshot
from ballonet.model.units import MIB
from ballonet.scenarios.scenario import GuestScript, Scenario

SAMPLE_S: Final = 0.1
SLACK_BYTES: Final = 2 * MIB
"""Nearer than this to a bound is on it: balloons move in steps of 1 MiB."""
LATENCY_BUCKETS_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 60.0)
"""As lab/image/workload.py counts them, the last one bounded."""
CHANGE_BYTES: Final = 8 * MIB
"""A move smaller than this is no change of direction."""


@dataclass
class GuestRecord:
    """One guest over a run."""

    script: GuestScript
    report: list[str] = field(default_factory=list)
    """The newest of its workload."""
    keeps: list[tuple[float, int]] = field(default_factory=list)
    needs: list[tuple[float, float]] = field(default_factory=list)
    occupied: list[tuple[float, int]] = field(default_factory=list)
    commands: list[tuple[float, int]] = field(default_factory=list)
    """When it was asked to keep how much by ballonet."""

    @property
    def done(self) -> int:
        """Touches done since time 0."""
        return int(self.report[1]) if self.report else 0

    @property
    def wanted(self) -> int:
        """Touches that its pace asked for."""
        return int(self.report[2]) if self.report else 0

    @property
    def swap_in_pages(self) -> int:
        """Since time 0."""
        return int(self.report[3]) if self.report else 0

    @property
    def oom_kills(self) -> int:
        """Since time 0."""
        return int(self.report[4]) if self.report else 0

    def latency_p99_s(self) -> float:
        """The 99th percentile of how late slots of work ended, to the upper edge of its bucket."""
        counts = [int(count) for count in self.report[9].split(",")] if self.report else []
        seen, limit = 0, 0.99 * sum(counts)
        for count, edge in zip(counts, LATENCY_BUCKETS_S, strict=False):
            seen += count
            if seen >= limit and count:
                return edge
        return 0.0

    def shortage(self) -> list[bool]:
        """For each sample, whether the guest needed more than it kept."""
        return [need > keep + SLACK_BYTES for (_, need), (_, keep) in zip(self.needs, self.keeps, strict=True)]

    def reactions_s(self) -> list[float]:
        """For each time that it began to lack memory: how long until a command that gave it some, or the end."""
        found = []
        lacks = self.shortage()
        for index, (at, keep) in enumerate(self.keeps):
            if lacks[index] and (index == 0 or not lacks[index - 1]):
                given = [when for when, asked in self.commands if asked > keep and when >= at - SAMPLE_S]
                found.append(max(0.0, (given[0] if given else self.keeps[-1][0]) - at))
        return found

    def floor_violations(self) -> int:
        """Samples since time 0 in which it kept less than its floor and ballonet had asked for that."""
        bound = (self.script.floor_bytes or 0) - SLACK_BYTES
        asked_at = next((at for at, asked in self.commands if asked < bound), None)
        return sum(keep < bound and asked_at is not None and asked_at <= at for at, keep in self.keeps if at >= 0)

    def direction_changes(self) -> int:
        """How often it was made to give after it was given, or the reverse, by more than CHANGE_BYTES, since time 0."""
        asked_since = [asked for at, asked in self.commands if at >= 0]
        changes, sign, turn = 0, 0, asked_since[0] if asked_since else 0
        for asked in asked_since[1:]:
            way = asked - turn
            if abs(way) < CHANGE_BYTES:
                continue
            new = 1 if way > 0 else -1
            changes += sign not in (0, new)
            sign, turn = new, asked
        return changes


@dataclass
class Record:
    """One arm of a scenario."""

    scenario: Scenario
    policy: str
    seed: int
    budget_bytes: int
    accelerator: str
    guests: dict[str, GuestRecord]
    kernel_enforced: bool = False
    occupied: list[tuple[float, int]] = field(default_factory=list)
    decide_s: list[float] = field(default_factory=list)
    tick_late_s: float = 0.0
    _tick_due: float | None = None

    def sample(self, at: float, snapshot: Snapshot, occupied: Mapping[str, int]) -> None:
        """Takes one sample at scenario time `at`."""
        self.occupied.append((at, sum(occupied.values())))
        for guest in snapshot.guests:
            one = self.guests[guest.name]
            keep = guest.keep_bytes or one.script.memory_bytes
            one.keeps.append((at, keep))
            one.needs.append((at, one.script.used_bytes(at)))
            one.occupied.append((at, occupied.get(guest.name, 0)))

    def tick(self, at: float, plan: Plan, took_s: float) -> None:
        """Notes a tick that began at scenario time `at`: what it asked for, and whether it was late."""
        if self._tick_due is not None:
            self.tick_late_s = max(self.tick_late_s, at - self._tick_due)
        self._tick_due = at + took_s + plan.next_s
        self.decide_s.append(took_s)
        for decision in plan.guests:
            if decision.is_command and decision.keep_bytes is not None:
                self.guests[decision.name].commands.append((at, decision.keep_bytes))

    def result(self, ideal: "Record | None") -> Result:
        """The run in numbers, throughput against the `ideal` arm, or against each guest's own pace without one."""
        guests = tuple(self._guest_result(one, ideal) for one in self.guests.values())
        shares = [guest.throughput_share for guest in guests]
        reactions = sorted(second for one in self.guests.values() for second in one.reactions_s())
        summary = Summary(
            throughput_share=geometric_mean(shares),
            throughput_share_worst=min(shares, default=0.0),
            swap_in_pages=sum(guest.swap_in_pages for guest in guests),
            oom_kills=sum(one.oom_kills for one in self.guests.values()),
            floor_violations=sum(one.floor_violations() for one in self.guests.values()),
            budget_violations=sum(used > self.budget_bytes + SLACK_BYTES for at, used in self.occupied if at >= 0),
            reaction_p50_s=_quantile(reactions, 0.5),
            reaction_p99_s=_quantile(reactions, 0.99),
            shortage_s=round(sum(guest.shortage_s for guest in guests), 2),
            direction_changes=sum(guest.direction_changes for guest in guests),
            tick_late_s=round(self.tick_late_s, 3),
        )
        host = HostResult(
            budget_bytes=self.budget_bytes,
            peak_used_bytes=max((used for _, used in self.occupied), default=0),
            promised_bytes=sum(one.script.memory_bytes for one in self.guests.values()),
        )
        return Result(
            scenario=self.scenario.name,
            policy=self.policy,
            where="lab",
            seed=self.seed,
            duration_s=self.scenario.duration_s,
            summary=summary,
            guests=guests,
            host=host,
            accelerator=self.accelerator,
            kernel_enforced=self.kernel_enforced,
        )

    def _guest_result(self, one: GuestRecord, ideal: "Record | None") -> GuestResult:
        yardstick = ideal.guests[one.script.name] if ideal else None
        # By share of what was wanted: two arms never run for exactly the same number of slots.
        best = yardstick.done / max(1, yardstick.wanted) if yardstick else 1.0
        keeps = [keep for at, keep in one.keeps if at >= 0]
        lacks = [lack for (at, _), lack in zip(one.keeps, one.shortage(), strict=True) if at >= 0]
        return GuestResult(
            name=one.script.name,
            throughput_share=round(one.done / max(1, one.wanted) / best, 4) if best else 0.0,
            latency_p99_s=one.latency_p99_s(),
            swap_in_pages=one.swap_in_pages,
            keep_min_bytes=min(keeps, default=0),
            keep_max_bytes=max(keeps, default=0),
            shortage_s=round(sum(lacks) * SAMPLE_S, 2),
            direction_changes=one.direction_changes(),
        )


def _quantile(values: list[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, int(share * len(values)))], 3) if values else None
