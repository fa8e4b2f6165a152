"""Each rule has a scenario that fails when the rule is switched off: docs/reference/rules.md names it, and this runs it."""

import re
from pathlib import Path

import pytest

from ballonet.model.limits import RULES, Limits
from ballonet.report.expect import unmet
from ballonet.scenarios.scenario import load
from ballonet.sim.run import run_arms

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "rules.md"


def scenarios_of(rule: str) -> list[str]:
    """The scenarios that the rule's row names."""
    row = next(line for line in TABLE.read_text().splitlines() if line.startswith(f"| {rule} |"))
    found = re.findall(r"scenario `([a-z0-9-]+)`", row)
    assert found, f"{TABLE.name} names no scenario for {rule}"
    return found


@pytest.mark.parametrize(("rule", "name"), [(rule, name) for rule in RULES for name in scenarios_of(rule)])
def test_a_scenario_needs_the_rule(rule: str, name: str) -> None:
    """It holds what it expects with all rules in force, and no longer without this one."""
    scenario = load(name)
    whole = run_arms(scenario, ["adaptive"])
    assert unmet(scenario, None, whole.results[0]) == []
    without = run_arms(scenario, ["adaptive"], limits=Limits(without=frozenset({rule})))
    assert unmet(scenario, None, without.results[0]) != []
