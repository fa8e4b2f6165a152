"""A recorded demand as a scenario."""

from pathlib import Path

from msgspec.structs import replace

from ballonet.model.settings import Size
from ballonet.model.tick import Tick
from ballonet.scenarios.scenario import HostPart
from ballonet.scenarios.trace import load_trace
from ballonet.sim.run import order, run_arm
from ballonet.sim.world import SimWorld

GIB = 1 << 30


def test_each_row_of_page_cache_counts(tmp_path: Path) -> None:
    """It grows from 1 to 3 GiB in the middle, and is 2 GiB at the end: so it is in the guest's memory."""
    path = tmp_path / "t.csv"
    rows = [(0, 2, 1), (20, 2, 1), (40, 2, 3), (60, 2, 3), (80, 2, 2), (100, 2, 2)]
    lines = [f"{at},a,{used * GIB},{cache * GIB}" for at, used, cache in rows]
    path.write_text("time_s,guest,used_bytes,cache_bytes\n" + "\n".join(lines) + "\n")
    scenario = load_trace(path)
    scenario = replace(scenario, host=HostPart(memory=Size(8 * GIB)))
    assert [(one.at_s, one.cache) for one in scenario.guests[0].phases if one.cache is not None] == [(40, 3 * GIB), (80, 2 * GIB)]
    seen = dict[int, float]()

    def on_tick(at: float, _tick: Tick, world: SimWorld) -> None:
        seen[int(at)] = world.by_name["a"].cache * (1 << 20) / GIB

    run_arm(order(scenario, seed=1, policy="static"), on_tick=on_tick)
    assert [round(seen[at]) for at in (30, 50, 90)] == [1, 3, 2]
