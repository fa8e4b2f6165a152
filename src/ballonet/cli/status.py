"""`ballonet status`: the guests of this host as ballonet sees them. Looks and touches nothing."""

import asyncio
import time
from typing import Final

import typer
from rich import box
from rich.table import Table

from ballonet.cli.console import UNMET, ConfigPath, Json, err, out, write_json
from ballonet.daemon.config import PATH, Config, read_config
from ballonet.daemon.run import adapter
from ballonet.model.snapshot import Guest, Voice
from ballonet.model.units import format_size

LOOK_S: Final = 2.5
"""How long to listen: agents and balloon drivers speak once a second."""


def status(config: ConfigPath = PATH, json: Json = False) -> None:
    """Show each guest: what it keeps, holds and has available, how it is heard, how its memory moves, or why it cannot.

    A QMP socket serves one client at a time: while `ballonet run` holds it, this finds nobody there. Exits 1 when it finds none.
    """
    guests = asyncio.run(seen(read_config(config)))
    if json:
        write_json(guests)
    elif guests:
        out.print(_table(guests))
    if not guests:
        err.print("no guest answers on the QMP sockets of the configuration; does `ballonet run` hold them?")
        raise typer.Exit(UNMET)


async def seen(config: Config) -> tuple[Guest, ...]:
    """The guests of a configuration, once all have spoken, after LOOK_S at the latest."""
    hypervisor = adapter(config)
    await hypervisor.open()
    start = time.monotonic()
    try:
        while time.monotonic() - start < LOOK_S:
            await asyncio.sleep(0.1)
            guests = hypervisor.guests()
            if guests and all(guest.voice is Voice.AGENT for guest in guests):
                break
        return hypervisor.guests()
    finally:
        await hypervisor.close()


def _table(guests: tuple[Guest, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("guest", "has", "keeps", "holds", "available", "heard by", "moves by", "left alone"):
        table.add_column(name, justify="right" if name in {"has", "keeps", "holds", "available"} else "left")
    for guest in guests:
        available = guest.stats.available_bytes if guest.stats else None
        sizes = (guest.ceiling_bytes, guest.keep_bytes, guest.resident_bytes, available)
        cells = ["-" if size is None else format_size(size) for size in sizes]
        how = ", ".join(mechanism.value for mechanism in guest.mechanisms)
        table.add_row(guest.name, *cells, guest.voice.value, how, guest.leave_alone)
    return table
