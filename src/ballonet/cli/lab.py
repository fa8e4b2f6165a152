"""`ballonet lab` and `ballonet demo`: scenarios on real guests."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from ballonet.cli.choices import PolicyNames, Unguarded, Without, checked_arms, limits
from ballonet.cli.console import HostShare, Json, Output, Plot, Seed, err, out
from ballonet.cli.shown import judge, print_json, show, write
from ballonet.lab.arm import Progress
from ballonet.lab.run import run_arms
from ballonet.model.limits import Limits
from ballonet.report.flight import Flight
from ballonet.scenarios.scenario import Scenario, load, standard_names
from ballonet.tui.board import Board

lab = typer.Typer(help="Real QEMU guests on this machine, under the same control loop.", no_args_is_help=True)


@lab.command("list")
def list_scenarios() -> None:
    """List the scenarios that come with ballonet."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name in standard_names():
        table.add_row(name, load(name).about)
    out.print(table)


@lab.command("run")
def lab_run(
    scenario: Annotated[str, typer.Argument(help="A standard scenario (`ballonet lab list`) or a .toml file.")],
    policy: PolicyNames = None,
    scale: Annotated[int, typer.Option(help="Divide all sizes by this.", min=1)] = 32,
    host_share: HostShare = None,
    seed: Seed = 1,
    without: Without = None,
    unguarded: Unguarded = False,
    json: Json = False,
    output: Output = None,
    plot: Plot = None,
) -> None:
    """Run a scenario on real QEMU guests and show what it did to them.

    Exits 1 when what the scenario expects of `adaptive` does not hold. The host keeps its memory and its settings.
    """
    policies = checked_arms(policy or ["adaptive"])
    loaded = load(scenario)
    flight = _fly(loaded, policies, scale, host_share, seed, limits(without, unguarded=unguarded))
    write(flight, output, plot)
    _finish(loaded, host_share, flight, json=json)


def demo(results: Annotated[Path, typer.Option(help="Folder for results and chart.")] = Path("results")) -> None:
    """Show ballonet at work: ten guests of 512 MiB on 3,840 MiB, fully backed, in equal parts, and ballooned."""
    results.mkdir(parents=True, exist_ok=True)
    loaded = load("consolidation")
    flight = _fly(loaded, ["ideal", "static", "adaptive"], 32, None, 1, Limits())
    write(flight, results / "consolidation.json", results / "consolidation.png")
    _finish(loaded, None, flight)


def _fly(scenario: Scenario, policies: list[str], scale: int, host_share: float | None, seed: int, limits: Limits) -> Flight:
    view = Board(scenario, policies)

    def progress(policy: str) -> Progress:
        def on_stage(text: str) -> None:
            view.stage(policy, text)
            if not err.is_terminal:
                err.print(view.headline)

        return Progress(on_stage, view.tick)

    with Live(get_renderable=lambda: view, console=err, refresh_per_second=4, transient=True):
        arms = run_arms(scenario, policies, scale=scale, host_share=host_share, seed=seed, progress=progress, limits=limits)
        return asyncio.run(arms)


def _finish(scenario: Scenario, host_share: float | None, flight: Flight, *, json: bool = False) -> None:
    if json:
        print_json(flight)
    else:
        show(flight)
    first = flight.results[0]
    budget = "also enforced by the kernel" if flight.results[-1].kernel_enforced else "not enforced by the kernel"
    err.print(f"Real QEMU guests under {first.accelerator}; the budget is measured from their RAM, {budget}.")
    judge(scenario, host_share, flight)
