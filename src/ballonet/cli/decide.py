"""`ballonet decide`: one decision from a file."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec.structs import replace
from rich import box
from rich.table import Table

from ballonet.cli.choices import Unguarded, Without, checked_policies, limits
from ballonet.cli.console import out, write_json
from ballonet.decide.state import State
from ballonet.decide.step import START, step
from ballonet.model.plan import Plan
from ballonet.model.settings import SettingsError, explain
from ballonet.model.snapshot import Snapshot
from ballonet.model.units import format_size
from ballonet.model.wire import read_snapshot


def decide(
    file: Annotated[str, typer.Argument(help="A ballonet.snapshot/1 file, or - for standard input.")],
    policy: Annotated[str, typer.Option(help="Who decides: adaptive, static, or a peer.")] = "adaptive",
    unguarded: Unguarded = False,
    without: Without = None,
    at: Annotated[float | None, typer.Option(help="Seconds on the clock of the state; default: 1 s after it was left.")] = None,
    text: Annotated[bool, typer.Option("--text", help="A table for people instead of JSON.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON (the default).")] = False,  # noqa: ARG001 so that scripts can say it
) -> None:
    """Decide once, from a ballonet.snapshot/1 file, and print the ballonet.plan/1: what each guest shall keep, and why.

    Nothing is touched. The plan carries a `state`; put it into the next snapshot and the policy goes on where it was.
    """
    checked_policies([policy])
    data, origin = _read(file)
    snapshot = read_snapshot(data, origin)
    state = _state(snapshot, origin)
    now = at if at is not None else 0.0 if state is START else state.decided_at + 1.0
    after, plan = step(state, snapshot, limits(without, unguarded=unguarded), now, policy)
    if text:
        out.print(_table(snapshot, plan))
    else:
        wire = plan.wire() | {"state": msgspec.to_builtins(replace(after, seats={}, limits=None))}
        write_json(wire)


def _read(file: str) -> tuple[bytes, str]:
    if file == "-":
        return sys.stdin.buffer.read(), "standard input"
    try:
        return Path(file).read_bytes(), file
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error


def _state(snapshot: Snapshot, origin: str) -> State:
    if snapshot.state is None:
        return START
    try:
        return msgspec.convert(snapshot.state, State)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{origin}: in `state`: {explain(str(error), State)}; leave it out to start anew") from error


def _table(snapshot: Snapshot, plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("guest", "keep", "target"):
        table.add_column(name, justify="left" if name == "guest" else "right", no_wrap=True)
    table.add_column("why")
    for guest, one in zip(snapshot.guests, plan.guests, strict=True):
        sizes = ("-" if size is None else format_size(size) for size in (guest.keep_bytes, one.keep_bytes))
        table.add_row(guest.name, *sizes, one.sentence)
    return table
