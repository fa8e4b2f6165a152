"""`ballonet room`: memory for a VM that is about to start, gathered before it does."""

import contextlib
import time
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich import box
from rich.table import Table

from ballonet.cli.console import UNAVAILABLE, UNMET, ConfigPath, Json, err, out, write_json
from ballonet.cli.daemon import client
from ballonet.cli.times import parse_span
from ballonet.control.client import NoDaemonError
from ballonet.control.messages import RoomOrder
from ballonet.control.routes import ASK_ROOM, CANCEL_ROOM, LONGEST_NAME, ROOMS
from ballonet.daemon.config import PATH
from ballonet.model.room import RoomState
from ballonet.model.settings import SettingsError
from ballonet.model.units import format_size, parse_size, span_words
from ballonet.status.errors import ControlError
from ballonet.status.words import RoomStatus

GATHERING: Final = 4
"""Exit code: it is not there yet, and stands until it expires."""
INTERRUPTED: Final = 130
"""The same of a shell's commands that Ctrl-C ended."""
WATCHED: Final = frozenset({"room-mode", "room-watched"})
"""Why, on a host on which nothing is moved."""
OPEN: Final = frozenset({RoomState.ASKED, RoomState.QUEUED, RoomState.GATHERING})
EXPIRES_S: Final = 120.0
AGAIN_S: Final = 1.0
"""After which a daemon that did not answer is asked again."""


def room(
    size: Annotated[str | None, typer.Argument(metavar="[SIZE]", help="16GiB; the rooms that there are without one.")] = None,
    name: Annotated[str | None, typer.Option("--for", metavar="VM", help="Which VM is to start: its name, or its UUID.")] = None,
    least: Annotated[
        str | None, typer.Option("--at-least", metavar="SIZE", help="Take less than SIZE too, down to this.")
    ] = None,
    wait: Annotated[str | None, typer.Option(metavar="SPAN", help="Wait this long: 30s, 5m; it may queue meanwhile.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="SPAN", help="How long it is kept, once it is ready; 120s.")] = None,
    cancel: Annotated[str | None, typer.Option(metavar="VM", help="Take the room for this VM back.")] = None,
    config: ConfigPath = PATH,
    json: Json = False,
) -> None:
    """Have guests give memory for a VM that is about to start, and keep it until it does: `ballonet room 16GiB --for web-3`.

    No guest gives what it needs for it, and whether it can be had is known before anything moves. The VM that appears under that
    name or UUID takes it. Asked again, it is the same room. To start when it is there:
    `ballonet room 16GiB --for web-3 --wait 60s && virsh start web-3`.

    Exits 0 when it is ready, 1 when it cannot be had (and says what would help), 3 when no daemon runs here or the host only
    watches, 4 when it is still being gathered.
    """
    try:
        if cancel is not None:
            _cancel(cancel, size, config, json=json)
        elif any(one is not None for one in (size, name, least, wait, expires)):
            _ask(name or "", _order(size or "", name or "", least, wait, expires), config, json=json)
        else:
            with client(config) as daemon:
                _show(daemon.ask(ROOMS), json=json)
    except NoDaemonError as error:
        err.print(str(error))
        raise typer.Exit(UNAVAILABLE) from error


def _order(size: str, name: str, least: str | None, wait: str | None, expires: str | None) -> RoomOrder:
    if not size or not name:
        raise SettingsError("which VM, and how much? `ballonet room 16GiB --for web-3`")
    if len(name) > LONGEST_NAME:
        raise SettingsError(f"--for: a name has at most {LONGEST_NAME} characters")
    asked, at_least = (_size(text, option) for text, option in ((size, "SIZE"), (least or size, "--at-least")))
    if at_least > asked:
        raise SettingsError(f"--at-least: {least} is more than the {size} asked for")
    waits_s, expires_s = parse_span(wait) if wait else 0.0, parse_span(expires) if expires else EXPIRES_S
    for option, span in (("--wait", waits_s), ("--expires", expires_s)):
        if span > 86_400:  # noqa: PLR2004 a day, as the API has it
            raise SettingsError(f"{option}: give at most a day")
    if expires_s <= 0:
        raise SettingsError("--expires: give more than 0 s")
    return RoomOrder(bytes=asked, least_bytes=at_least, wait_s=waits_s, expires_s=expires_s)


def _size(text: str, option: str) -> int:
    try:
        size = parse_size(text)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from error
    if not 0 < size <= 1 << 50:
        raise SettingsError(f"{option}: {text} is no size of a VM; give it like 16GiB")
    return size


def _ask(name: str, order: RoomOrder, config: ConfigPath, *, json: bool) -> None:
    """Asks, and asks again until it is there or the time is over: one answer comes within half a minute. An operator who stops
    waiting takes it back.
    """
    try:
        found = _waited(name, order, config, is_told=not json)
    except KeyboardInterrupt:
        with contextlib.suppress(ControlError), client(config) as daemon:
            err.print(daemon.ask(CANCEL_ROOM, name).sentence)
        raise typer.Exit(INTERRUPTED) from None
    if json:
        write_json(found)
    else:
        _tell(found)
    if found.reason in WATCHED:
        raise typer.Exit(UNAVAILABLE)
    if found.state.is_over:
        raise typer.Exit(UNMET)
    if found.state in OPEN:
        raise typer.Exit(GATHERING)


def _waited(name: str, order: RoomOrder, config: ConfigPath, *, is_told: bool) -> RoomStatus:
    """The last answer. A daemon that is started anew meanwhile knows its rooms, and is asked again. Raises ControlError."""
    end, told = time.monotonic() + order.wait_s, ""
    while True:
        left_s = max(0.0, end - time.monotonic())
        asked = RoomOrder(bytes=order.bytes, least_bytes=order.least_bytes, wait_s=left_s, expires_s=order.expires_s)
        try:
            with client(config) as daemon:
                found = daemon.ask(ASK_ROOM, name, body=asked)
        except ControlError:
            if not told or end <= time.monotonic():
                raise
            time.sleep(min(AGAIN_S, max(0.0, end - time.monotonic())))
            continue
        if found.state not in OPEN or end <= time.monotonic():
            return found
        if found.sentence != told and is_told:
            err.print(found.sentence)
        told = found.sentence


def _tell(found: RoomStatus) -> None:
    if found.state.is_over:
        err.print(found.sentence)
        for one in found.helps:
            err.print(f"- {one}")
        return
    rest = span_words(max(0.0, found.expires_at - time.time())) if found.state.is_pending else ""
    eta = f"; about {span_words(found.eta_s)} more" if found.eta_s is not None else ""
    out.print(found.sentence + eta + (f"; it is kept for {rest}" if rest else ""))


def _cancel(name: str, size: str | None, config: ConfigPath, *, json: bool) -> None:
    if not name:
        raise SettingsError("--cancel: of which VM? `ballonet room` shows the rooms that there are")
    if size:
        raise SettingsError("--cancel takes no SIZE: the whole room is taken back")
    with client(config) as daemon:
        found = daemon.ask(CANCEL_ROOM, name)
    if json:
        write_json(found)
    else:
        out.print(found.sentence)


def _show(rooms: list[RoomStatus], *, json: bool) -> None:
    if json:
        write_json(rooms)
        return
    if not rooms:
        out.print("no rooms: nobody has asked for memory for a VM that is about to start")
        return
    out.print(rooms_table(rooms))


def rooms_table(rooms: Sequence[RoomStatus]) -> Table:
    """One line a room."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("room for", "state", "asked", "gathered", "why"):
        shown.add_column(column, justify="right" if column in {"asked", "gathered"} else "left")
    for one in rooms:
        gathered = f"{format_size(one.gathered_bytes)} of {format_size(one.granted_bytes)}" if one.granted_bytes else "-"
        shown.add_row(one.name, one.state.value, format_size(one.asked_bytes), gathered, one.sentence)
    return shown
