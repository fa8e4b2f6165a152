"""Commands that the running daemon answers: `explain`, `set`, `hold`, `release`, `mode`, `history`."""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich import box
from rich.table import Table

from ballonet.cli.console import UNMET, ConfigPath, Json, Plot, err, out, tell, tell_age, write_json
from ballonet.cli.terms import option_of, with_terms
from ballonet.cli.times import format_time, parse_span, parse_time
from ballonet.control.client import Client
from ballonet.control.messages import HoldOrder, ModeOrder, Orders
from ballonet.control.orders import in_words, is_over
from ballonet.control.routes import (
    EXPLANATION,
    HISTORY,
    HOLD,
    HOLD_ALL,
    HOST_SAMPLES,
    MODE,
    ORDERS,
    RELEASE,
    RELEASE_ALL,
    SAMPLES,
    SET,
    STATUS,
)
from ballonet.daemon.config import PATH, ControlConfig, read_config, socket_as_said
from ballonet.model.settings import SettingsError
from ballonet.model.settings import explain as explain_error
from ballonet.model.snapshot import Mode
from ballonet.model.terms import FIELDS, read_term, sentence
from ballonet.model.text import typed
from ballonet.model.units import format_size
from ballonet.report.past import draw_past
from ballonet.status.errors import ControlError
from ballonet.status.words import Change, HostSample, Sample


def names_like(incomplete: str) -> list[str]:
    """Guests' names for the shell's completion; none where no daemon answers."""
    with (
        contextlib.suppress(ControlError, SettingsError, OSError),
        client(Path(os.environ.get("BALLONET_CONFIG", PATH))) as daemon,
    ):
        return [one.name for one in daemon.ask(STATUS).guests if one.name.startswith(incomplete)]
    return []


Vm = Annotated[str, typer.Argument(help="A guest's name, as `ballonet status` shows it.", autocompletion=names_like)]
VmOrAll = Annotated[str | None, typer.Argument(help="A guest's name; without one, all guests.", autocompletion=names_like)]
Since = Annotated[str, typer.Option(help="From when on: 14:03, 2026-11-24 14:03, or 2h for two hours ago.")]
Until = Annotated[str | None, typer.Option(help="Until when; now without it.")]
OR_ALL = "; leave it out to mean all guests"
DEFAULT = "default"
"""What takes an order back."""


@functools.cache
def socket_of(config: Path) -> Path:
    """Where the daemon of a configuration listens. One that is wrong by now stops nobody from asking the daemon that runs."""
    if not os.access(config, os.F_OK):
        if config != PATH:  # another daemon is not the one that was meant
            raise SettingsError(
                f"no configuration at {config}, which -c or BALLONET_CONFIG names (that of `ballonet try` ends with it);"
                " correct that, or `ballonet init` writes one"
            )
        return Path(ControlConfig().socket)
    try:
        return Path(read_config(config).control.socket)
    except SettingsError as error:
        found = socket_as_said(config)
        tell(f"{error}; a daemon that runs goes on with the last good one: asking at {found}")
        return found


@contextlib.contextmanager
def client(config: Path) -> Iterator[Client]:
    """A connection to the daemon. What is asked over it raises ControlError."""
    one = Client(socket_of(config))
    try:
        yield one
    finally:
        one.close()


def explain(
    vm: Vm,
    at: Annotated[
        str | None, typer.Option(help="A time of the past: 14:03, 2026-11-24 14:03:05, or 10m for ten minutes ago.")
    ] = None,
    config: ConfigPath = PATH,
    json: Json = False,
) -> None:
    """Say why a guest keeps what it keeps: the numbers, how the host stands, and what would change it."""
    named(vm)
    with client(config) as daemon:
        told = daemon.ask(EXPLANATION, vm, at=None if at is None else parse_time(at))
    if json:
        write_json(told)
        return
    when = f" (at {format_time(told.at)})" if told.is_past else ""
    out.print(f"{told.sentence}{when}")
    out.print()
    table = Table(box=None, show_header=False, pad_edge=False)
    for fact in told.facts:
        table.add_row(fact.what, fact.value)
    out.print(table)
    out.print()
    out.print(told.host)
    out.print()
    out.print("What would change it:")
    for change in told.changes:
        out.print(f"- {change}")
    if not told.is_past:
        tell_age(told.at)


def named(vm: str | None, rest: str = "") -> str:
    """A guest's name; "" = all of them. An empty word is neither: a script's variable is not set."""
    if vm is not None and not vm.strip():
        raise SettingsError(f"{vm!r} is no guest's name{rest}")
    return vm or ""


@with_terms
def set_guest(vm: Vm, config: ConfigPath = PATH, json: Json = False, **terms: str | None) -> None:
    """Set something of one guest, from now on and after restarts; `--floor default` takes the floor's order back."""
    named(vm)
    said = {name: text for name, text in terms.items() if text is not None}
    if not said:
        raise SettingsError(f"nothing to set: give {' or '.join(map(option_of, FIELDS))}")
    order = {name: None if text == DEFAULT else read_term(name, text, option_of(name)) for name, text in said.items()}
    with client(config) as daemon:
        _told(daemon.ask(SET, vm, body=order), f"{vm}: set", json=json)


def _mode(text: str) -> Mode | None:
    if text == DEFAULT:
        return None
    try:
        return Mode(text)
    except ValueError as error:
        raise SettingsError(f"no mode {text!r}; there are observe, advise, act, and default for the configuration's") from error


def hold_order(span: str | None, why: str, *, deflates: bool = False) -> HoldOrder:
    """From what options say. Raises SettingsError that names the option."""
    said = {"for_s": None if span is None else parse_span(span), "why": why, "deflates": deflates}
    try:
        return msgspec.convert(said, HoldOrder)
    except msgspec.ValidationError as error:
        place, _, what = explain_error(str(error), HoldOrder).removeprefix("at `").partition("`: ")
        raise SettingsError(f"--for {span}: {what} seconds" if place == "for_s" else f"--{place}: {what}") from error


def hold(
    vm: VmOrAll = None,
    span: Annotated[str | None, typer.Option("--for", help="For how long: 30m, 2h; until `ballonet release` without it.")] = None,
    why: Annotated[str, typer.Option(help="The reason, for others to read.")] = "",
    config: ConfigPath = PATH,
    json: Json = False,
) -> None:
    """Move nothing of a guest, or of any: everything stays as it is, and is watched. Holds outlive restarts."""
    vm = named(vm, OR_ALL)
    order = hold_order(span, why)
    with client(config) as daemon:
        told = daemon.ask(HOLD if vm else HOLD_ALL, vm, body=order)
    rest = f" for {span}" if span else ""
    _told(told, f"{vm or 'every guest'} is on hold{rest}; to let it go: {typed('release', vm)}", json=json)


def release(vm: VmOrAll = None, config: ConfigPath = PATH, json: Json = False) -> None:
    """Let a guest that is on hold go again; without a name, all of them."""
    vm = named(vm, OR_ALL)
    with client(config) as daemon:
        told = daemon.ask(RELEASE if vm else RELEASE_ALL, vm)
    _told(told, f"{vm or 'every guest'} is let go" + ("; all are on hold still" if vm and told.hold else ""), json=json)


def mode(
    wanted: Annotated[str, typer.Argument(metavar="[MODE]", help="observe, advise, act, or default; shown without one.")] = "",
    config: ConfigPath = PATH,
    json: Json = False,
) -> None:
    """Show or set what ballonet does on this host: `observe` watches, `advise` plans and does nothing, `act` does.

    It outlives restarts; `default` goes back to the configuration's. Guests have modes too: `ballonet set VM --mode observe`.
    """
    with client(config) as daemon:
        if wanted:
            daemon.ask(MODE, body=ModeOrder(mode=_mode(wanted)))
        status = daemon.ask(STATUS)
        orders = daemon.ask(ORDERS)
    if json:
        write_json({"mode": status.host.mode, "ordered": orders.mode, "hold": status.host.hold})
    else:
        whose = "as ordered" if orders.mode else "as configured"
        out.print(f"{status.host.mode.value}, {whose}" + (f"; {status.host.hold}" if status.host.hold else ""))


def orders(config: ConfigPath = PATH, json: Json = False) -> None:
    """List what was ordered and stands: the mode, holds, what was set of guests, each with what takes it back."""
    with client(config) as daemon:
        found, status = daemon.ask(ORDERS), daemon.ask(STATUS)
    if json:
        write_json(found)
        return
    lines = list(_ordered(found, {guest.uuid: guest.name for guest in status.guests if guest.uuid}))
    for line in lines or ["nothing is ordered: all is as configured"]:
        out.print(line)


def _ordered(found: Orders, names: dict[str, str]) -> Iterator[str]:
    """Each order, and what takes it back."""
    now = time.time()
    if found.mode:
        yield f"mode {found.mode.value}; as configured again: ballonet mode default"
    for key, hold in [*([("", found.hold)] if found.hold else []), *sorted(found.holds.items())]:
        name = names.get(key) or found.names.get(key, key)
        if is_over(hold, now):
            continue
        yield f"{name or 'all guests'}: {in_words(hold, now, typed('release', name))}"
    for key, order in sorted(found.guests.items()):
        name = names.get(key) or found.names.get(key, key)
        options = " ".join(f"{option_of(one)} default" for one in order.said())
        yield f"{name}: {sentence(order.said())}; as configured again: {typed('set', name, options)}"


def top(config: ConfigPath = PATH, json: Json = False) -> None:
    """Watch the host and its guests live; hold, release and explain them by a key. With --json, a status a line until Ctrl-C."""
    if json:
        with client(config) as daemon:
            for status in daemon.live():
                sys.stdout.write(msgspec.json.encode(status).decode() + "\n")
                sys.stdout.flush()
        return
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise SettingsError("top needs a terminal; `ballonet top --json` writes a status a line, `ballonet status` one table")
    try:
        from ballonet.tui.top import Top  # noqa: PLC0415 only where it is installed
    except ImportError as error:
        raise SettingsError(f"top needs textual: pip install 'ballonet[tui]' ({error})") from error
    with client(config) as daemon:
        daemon.ask(ORDERS)  # whether one is there, before the screen is taken
        Top(daemon).run()


def history(
    vm: VmOrAll = None,
    since: Since = "1h",
    until: Until = None,
    samples: Annotated[
        bool,
        typer.Option("--samples", help="What the guest kept, used and needed, evenly over the time; without a guest the host's."),
    ] = False,
    limit: Annotated[int, typer.Option(help="At most this many rows; of decisions the newest.", min=1, max=100_000)] = 1000,
    plot: Plot = None,
    config: ConfigPath = PATH,
    json: Json = False,
) -> None:
    """Show what was decided, when, and why; or, with --samples, what a guest kept, used and needed, also as a chart."""
    vm = named(vm, OR_ALL)
    samples = samples or plot is not None
    span: dict[str, Any] = {"since": parse_time(since), "until": None if until is None else parse_time(until), "limit": limit}
    if span["until"] is not None and span["until"] < span["since"]:
        raise SettingsError(f"--until {until} is before --since {since}; give the earlier time to --since")
    if plot and not vm:
        raise SettingsError("a chart is of one guest: ballonet history VM --plot FILE")
    with client(config) as daemon:
        rows: list[Sample] | list[HostSample] | list[Change]
        if samples and vm:
            rows = daemon.ask(SAMPLES, vm, **span)
        elif samples:
            rows = daemon.ask(HOST_SAMPLES, **span)
        else:
            rows = daemon.ask(HISTORY, guest=vm or None, **span)
    if plot and rows:
        draw_past(rows, plot)  # type: ignore[arg-type]  # samples, as asked for above
        err.print(f"wrote {plot}")
    if json:
        write_json(rows)
    elif rows and not plot:
        out.print(_table(rows))
    elif not rows:
        err.print("nothing in that time" + (f" of a guest {vm!r}" if vm else ""))
        if vm:
            raise typer.Exit(UNMET)


def _table(rows: list[Sample] | list[HostSample] | list[Change]) -> Table:
    if isinstance(rows[0], Change):
        return _changes(rows)
    return _samples(rows) if isinstance(rows[0], Sample) else _host_samples(rows)


def _host_samples(rows: list[HostSample]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("when", "available", "for guests", "keep", "use", "need", "short", "guests", "state"):
        table.add_column(name, justify="left" if name in {"when", "state"} else "right")
    for row in rows:
        sizes = (row.available_bytes, row.guests_bytes, row.keep_bytes, row.used_bytes, row.need_bytes, row.short_bytes)
        table.add_row(format_time(row.at), *map(format_size, sizes), str(row.guests), row.state)
    return table


def _changes(rows: list[Change]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("when", "guest", "done", "what and why"):
        table.add_column(name)
    for row in rows:
        table.add_row(format_time(row.at), row.guest or "host", row.done, row.sentence + (f" ({row.by})" if row.by else ""))
    return table


def _samples(rows: list[Sample]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("when", "keep", "resident", "used", "need", "reason"):
        table.add_column(name, justify="left" if name in {"when", "reason"} else "right")
    for row in rows:
        sizes = (row.keep_bytes, row.resident_bytes, row.used_bytes, row.need_bytes)
        table.add_row(format_time(row.at), *("-" if size is None else format_size(size) for size in sizes), row.reason)
    return table


def _told(orders: Orders, sentence: str, *, json: bool) -> None:
    if json:
        write_json(orders)
    else:
        out.print(sentence)
        for note in orders.notes:
            out.print(f"- {note}")
