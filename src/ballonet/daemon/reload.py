"""What a reload puts in force, and which keys wait for a restart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from ballonet.daemon.config import Config, read_config
from ballonet.hypervisors.registry import SECTIONS
from ballonet.model.finding import HOST, Finding, Level
from ballonet.model.settings import SettingsError

WITH_A_RESTART: Final = (*(one.called for one in SECTIONS), "control", "host.root", "history.keep")
"""Sections and keys: whose guests they are, where the daemon listens and what it keeps open."""


def reloaded(old: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """The configuration that is in force from now on, and the keys that wait for a restart, as `section.key`."""
    kept: dict[str, Any] = {}
    waiting: list[str] = []
    for what in WITH_A_RESTART:
        section, _, key = what.partition(".")
        was, becomes = getattr(old, section), getattr(new, section)
        changed = list(_changed(section, was, becomes))
        kept[section] = replace(becomes, **{key: getattr(was, key)}) if key else was
        waiting += [one for one in changed if one.startswith(what) or not key]
    return replace(new, **kept), tuple(waiting)


def unread(path: Path, read: Config) -> list[Finding]:
    """Whether the files say something else by now than what was read of them; one that is wrong is told by who asks for it."""
    try:
        is_same = read_config(path) == read
    except SettingsError:
        return []
    if is_same:
        return []
    what = f"{path} says something else than what is in force: it was changed after it was read"
    return [Finding(level=Level.WARNING, where=HOST, what=what, remedy="systemctl reload ballonet, or change it back")]


def _changed(section: str, was: Struct | None, becomes: Struct | None) -> Iterator[str]:
    if was is None or becomes is None:
        yield from [f"[{section}]"] if was is not becomes else []
        return
    for name in was.__struct_fields__:
        if getattr(was, name) != getattr(becomes, name):
            yield f"{section}.{name}"


def findings(waiting: tuple[str, ...]) -> list[Finding]:
    """Of keys that wait for a restart: what is accepted is in force, or said not to be."""
    if not waiting:
        return []
    what = f"changed in the configuration and not in force: {', '.join(waiting)}"
    remedy = "systemctl restart ballonet; guests stay as they are meanwhile"
    return [Finding(level=Level.WARNING, where=HOST, what=what, remedy=remedy)]
