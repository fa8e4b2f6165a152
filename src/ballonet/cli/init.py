"""`ballonet init`: the first configuration, by what this host has."""

from collections.abc import Iterator
from importlib import resources
from json import dumps as json_of
from pathlib import Path
from typing import Annotated

import typer

from ballonet.cli.console import ConfigPath, Json, err, out, write_json
from ballonet.daemon.config import PATH, Config, read_config
from ballonet.model.settings import SettingsError, convert, parse_toml
from ballonet.sense.discover import Found, discover


def init(
    config: ConfigPath = PATH,
    force: Annotated[
        bool, typer.Option("--force", help="Write it anew; the old one is kept as .old in the same folder.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is found.")] = False,
    root: Annotated[Path, typer.Option(help="Where the host's /proc, /run and /etc are found.", hidden=True)] = Path("/"),
    json: Json = False,
) -> None:
    """Write a first configuration: look for libvirt, Proxmox VE and QMP sockets, and begin in mode observe.

    Each key is in it with its default and a word on it. Touches nothing else; says what was found, and what to do next.
    """
    found = discover(root)
    if json:
        write_json(found._asdict())
    else:
        for line in _told(found):
            out.print(line)
    if dry_run:
        if not json:
            there = " (which is there: only --force replaces it, and the old one stays as .old)" if config.exists() else ""
            err.print(f"would write {_whose(found).splitlines()[0]} to {config}{there}; nothing was written")
        return
    text = text_of(found)
    convert(parse_toml(text, "what was to be written"), Config, "what was to be written")
    _write(config, text, is_forced=force)
    if not json:
        for line in _next(config):
            out.print(line)


def text_of(found: Found) -> str:
    """The configuration: what is shipped, with whose guests they are."""
    shipped = (resources.files("ballonet.daemon") / "ballonet.toml").read_text()
    return shipped.replace("\n[libvirt]\n", f"\n{_whose(found)}\n", 1)


def _whose(found: Found) -> str:
    if found.proxmox is not None:
        return "[proxmox]"
    if _is_libvirts(found):
        return "[libvirt]"
    names = ", ".join(_quoted(one) for one in found.patterns or ("/run/qemu/*.qmp",))
    return f"[qemu]\nsockets = [{names}]"


def _quoted(text: str) -> str:
    """As a TOML string: JSON's escapes are TOML's too, but for surrogates, and DEL is to be escaped."""
    return json_of(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_libvirts(found: Found) -> bool:
    """Whether it is libvirt that runs the guests: it does run, or nothing else does."""
    return bool(found.libvirt) and (found.is_libvirt_up or not found.sockets)


def _told(found: Found) -> Iterator[str]:
    """What was found."""
    if found.proxmox is not None:
        yield f"found Proxmox VE, with {found.proxmox} VMs on this node: those are watched"
    elif _is_libvirts(found):
        state = "" if found.is_libvirt_up else "; it does not run now"
        yield f"found libvirt ({found.libvirt}{state}): its domains are watched"
    elif found.sockets:
        yield f"found QMP sockets of {found.processes} QEMU processes: {', '.join(found.patterns)}"
    elif found.processes:
        yield f"found {found.processes} QEMU processes, and no QMP socket of theirs: start them with one of ballonet's own, as"
        yield "  -qmp unix:/run/qemu/NAME.qmp,server=on,wait=off"
    else:
        yield "found no libvirt, no Proxmox VE and no QEMU process: name yours in the configuration, or see `ballonet try`"
    if found.sockets and (_is_libvirts(found) or found.proxmox is not None):
        yield f"also found QMP sockets of others, left out: {', '.join(found.patterns)}"


def _write(path: Path, text: str, *, is_forced: bool) -> None:
    """Raises SettingsError."""
    try:
        if path.exists():
            if not is_forced:
                raise SettingsError(f"{path} is there already: nothing is changed; --force writes it anew and keeps the old one")
            path.replace(path.with_name(f"{path.name}.old"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}; as root, or to a place of yours with -c") from error


def _next(path: Path) -> Iterator[str]:
    """What to do now."""
    named = "" if path == PATH else f" -c {path}"
    if missing := read_config(path).source.missing():
        yield missing
    yield f"wrote {path}: mode observe, nothing is touched"
    if path == PATH and Path("/usr/lib/systemd/system/ballonet.service").exists():
        yield "next: ballonet doctor; ballonet status (the service runs by itself, and only watches)"
    else:
        yield f"next: ballonet doctor{named}; ballonet run{named}; ballonet status{named}"
