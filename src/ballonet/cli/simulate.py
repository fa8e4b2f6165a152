"""`ballonet simulate`: a scenario or a recorded demand on simulated guests."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from ballonet.cli.console import PolicyNames, Unguarded, Without, checked_policies, err, limits
from ballonet.cli.shown import judge, print_json, show, write
from ballonet.model.settings import SettingsError
from ballonet.scenarios.scenario import Scenario, load
from ballonet.scenarios.trace import load_trace
from ballonet.sim.run import run_arms
from ballonet.sim.speeds import SPEEDS


def simulate(
    scenario: Annotated[str, typer.Argument(help="A standard scenario (`ballonet lab list`), a .toml file, or a .csv trace.")],
    policy: PolicyNames = None,
    seed: Annotated[int, typer.Option(help="Of the scenario's variations. Same seed, same result, byte for byte.")] = 1,
    trace: Annotated[Path | None, typer.Option(help="CSV time_s,guest,used_bytes,cache_bytes: demand instead of phases.")] = None,
    host_share: Annotated[
        float | None, typer.Option(help="Host memory as a share of what guests are promised.", min=0.05, max=2)
    ] = None,
    scale: Annotated[int, typer.Option(help="Divide all sizes by this.", min=1)] = 1,
    speeds: Annotated[str, typer.Option(help="Of balloons and swap: kvm (real machines) or tcg (the lab's).")] = "kvm",
    without: Without = None,
    unguarded: Unguarded = False,
    json: Annotated[bool, typer.Option("--json", help="ballonet.result/1 on stdout instead of a table.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the JSON here too.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a chart here (.png, .svg).")] = None,
) -> None:
    """Simulate a scenario: the production loop and policies, a simulated host and guests, a clock that jumps.

    Exits 1 when the scenario's [expect] fails for `adaptive`. Nothing on this machine is touched.
    """
    policies = checked_policies(policy or ["adaptive"])
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
    if not (without or unguarded):
        judge(loaded, host_share, flight)


def _load(scenario: str, trace: Path | None) -> Scenario:
    if scenario.endswith(".csv"):
        return load_trace(Path(scenario))
    return load(scenario) if trace is None else load_trace(trace, load(scenario))
