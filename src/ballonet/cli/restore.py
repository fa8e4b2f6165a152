"""`ballonet restore`: everything back to what it was at the hypervisor before ballonet came."""

import asyncio
from pathlib import Path

import typer
from msgspec import Struct
from rich import box
from rich.table import Table

from ballonet.cli.console import UNMET, ConfigPath, Json, err, out, write_json
from ballonet.daemon.config import PATH, read_config
from ballonet.hypervisors.contract import Guided, HypervisorError
from ballonet.model.knobs import Bounds, Knobs
from ballonet.model.settings import SettingsError
from ballonet.model.units import format_size


class Restored(Struct, frozen=True, kw_only=True):
    """`ballonet.restored/1`."""

    schema: str = "ballonet.restored/1"
    restored: dict[str, Knobs]
    failed: dict[str, str]


def restore(config: ConfigPath = PATH, json: Json = False) -> None:
    """Put the hypervisor's own knobs back to where they were before ballonet turned them. Exits 1 when one could not be.

    For ESXi (shares, reservations, limits) and Hyper-V (minimum, maximum, buffer, priority). Stop the daemon first, or it sets
    them again. May be run again.
    """
    found = asyncio.run(_restored(config))
    if json:
        write_json(found)
    else:
        _show(found)
    if found.failed:
        raise typer.Exit(UNMET)


async def _restored(config: Path) -> Restored:
    found = read_config(config)
    hypervisor = found.source.hypervisor(found.around)
    if not isinstance(hypervisor, Guided):
        raise SettingsError(f"{config}: only [vsphere] and [hyperv] have what `restore` puts back")
    try:
        done, failed = await hypervisor.restore()
    except HypervisorError as error:
        raise SettingsError(str(error)) from error
    finally:
        await hypervisor.close()
    return Restored(restored=done, failed=failed)


def _show(found: Restored) -> None:
    table = Table("guest", "is back at", box=box.SIMPLE)
    for name, one in found.restored.items():
        table.add_row(name, _text(one))
    if found.restored:
        out.print(table)
    elif not found.failed:
        out.print("nothing to put back: ballonet has changed nothing here")
    for name, why in found.failed.items():
        err.print(f"{name}: {why}")


def _text(one: Knobs) -> str:
    if isinstance(one, Bounds):
        sizes = f"minimum {format_size(one.minimum_bytes)}, maximum {format_size(one.maximum_bytes)}"
        return f"{sizes}, buffer {one.buffer_percent} %, priority {one.priority}"
    limit = "no limit" if one.limit_bytes is None else f"limit {format_size(one.limit_bytes)}"
    return f"{one.shares} shares ({one.level}), reservation {format_size(one.reservation_bytes)}, {limit}"
