"""The watch over what must hold of every guest can fail: what was loosened until everything passed would prove nothing."""

import pytest

from ballonet.scenarios.scenario import load
from ballonet.sim import fair
from ballonet.sim.fair import FairWatch, UnfairError
from ballonet.sim.run import order, run_arm


def told(scenario: str, policy: str) -> str:
    """What does not hold of a standard scenario under a policy; empty = all does."""
    what = load(scenario)
    try:
        run_arm(order(what, policy=policy), on_tick=FairWatch(what).look)
    except UnfairError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("policy", "says"), [("static", "above its part"), ("proxmox", "less than it uses, while the host has"), ("adaptive", "")]
)
def test_peers_starve_guests_and_leave_others_what_they_do_not_need(
    monkeypatch: pytest.MonkeyPatch, policy: str, says: str
) -> None:
    """Equal parts leave a sleeper what a neighbour lacks, a step a round comes too late; ours does neither."""
    monkeypatch.setattr(fair, "AFTER_S", 0.0)  # these worlds last little more than a minute
    found = told("density-60", policy)
    assert says in found
    assert bool(found) is bool(says)
