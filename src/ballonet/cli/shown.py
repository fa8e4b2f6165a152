"""Runs, shown: the table on stdout, results and charts in files, and what was not as expected."""

from pathlib import Path

import msgspec
import typer
from rich import box
from rich.table import Table

from ballonet.cli.console import UNMET, err, heading, out, write_json
from ballonet.model.result import Result
from ballonet.report.chart import draw
from ballonet.report.expect import unmet
from ballonet.report.flight import Flight
from ballonet.scenarios.scenario import Scenario


def write(flight: Flight, json: Path | None, plot: Path | None) -> None:
    """Writes `ballonet.result/1` and the chart, where they are asked for."""
    for result in flight.results if json else ():
        assert json is not None
        path = json if len(flight.results) == 1 else json.with_stem(f"{json.stem}-{result.policy}")
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        err.print(f"wrote {path}")
    if plot:
        draw(flight.records, flight.results, plot)
        err.print(f"wrote {plot}")


def print_json(flight: Flight) -> None:
    """One `ballonet.result/1`, or a list of them, on stdout."""
    results = flight.results[0] if len(flight.results) == 1 else flight.results
    write_json(results)


def show(flight: Flight) -> None:
    """The table."""
    out.print(_table(flight.results))


def judge(scenario: Scenario, host_share: float | None, flight: Flight) -> None:
    """Says what is not as the scenario expects of `adaptive`, and exits with UNMET then."""
    failed = [line for one in flight.results if one.policy == "adaptive" for line in unmet(scenario, host_share, one)]
    for line in failed:
        err.print(f"not as expected: {line}")
    if failed:
        raise typer.Exit(UNMET)


def _table(results: tuple[Result, ...]) -> Table:
    title = f"{results[0].scenario}: work done against fully backed guests"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    has_regret = any(one.summary.regret_share is not None for one in results)  # only the simulator knows the best that can be
    numbers = ["mean", "worst\nguest", "slowest\n1 %", "swap-\nins", "OOM", "over\nbudget", "below\nfloor", "short", "peak"]
    for name in ("policy", *numbers, *(["regret"] if has_regret else [])):
        table.add_column(heading(name), justify="left" if name == "policy" else "right", no_wrap=True)
    for one in results:
        s = one.summary
        counts = (s.swap_in_pages, s.oom_kills, s.budget_violations, s.floor_violations)
        peak = f"{one.host.peak_used_bytes / one.host.promised_bytes:.0%}"
        regret = "-" if s.regret_share is None else f"{s.regret_share:.1%}"
        slowest = max((guest.latency_p99_s for guest in one.guests), default=0.0)
        shares = (f"{s.throughput_share:.3f}", f"{s.throughput_share_worst:.3f}", f"{slowest:g} s")
        table.add_row(one.policy, *shares, *map(str, counts), f"{s.shortage_s:.1f} s", peak, *([regret] if has_regret else []))
    return table
