"""`ballonet doctor`: what stands in the way, and what to do about it."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

import typer
from rich import box
from rich.table import Table

from ballonet.cli.console import UNMET, ConfigPath, Json, out, write_json
from ballonet.cli.daemon import client, socket_of
from ballonet.control.client import NoDaemonError
from ballonet.control.routes import DOCTOR
from ballonet.daemon.config import PATH, read_config
from ballonet.model.finding import HOST, Finding, Level
from ballonet.model.settings import SettingsError
from ballonet.sense import contradictions
from ballonet.sense.doctor import HostDoctor, guest_findings, limit_findings

TABLE_COLUMNS: Final = 72
COLOURS: Final = {Level.NOTE: "", Level.WARNING: "yellow", Level.FAULT: "red"}


def doctor(config: ConfigPath = PATH, json: Json = False) -> None:
    """Look for what stands in the way of ballooning on this host and in its guests, and say what to do about it.

    Touches nothing. Exits 1 when there is a fault.
    """
    found = findings_from(config)
    if json:
        write_json(found)
    else:
        show(found)
    if any(one.level is Level.FAULT for one in found):
        raise typer.Exit(UNMET)


def findings_from(config: Path) -> list[Finding]:
    """From the daemon, or from a look of our own. Raises ControlError, SettingsError."""
    with contextlib.suppress(NoDaemonError):
        if socket_of(config).exists():
            with client(config) as daemon:
                return [*_configured(config), *daemon.ask(DOCTOR)]
    from ballonet.cli.look import look  # noqa: PLC0415 adapters take a while to load, and most ask a daemon

    read = read_config(config)
    tick, found = asyncio.run(look(read))
    snapshot = tick.snapshot
    found += HostDoctor(Path(read.host.root)).findings()
    found += limit_findings(snapshot.host) + contradictions.findings(snapshot, read.guest)
    for guest in snapshot.guests:
        found += guest_findings(guest)
    return found


def _configured(config: Path) -> list[Finding]:
    """Whether the daemon that runs would come up again."""
    try:
        if os.access(config, os.R_OK):
            read_config(config)
    except SettingsError as error:
        what = f"the configuration is wrong, and the daemon goes on with the last good one: {error}"
        return [
            Finding(level=Level.FAULT, where=HOST, what=what, remedy="mend it (`ballonet check-config`): a restart would fail")
        ]
    return []


def show(found: list[Finding]) -> None:
    """As a table, or as lines where that is too narrow for one."""
    if not found:
        out.print("nothing stands in the way")
    elif out.width >= TABLE_COLUMNS:
        out.print(_table(found))
    else:  # four columns would leave a word a line
        for one in found:
            out.print(f"{one.level.value}: {one.where}: {one.what}", style=COLOURS[one.level])
            out.print(f"  remedy: {one.remedy}")


def _table(found: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "where", "what", "remedy"):
        table.add_column(name)
    for one in found:
        table.add_row(one.level.value, one.where, one.what, one.remedy, style=COLOURS[one.level])
    return table
