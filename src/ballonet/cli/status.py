"""`ballonet status`: the host and its guests, as the daemon sees them, or as one look shows them where none runs."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from msgspec.structs import replace
from rich import box
from rich.table import Table

from ballonet.cli.console import UNMET, ConfigPath, Json, err, out, tell_age, write_json
from ballonet.cli.daemon import client, socket_of
from ballonet.cli.room import rooms_table
from ballonet.control.client import NoDaemonError
from ballonet.control.orders import OrderBook, is_over
from ballonet.control.orders import held as in_words
from ballonet.control.routes import STATUS
from ballonet.daemon.config import PATH, read_config
from ballonet.model.room import some
from ballonet.model.settings import SettingsError
from ballonet.model.units import format_size
from ballonet.status.explain import STATES, begun, theirs_text
from ballonet.status.tell import status_of
from ballonet.status.words import BOUND, GuestStatus, Status

SHORTLY: Final = ("balloon", "ballooned", "swapped", "compressed", "active", "demand", "pressure", "status", "limit")
"""Of what such loops say, what `status` shows; what is nothing is left out."""


ONLY: Final[dict[str, Callable[[GuestStatus], bool]]] = {
    "short": lambda guest: guest.short_bytes > 0,
    "alone": lambda guest: bool(guest.leave_alone),
    "acting": lambda guest: guest.is_command,
    "bound": lambda guest: guest.is_bound,
    "trouble": lambda guest: bool(guest.trouble),
}
"""What `--only` knows."""
ONLY_HELP: Final = (
    "Only guests that are: short (of what they need), alone (left alone: nothing is sent to them), acting (a balloon is to "
    "move), bound (by a ceiling that was set), trouble (a command failed)."
)
SORTS: Final[dict[str, Callable[[GuestStatus], tuple[float, str]]]] = {
    "name": lambda guest: (0, guest.name),
    "need": lambda guest: (-(guest.need_bytes or 0), guest.name),
    "short": lambda guest: (-guest.short_bytes, guest.name),
    "keep": lambda guest: (-(guest.keep_bytes or 0), guest.name),
}
"""What `--sort` knows: the largest first, but for names."""
LATE_S: Final = 5.0
"""A tick may be late by this, besides some of its intervals, before its figures are called old."""
SIZES: Final = ("ceiling", "keep", "resident", "used", "need")
"""Columns of sizes, as docs/glossary.md has them."""
LEGEND: Final = (
    "ceiling: the most it may have; keep: what its balloon leaves it; resident: what it occupies of the host's memory; "
    "used: what it could not free; need: used, and a margin; voice: who tells the numbers"
)
SLIM_COLUMNS: Final = 60
"""Narrower still: only what is asked most."""
WIDE_COLUMNS: Final = 120
"""Narrower terminals get one word why; the sentences would take twelve lines a guest."""


def status(
    why: Annotated[bool, typer.Option("--why", help="The reason as a sentence, however narrow the terminal.")] = False,
    only: Annotated[str | None, typer.Option(help=ONLY_HELP)] = None,
    sort: Annotated[str | None, typer.Option(help=f"By {', '.join(SORTS)}; as the daemon has them without it.")] = None,
    config: ConfigPath = PATH,
    json: Json = False,
) -> None:
    """Show the host and each guest: its ceiling, what its balloon leaves it (keep), what it uses and needs, and why.

    Asks the daemon; where none runs, takes one look by itself, and touches nothing. Exits 1 when there is no guest.
    """
    for word, known, option in ((only, ONLY, "--only"), (sort, SORTS, "--sort")):
        if word is not None and word not in known:
            raise SettingsError(f"{option}: no {word!r}; there are {', '.join(known)}")
    found = status_from(config)
    guests = [guest for guest in found.guests if only is None or ONLY[only](guest)]
    if sort is not None:
        guests.sort(key=SORTS[sort])
    if json:
        write_json(replace(found, guests=tuple(guests)))
    else:
        if guests:
            is_wide = why or out.width >= WIDE_COLUMNS
            out.print(table(guests, is_wide=is_wide))
            if is_wide:
                out.print(LEGEND, style="dim")
        elif found.guests:
            out.print(f"none of {len(found.guests)} guests is: {only}")
        if kept := [one for one in found.rooms if not one.state.is_over]:
            out.print(rooms_table(kept))
        out.print(summary(found))
    tell_age(found.host.at, LATE_S + 3 * found.host.next_s)
    if not found.guests:
        err.print("no guest answers; `ballonet doctor` says more")
        raise typer.Exit(UNMET)


def status_from(config: Path) -> Status:
    """From the daemon, or from a look of our own. Raises ControlError, SettingsError."""
    try:
        if socket_of(config).exists():
            with client(config) as daemon:
                return daemon.ask(STATUS)
    except NoDaemonError as error:
        err.print(f"{error}; looking without one")
    else:
        err.print("no daemon runs; looking without one")
    from ballonet.cli.look import look  # noqa: PLC0415 adapters take a while to load, and most ask a daemon

    read, now = read_config(config), time.time()
    orders = OrderBook(Path(read.control.state) / "orders.json").peek()
    mode = orders.mode or read.loop.mode
    held = [orders.names.get(key, key) for key, hold in orders.holds.items() if not is_over(hold, now)]
    err.print(
        f"nothing is moved meanwhile; mode {mode.value} is {'ordered' if orders.mode else 'configured'} for when one runs"
        + (f", on hold then: {', '.join(sorted(held))}" if held else "")
    )
    return status_of(asyncio.run(look(read))[0], at=time.time(), mode=mode, hold=in_words(orders, None, now))


def summary(found: Status) -> str:
    """The host in two sentences."""
    host = found.host
    sizes = [format_size(size) for size in (host.promised_bytes, host.guests_bytes, host.available_bytes)]
    hold = f" All guests are {host.hold}." if host.hold else ""
    hold += f" Its own loop says: {host.theirs}." if host.theirs else ""
    if pending := [f"{one.name} ({one.state.value})" for one in found.rooms if one.state.is_pending]:
        hold += f" Room is asked for: {some(pending)}."
    state = f"host {host.state} ({STATES[host.state]})"
    return (
        f"Mode {host.mode.value}, policy {host.policy}, {state}: it has {sizes[1]} for its guests, of which they may take"
        f" {sizes[0]} without asking; {sizes[2]} are available. {begun(host.sentence)}.{hold}"
    )


def table(guests: Sequence[GuestStatus], *, is_wide: bool = True) -> Table:
    """The guests; where the hypervisor has a loop of its own, also what that does with them."""
    return _wide(guests) if is_wide else _narrow(guests, is_slim=out.width < SLIM_COLUMNS)


def _narrow(guests: Sequence[GuestStatus], *, is_slim: bool) -> Table:
    """A line a guest on 80 columns, or on 40: what matters most, and one word why."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    slim = ("guest", "keep", "need", "why")
    for name in slim if is_slim else ("guest", "ceiling", "keep", "used", "need", "mode", "why"):
        is_number = name in SIZES
        shown.add_column(name, justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis")
    for guest in guests:
        sizes = (guest.ceiling_bytes, guest.keep_bytes, guest.used_bytes, guest.need_bytes)
        told = ["-" if size is None else format_size(size) for size in (sizes[1::2] if is_slim else sizes)]
        short = f" {format_size(guest.short_bytes)}" if guest.short_bytes else ""
        shown.add_row(
            guest.name,
            *told,
            *(() if is_slim else (guest.mode.value,)),
            "trouble" if guest.trouble else BOUND if guest.is_bound else f"{guest.reason}{short}",
        )
    return shown


def _wide(guests: Sequence[GuestStatus]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD)
    has_theirs = any(guest.theirs for guest in guests)
    own = ["its own loop"] if has_theirs else []
    for name in ("guest", *SIZES, "mode", "voice", *own, "why"):
        shown.add_column(name, justify="right" if name in SIZES else "left")
    for guest in guests:
        *most, why = cells(guest)
        shown.add_row(*most, *([theirs(guest)] if has_theirs else []), why)
    return shown


def theirs(guest: GuestStatus) -> str:
    """What its hypervisor's own loop does with a guest, in short; `ballonet explain` has the rest."""
    told = {name: theirs_text(name, guest.theirs[name]) for name in SHORTLY if guest.theirs.get(name)}
    return ", ".join(f"{name} {text}" for name, text in told.items()) or "-"


def cells(guest: GuestStatus) -> list[str]:
    """A guest's row."""
    sizes = (guest.ceiling_bytes, guest.keep_bytes, guest.resident_bytes, guest.used_bytes, guest.need_bytes)
    told = ["-" if size is None else format_size(size) for size in sizes]
    bound = f"{BOUND} ({format_size(guest.given_bytes or 0)} given): " if guest.is_bound else ""
    return [guest.name, *told, guest.mode.value, guest.voice, guest.trouble or bound + guest.sentence]
