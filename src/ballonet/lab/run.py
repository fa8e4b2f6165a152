"""`ballonet lab run`: arms of one scenario one after the other, and what they showed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from ballonet.lab.arm import Order, Progress, run_arm
from ballonet.lab.record import Record
from ballonet.model.limits import Limits
from ballonet.model.result import Result
from ballonet.scenarios.scenario import Expect, Scenario, scripts

IDEAL_SHARE = 1.25
"""The host of the `ideal` arm, of what is promised: every guest fully backed, and the reserve on top."""


@dataclass(frozen=True)
class Flight:
    """All arms of a run, in their order."""

    records: tuple[Record, ...]
    results: tuple[Result, ...]


async def run_arms(
    scenario: Scenario,
    policies: Sequence[str],
    *,
    scale: int,
    host_share: float | None,
    seed: int,
    progress: Callable[[str], Progress],
    limits: Limits | None = None,
) -> Flight:
    """Runs `scenario` under each policy; throughput is measured against the arm `ideal` when it is among them.

    Args:
        scenario: what to run.
        policies: names, in the order to run them.
        scale: sizes are divided by it.
        host_share: the host's memory as a share of what guests are promised; None = as the scenario says.
        seed: of the scenario's variations and of the workloads.
        progress: who watches the arm of a policy.
        limits: of every decision; rules can be switched off here. None = the defaults.
    """
    guests = scripts(scenario, scale, seed)
    promised = sum(script.memory_bytes for script in guests)
    budget = scenario.host.memory // scale if host_share is None else int(promised * host_share)
    records: list[Record] = []
    for policy in policies:
        own_budget = int(promised * IDEAL_SHARE) if policy == "ideal" else budget
        order = Order(scenario, guests, policy, own_budget, scale, seed, limits or Limits())
        records.append(await run_arm(order, progress(policy)))
    ideal = next((record for record in records if record.policy == "ideal"), None)
    return Flight(tuple(records), tuple(record.result(ideal) for record in records))


def unmet(scenario: Scenario, host_share: float | None, result: Result) -> list[str]:
    """What the scenario expects of the adaptive policy and this result does not show, in words; empty = all holds."""
    expect: Expect = scenario.expect
    if host_share is not None:
        expect = scenario.expect_at_share.get(f"{host_share:g}", expect)
    shown = msgspec.structs.asdict(result.summary) | _unhurt(scenario, result)
    found = []
    for field in expect.__struct_fields__:
        bound = getattr(expect, field)
        kind, _, name = field.partition("_")
        value = shown[name]
        if bound is not None and (value < bound if kind == "least" else value > bound):
            found.append(f"{name} is {value:g}, expected at {kind} {bound:g}")
    return found


def _unhurt(scenario: Scenario, result: Result) -> dict[str, float]:
    """The guests that no fault hits, in two figures."""
    hurt = {fault.guest for fault in scenario.faults}
    guests = [guest for guest in result.guests if guest.name not in hurt]
    return {
        "throughput_share_unhurt": min((guest.throughput_share for guest in guests), default=1.0),
        "direction_changes_unhurt": sum(guest.direction_changes for guest in guests),
    }
