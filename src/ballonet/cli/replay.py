"""`ballonet replay`: any policy over what this host really saw."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec import Struct
from rich import box
from rich.progress import Progress
from rich.table import Table

from ballonet.cli.choices import PolicyNames, checked_policies
from ballonet.cli.console import ConfigPath, Json, Output, err, heading, out, write_json
from ballonet.cli.shown import show
from ballonet.cli.times import format_time, parse_time
from ballonet.daemon.config import PATH, Config, read_config
from ballonet.history import reader
from ballonet.history.demand import demand
from ballonet.history.replay import GuestReplay, Replay, replay
from ballonet.model.result import Result
from ballonet.model.settings import SettingsError
from ballonet.model.tick import Tick
from ballonet.model.units import format_size
from ballonet.report.flight import Flight
from ballonet.sim.run import run_arms

LEAST_TICKS = 10


class Report(Struct, kw_only=True):
    """`ballonet.replay/1`."""

    schema: str = "ballonet.replay/1"
    asked: list[Replay]
    """What each policy would have asked for, picture by picture."""
    simulated: tuple[Result, ...]
    """How guests with that demand would have fared: simulated."""


def replay_history(
    policy: PolicyNames = None,
    begin: Annotated[str, typer.Option("--from", help="From when on: 14:03, 2026-11-24 14:03, or 2h for two hours ago.")] = "1h",
    end: Annotated[str | None, typer.Option("--to", help="Until when; to the end without it.")] = None,
    file: Annotated[Path | None, typer.Option("--history", help="A history.db from elsewhere; this host's without it.")] = None,
    simulates: Annotated[
        bool, typer.Option("--simulate/--no-simulate", help="Also simulate how guests would have fared.")
    ] = True,
    config: ConfigPath = PATH,
    json: Json = False,
    output: Output = None,
) -> None:
    """Run any policy over what this host really saw, and say what would have been different.

    First: what the policy would have asked of each guest at each moment, and what the guest really kept. Then, simulated: how
    guests with the recorded demand would have fared. The recording cannot say how the real guests would have answered.
    Nothing is touched.

    Columns, as means over the time: kept, what the guest really kept; asked, what the policy would have asked it to keep; more
    and less, by how much that is above and below. "then" is what really happened; the column next to it is what would have:
    commands, seconds short of the least need.
    """
    policies = checked_policies(policy or ["adaptive"])
    read = read_config(config) if config.exists() else Config()
    path = file or Path(read.control.state) / "history.db"
    ticks = _ticks(path, parse_time(begin), parse_time(end) if end else 1e11)
    asked = [replay(ticks, name, read.limits()) for name in policies]
    simulated = _simulated(ticks, policies) if simulates else ()
    report = Report(asked=asked, simulated=simulated)
    if output:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        err.print(f"wrote {output}")
    if json:
        write_json(report)
        return
    for one in asked:
        _print(one)
    if simulated:
        show(Flight(records=(), results=simulated))
        err.print("Simulated, at kvm speeds, on the demand that was recorded.")


def _ticks(path: Path, begin: float, end: float) -> list[Tick]:
    ticks = list(reader.ticks(path, begin, end))
    if len(ticks) < LEAST_TICKS:
        raise SettingsError(f"{path} has {len(ticks)} pictures of that time; give an earlier --from")
    return ticks


def _simulated(ticks: Sequence[Tick], policies: Sequence[str]) -> tuple[Result, ...]:
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        bars = {name: progress.add_task(name, total=1.0) for name in ("clairvoyant", *policies)}
        return run_arms(
            demand(ticks), policies, on_progress=lambda name, share: progress.update(bars[name], completed=share)
        ).results


def _print(one: Replay) -> None:
    span = f"{format_time(one.begin)} to {format_time(one.end)}"
    out.print(f"{one.policy}, {span}: {one.ticks} pictures; {one.policy_then} decided then")
    out.print(_table(one))
    if one.budget_ticks:
        out.print(f"It would have promised more than there was in {one.budget_ticks} of {one.ticks} pictures.")


def _table(one: Replay) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("guest", "kept", "asked", "more", "less", "commands\nthen", "commands", "short\nthen", "short"):
        table.add_column(heading(name), justify="left" if name == "guest" else "right")
    for guest in one.guests.values():
        table.add_row(guest.name, *_cells(guest))
    return table


def _cells(guest: GuestReplay) -> list[str]:
    seconds = guest.seconds or 1.0
    means = (guest.kept_byte_s, guest.asked_byte_s, guest.more_byte_s, guest.less_byte_s)
    counts = [str(guest.commands_then), str(guest.commands), f"{guest.short_then_s:.0f} s", f"{guest.short_s:.0f} s"]
    return [*(format_size(one / seconds) for one in means), *counts]
