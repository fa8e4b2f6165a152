"""`ballonet bench`: policies compared on the same work."""

from functools import partial
from typing import Annotated, Final

import typer
from rich import box
from rich.progress import Progress, TaskID
from rich.table import Table

from ballonet.bench.density import Density, density
from ballonet.bench.work import COMPARED, Where, fly
from ballonet.cli.choices import PolicyNames, checked_arms, checked_policies
from ballonet.cli.console import HostShare, Json, Plot, Seed, err, heading, out, write_json
from ballonet.model.result import Result
from ballonet.model.settings import SettingsError
from ballonet.report.compare import draw_comparison
from ballonet.scenarios.scenario import load

bench = typer.Typer(help="Every policy on the same work, in the simulator or on real guests.", no_args_is_help=True)
DENSITY_WITHIN: Final = {"sim": 0.01, "lab": 0.03}
WhereOption = Annotated[str, typer.Option("--where", help="sim (real KVM speeds, full size) or lab (real guests, 1/32).")]


@bench.command("policies")
def bench_policies(
    scenarios: Annotated[list[str], typer.Argument(help="Standard scenarios or .toml files.")],
    policy: PolicyNames = None,
    where: WhereOption = "sim",
    seed: Seed = 1,
    host_share: HostShare = None,
    json: Json = False,
    plot: Plot = None,
) -> None:
    """Run every policy on the same scenarios and compare what their guests got done."""
    place, loaded = _where(where), [load(name) for name in scenarios]
    policies = (checked_policies if place == "sim" else checked_arms)(policy or COMPARED)
    results: list[Result] = []
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("", total=len(loaded))
        for scenario in loaded:
            flight = fly(place, scenario, policies, host_share, seed, partial(_tell, progress, bar))
            results += flight.results
            progress.advance(bar)
    if plot:
        draw_comparison(results, plot)
        err.print(f"wrote {plot}")
    if json:
        _print(results)
    else:
        out.print(_table(results))


@bench.command("density")
def bench_density(
    scenario: Annotated[str, typer.Argument(help="A standard scenario or a .toml file.")] = "consolidation",
    policy: PolicyNames = None,
    where: WhereOption = "sim",
    seed: Seed = 1,
    within: Annotated[
        float | None, typer.Option(help="Stop when the limit is known to this share. Default: 0.01; in the lab 0.03.")
    ] = None,
    json: Json = False,
) -> None:
    """Find the least host memory at which each policy still holds: mean >= 0.99 and worst guest >= 0.95."""
    place, loaded = _where(where), load(scenario)
    found: list[Density] = []
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        policies = checked_policies(policy or COMPARED)
        bar = progress.add_task("", total=len(policies))
        for name in policies:
            near = within or DENSITY_WITHIN[place]
            found.append(density(place, loaded, name, seed, near, partial(_tell, progress, bar)))
            progress.advance(bar)
    if json:
        _print(found)
        return
    table = Table(title=f"{loaded.name}: least host memory, of what is promised", box=box.SIMPLE_HEAD)
    for column in ("policy", "holds from", "fails at", "true peak need", "above it", "no balloon below"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for one in found:
        over = "-" if one.least_share is None else f"{one.least_share - one.peak_share:.1%}"
        least = "never" if one.least_share is None else f"{one.least_share:.0%}"
        table.add_row(one.policy, least, f"{one.fails_share:.0%}", f"{one.peak_share:.1%}", over, f"{one.moving_share:.1%}")
    out.print(table)


def _tell(progress: Progress, bar: TaskID, text: str) -> None:
    """Says what is being done now: next to the bar, or in a line of its own where nobody watches a terminal."""
    progress.update(bar, description=text)
    if not err.is_terminal:
        err.print(text)


def _where(where: str) -> Where:
    if where not in {"sim", "lab"}:
        raise SettingsError(f"no place {where!r}; there are sim and lab")
    return "sim" if where == "sim" else "lab"


def _print(values: list[Result] | list[Density]) -> None:
    write_json(values)


def _table(results: list[Result]) -> Table:
    table = Table(title=f"The same work under each policy ({results[0].where})", box=box.SIMPLE_HEAD)
    numbers = ("mean", "worst\nguest", "swap-ins", "OOM", "over\nbudget", "short", "reaction\np99", "turns", "requests", "regret")
    for name in ("scenario", "policy", *numbers):
        table.add_column(heading(name), justify="left" if name in {"scenario", "policy"} else "right", no_wrap=True)
    last = ""
    for one in results:
        s = one.summary
        reaction = "-" if s.reaction_p99_s is None else f"{s.reaction_p99_s:.1f} s"
        regret = "-" if s.regret_share is None else f"{s.regret_share:.1%}"
        shares = (f"{s.throughput_share:.3f}", f"{s.throughput_share_worst:.3f}")
        counts = (f"{s.swap_in_pages:,}", str(s.oom_kills), str(s.budget_violations), f"{s.shortage_s:.1f} s", reaction)
        name = one.scenario if one.scenario != last else ""
        table.add_row(name, one.policy, *shares, *counts, str(s.direction_changes), str(s.requests), regret, end_section=False)
        last = one.scenario
    return table
