"""Hosts with a loop of their own, simulated: decisions tell what is really asked of it, and can be made again from history."""

from typing import Any

import msgspec
import pytest

from ballonet.daemon.loop import Loop
from ballonet.decide.step import START, step
from ballonet.history.replay import replay
from ballonet.model.knobs import Entitlement
from ballonet.model.limits import Limits
from ballonet.model.plan import Keep, Reason
from ballonet.model.snapshot import Guest, GuestStats, Host, Mode, Snapshot
from ballonet.model.tick import Tick
from ballonet.model.units import GIB
from ballonet.scenarios.scenario import load
from ballonet.sim import on_top
from ballonet.sim.run import order, run_arm


def ticks_of(policy: str, scenario: str, monkeypatch: pytest.MonkeyPatch) -> list[Tick]:
    """Those of ballonet's own loop, on top of the host's."""
    found: list[Tick] = []

    class Heard(Loop):
        def __init__(self, eye: Any, hypervisor: Any, limits: Limits, **more: Any) -> None:
            if isinstance(hypervisor, on_top.SteeredHost):
                more["on_tick"] = found.append
            super().__init__(eye, hypervisor, limits, **more)

    monkeypatch.setattr(on_top, "Loop", Heard)
    run_arm(order(load(scenario), policy=policy, host_share=0.6))
    return found


@pytest.mark.parametrize("scenario", ["consolidation", "spike", "stuck"])
@pytest.mark.parametrize("policy", ["esx+ballonet", "hyperv+ballonet"])
def test_r15_no_decision_tells_of_what_was_not_sent(policy: str, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No balloon is said to be asked, stuck or set back where nobody asks it; what is asked is sent, and nothing else is."""
    ticks = ticks_of(policy, scenario, monkeypatch)
    assert sum(len(tick.outcome.begun) for tick in ticks) > 0
    for tick in ticks:
        asked = [one.name for one in tick.plan.guests if one.ask is not None]
        assert not any(isinstance(one.ask, Keep) for one in tick.plan.guests)
        assert sorted(asked) == sorted(tick.outcome.begun)
        own = Reason.ENTITLED if policy.startswith("esx") else Reason.BOUNDED
        assert {one.reason for one in tick.plan.guests} <= {own, Reason.ALONE, Reason.UNKNOWN, Reason.STALE}
        for guest, one in zip(tick.snapshot.guests, tick.plan.guests, strict=True):
            assert one.keep_bytes == guest.keep_bytes
            assert one.sentence.startswith("gets " if one.ask is not None else ("has ", "is left alone", "keeps "))


@pytest.mark.parametrize("policy", ["esx+ballonet", "hyperv+ballonet"])
def test_what_was_asked_of_another_s_loop_is_decided_again_from_history(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each snapshot as a file holds all that a decision is made of, and replay counts what is asked."""
    ticks = ticks_of(policy, "consolidation", monkeypatch)
    state = START
    for tick in ticks:
        snapshot = msgspec.json.decode(msgspec.json.encode(tick.snapshot), type=Snapshot)
        state, plan = step(state, snapshot, Limits(), tick.at)
        assert [one.ask for one in plan.guests] == [one.ask for one in tick.plan.guests]
    found = replay(ticks, "adaptive", Limits())
    assert sum(one.commands for one in found.guests.values()) == sum(len(tick.outcome.begun) for tick in ticks)


@pytest.mark.parametrize("mode", [Mode.ACT, Mode.ADVISE])
def test_what_another_s_loop_is_told_makes_no_tick_come_sooner(mode: Mode) -> None:
    """An advice stands until somebody follows it, and a change takes effect in its own time: nobody waits for either."""
    stats = GuestStats(total_bytes=8 * GIB, available_bytes=2 * GIB)
    old = Entitlement(shares=81920, reservation_bytes=0)
    one = Guest(name="a", ceiling_bytes=8 * GIB, keep_bytes=8 * GIB, stats=stats, stats_age_s=0.0, knobs=old, mode=mode)
    state, asked = START, []
    for now in range(5):
        host = Host(total_bytes=64 * GIB, available_bytes=8 * GIB)
        state, plan = step(state, Snapshot(host=host, guests=(one,)), Limits(), float(now))
        asked.append(plan.guests[0].is_command)
        assert plan.next_s == Limits().interval_s
        assert state.busy_at < 0
    assert asked == [True] + [mode is Mode.ADVISE] * 4
