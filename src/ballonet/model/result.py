"""What a run showed: the file format `ballonet.result/1`."""

import math
from typing import Final

from msgspec import Struct

RESULT_SCHEMA: Final = "ballonet.result/1"


class GuestResult(Struct, frozen=True, kw_only=True):
    """What one guest went through."""

    name: str
    throughput_share: float
    """Work done over the work that the same guest did in the `ideal` arm; without one, over its own demand."""
    latency_p50_s: float | None = None
    """Half of its slots of work, or of the requests to its application, ended no later; None = nobody told."""
    latency_p99_s: float
    done: int | None = None
    """Touches, or requests that its application answered in time; None as above."""
    swap_in_pages: int
    keep_min_bytes: int
    keep_max_bytes: int
    shortage_s: float
    """Seconds in which it wanted memory that it did not have."""
    direction_changes: int
    """How often it was made to give after it was given, or the reverse."""


class Summary(Struct, kw_only=True):
    """All guests of a run in a few numbers."""

    throughput_share: float
    """Geometric mean over the guests."""
    throughput_share_worst: float
    swap_in_pages: int
    oom_kills: int
    floor_violations: int
    """Samples in which a guest kept less than its floor, and had been asked to."""
    budget_violations: int
    """Samples in which the guests' RAM occupied more than the host's budget."""
    reaction_p50_s: float | None
    """From the first sample in which a guest lacks memory to the first command that gives it some; None = none lacked."""
    reaction_p99_s: float | None
    shortage_s: float
    direction_changes: int
    """Of all guests."""
    requests: int = 0
    """Commands to all guests."""
    alarm_s: float = 0.0
    alarms: int = 0
    """How often an alarm began."""
    """Seconds in which the host was in the states hard or low, and ballonet said so (R14)."""
    unexplained: int = 0
    """Commands whose reason does not say why anything is sent (R15)."""
    inflations_at_once: int = 0
    """The most balloons that grew at the same time (R11)."""
    tick_late_s: float | None = None
    """By how much the daemon's latest tick was late; None = no daemon ran."""
    regret_share: float | None = None


class HostResult(Struct, frozen=True, kw_only=True):
    """The host of a run."""

    budget_bytes: int
    peak_used_bytes: int
    promised_bytes: int
    """The sum of the guests' ceilings."""


class Result(Struct, frozen=True, kw_only=True):
    """One run of one scenario under one policy."""

    schema: str = RESULT_SCHEMA
    scenario: str
    policy: str
    where: str
    """`lab` (real guests) or `sim` (simulated)."""
    seed: int
    duration_s: float
    summary: Summary
    guests: tuple[GuestResult, ...]
    host: HostResult
    accelerator: str | None = None
    """Of lab guests: `kvm` or `tcg`."""
    kernel_enforced: bool | None = None
    """Whether a cgroup held the guests to the budget too."""


def geometric_mean(shares: list[float]) -> float:
    """The geometric mean of shares >= 0; 0 when one is 0 or there is none."""
    if not shares or min(shares) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, shares)) / len(shares))
