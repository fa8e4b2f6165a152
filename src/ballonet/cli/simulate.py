"""`ballonet simulate`: a scenario or a recorded demand on simulated guests."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from ballonet.cli.choices import PolicyNames, Unguarded, Without, checked_policies, limits
from ballonet.cli.console import HostShare, Json, Output, Plot, Seed, err
from ballonet.cli.shown import judge, print_json, show, write
from ballonet.model.settings import SettingsError
from ballonet.scenarios.scenario import Scenario, load
from ballonet.scenarios.trace import load_trace
from ballonet.sim.run import STEERED_HOSTS, run_arms
from ballonet.sim.speeds import SPEEDS


def simulate(
    scenario: Annotated[str, typer.Argument(help="A standard scenario (`ballonet lab list`), a .toml file, or a .csv trace.")],
    policy: PolicyNames = None,
    seed: Seed = 1,
    trace: Annotated[Path | None, typer.Option(help="CSV time_s,guest,used_bytes,cache_bytes: demand instead of phases.")] = None,
    host_share: HostShare = None,
    scale: Annotated[int, typer.Option(help="Divide all sizes by this.", min=1)] = 1,
    speeds: Annotated[str, typer.Option(help="Of balloons and swap: kvm (real machines) or tcg (the lab's).")] = "kvm",
    without: Without = None,
    unguarded: Unguarded = False,
    json: Json = False,
    output: Output = None,
    plot: Plot = None,
) -> None:
    """Simulate a scenario: the production loop and policies, a simulated host and guests, a clock that jumps.

    Exits 1 when what the scenario expects of `adaptive` does not hold. Nothing on this machine is touched.
    """
    policies = checked_policies(policy or ["adaptive"], tuple(STEERED_HOSTS))
    if speeds not in SPEEDS:
        raise SettingsError(f"no speeds {speeds!r}; there are {', '.join(SPEEDS)}")
    loaded = _load(scenario, trace)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        bars = {name: progress.add_task(name, total=1.0) for name in ("clairvoyant", *policies)}
        flight = run_arms(
            loaded,
            policies,
            scale=scale,
            host_share=host_share,
            seed=seed,
            limits=limits(without, unguarded=unguarded),
            speeds=SPEEDS[speeds],
            on_progress=lambda name, share: progress.update(bars[name], completed=share),
        )
    write(flight, output, plot)
    if json:
        print_json(flight)
    else:
        show(flight)
        err.print(f"Simulated, at {speeds} speeds; regret is against an allocator that knows the future.")
    judge(loaded, host_share, flight)


def _load(scenario: str, trace: Path | None) -> Scenario:
    if scenario.endswith(".csv"):
        return load_trace(Path(scenario))
    return load(scenario) if trace is None else load_trace(trace, load(scenario))
