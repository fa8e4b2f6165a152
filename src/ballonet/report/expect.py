"""What a scenario expects, against what a run showed."""

import msgspec

from ballonet.model.result import Result
from ballonet.scenarios.scenario import Expect, Scenario


def unmet(scenario: Scenario, host_share: float | None, result: Result) -> list[str]:
    """What the scenario expects of the adaptive policy and this result does not show, in words; empty = all holds."""
    expect: Expect = scenario.expect
    if host_share is not None:
        expect = scenario.expect_at_share.get(f"{host_share:g}", expect)
    shown = msgspec.structs.asdict(result.summary) | _unhurt(scenario, result) | _guaranteed(scenario, result)
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
        "swap_in_pages_unhurt": sum(guest.swap_in_pages for guest in guests),
    }


def _guaranteed(scenario: Scenario, result: Result) -> dict[str, float]:
    """The guests that are guaranteed what they use at their peak."""
    groups = [group for group in scenario.guests if (group.guaranteed_bytes or 0) >= max(phase.used for phase in group.phases)]
    names = {f"{group.name}-{number}" for group in groups for number in range(group.count)}
    found = min((guest.throughput_share for guest in result.guests if guest.name in names), default=1.0)
    return {"throughput_share_guaranteed": found}
