"""`ballonet hook`: has libvirt or Proxmox VE ask for room before a VM starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from ballonet.cli.console import UNAVAILABLE, ConfigPath, err, out
from ballonet.daemon.config import PATH
from ballonet.model.settings import SettingsError
from ballonet.sense import hooks


class Place(NamedTuple):
    """Where a host calls it."""

    path: str
    """Below the root."""
    needs: str
    """A folder that is there where this hypervisor is."""
    next: Callable[[bool], str]
    """What is to be done once it is there; whether the folder for hooks is new."""


PLACES: Final = {
    "libvirt": Place(
        hooks.LIBVIRT,
        "etc/libvirt",
        lambda is_new: (
            "libvirtd looks for hooks when it starts: systemctl reload libvirtd (or virtqemud)" if is_new else "It is in force"
        ),
    ),
    "proxmox": Place(
        hooks.PROXMOX,
        "etc/pve",
        lambda _is_new: "For each VM that is to find its room: qm set VMID --hookscript local:snippets/ballonet-room",
    ),
}


def hook(
    host: Annotated[str, typer.Argument(metavar="libvirt|proxmox", help="Who starts VMs on this host.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take it away again.")] = False,
    root: Annotated[Path, typer.Option(hidden=True, help="Of the host's files.")] = Path("/"),
    config: ConfigPath = PATH,
) -> None:
    """Have libvirt or Proxmox VE ask for a VM's memory before it starts, so that it finds its room on a full host.

    The hook waits at most `room.hook_wait_s` (5 s) and is in nobody's way: without a daemon, or with one that only watches, VMs
    start as ever. Whether one starts for which there is no room is `room.when_refused`. `ballonet doctor` checks it.
    """
    place = PLACES.get(host)
    if place is None:
        raise SettingsError(f"no host {host!r}; there are {', '.join(PLACES)}; a unit of systemd: docs/rooms.md")
    path = root / place.path
    if remove:
        path.unlink(missing_ok=True)
        out.print(f"{path} is gone; VMs start as ever")
        return
    if not (root / place.needs).is_dir():
        err.print(f"no /{place.needs} here: this host does not start its VMs by {host}")
        raise typer.Exit(UNAVAILABLE)
    is_new = not any(path.parent.glob("[!.]*")) and not path.parent.with_name("qemu").exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        text = hooks.SOURCE.read_text()
        new.write_text(text if config == PATH else text.replace(f'"{PATH}"', repr(str(config.absolute())), 1))
        new.replace(path)
        path.chmod(0o755)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; be root") from error
    out.print(f"{path} is in place. {place.next(is_new)}")
