"""The daemon's configuration: TOML, checked whole before any of it is used. docs/reference/config.md."""

import contextlib
import functools
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from ballonet.control.listen import address_of
from ballonet.decide.policies import POLICIES
from ballonet.hypervisors.registry import SECTIONS
from ballonet.hypervisors.section import Around, Section
from ballonet.model.limits import Limits
from ballonet.model.settings import SettingsError, Size, convert, parse_toml
from ballonet.model.snapshot import Mode, least
from ballonet.model.terms import NORMAL, UNSAID, Terms, WrittenTerms
from ballonet.model.text import is_called

PATH: Final = Path("/etc/ballonet/ballonet.toml")
"""Where it is looked for when nobody says where."""


class HostConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[host]`."""

    root: str = "/"
    """Where /proc and /sys are found: a container sees the host's elsewhere."""
    reserve: Size | None = None
    """Memory to keep free. Unset: sized by what this host has shown, never below ESXi's sliding scale."""


class LoopConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[loop]`."""

    mode: Mode = Mode.OBSERVE
    """`observe`, `advise` or `act`. The default touches nothing."""
    policy: str = "adaptive"
    interval_s: Annotated[float, Meta(ge=0.1, le=60)] = 1.0
    """Between two ticks when nothing happens. News brings the next one at once."""


class ControlConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[control]`: how `ballonet status`, `hold` and the others reach the daemon."""

    socket: str = "/run/ballonet/control.sock"
    group: str = "ballonet"
    """Who may use the socket besides root."""
    listen: str = ""
    """A loopback address and port for the same over TCP, as "127.0.0.1:9717": for Prometheus, which speaks no Unix sockets."""
    token_file: str = "/etc/ballonet/token"  # noqa: S105 a path
    """Clients over TCP name what is in it."""
    state: str = "/var/lib/ballonet"
    """Where orders and history are kept."""


class HistoryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[history]`."""

    keep: bool = True
    size: Size = Size(512 << 20)
    """The file is never larger for long: the oldest go first."""
    days: Annotated[float, Meta(gt=0, le=3660)] = 30.0


class EmergencyConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[emergency]`: what a host may do beyond balloons when it runs out of memory (R14). All off."""

    ksm: bool = False
    """From host state soft on: let the kernel look for equal pages, the harder the longer it lasts."""
    reclaim: bool = False
    """In host states hard and low: have the kernel page out guests that hold more than they need, into zswap or swap."""


class RoomConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[room]`: VMs that are about to start, as hooks ask for them (`ballonet hook`). Read by the hook itself, at each start."""

    hook_wait_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    """How long a start may wait for its room. libvirt answers nobody who lists VMs meanwhile."""
    when_refused: Literal["start", "refuse"] = "start"
    """What becomes of a VM for which there is no room."""
    when_down: Literal["start", "refuse"] = "start"
    """The same where no daemon answers."""
    overhead: Size = Size(96 << 20)
    """What QEMU takes besides the VM's memory: 91 to 94 MiB were measured (QEMU 7.2 under TCG)."""


C = TypeVar("C", bound="Config")
N = TypeVar("N", bound=Section)


def _with_sections(kind: type[C]) -> type[C]:
    """The same with a section for each hypervisor of the registry."""
    fields: list[tuple[str, Any, None]] = [(one.called, one | None, None) for one in SECTIONS]
    made = msgspec.defstruct(
        kind.__name__, fields, bases=(kind,), module=kind.__module__, frozen=True, kw_only=True, forbid_unknown_fields=True
    )
    made.__doc__ = kind.__doc__
    return cast("type[C]", made)


@_with_sections
class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file: these, and one section of the registry's."""

    host: HostConfig = HostConfig()
    loop: LoopConfig = LoopConfig()
    control: ControlConfig = ControlConfig()
    history: HistoryConfig = HistoryConfig()
    emergency: EmergencyConfig = EmergencyConfig()
    room: RoomConfig = RoomConfig()
    guest: dict[str, WrittenTerms] = {}

    @classmethod
    def of(cls, *sources: Section, **sections: Any) -> "Config":
        """A configuration by its parts."""
        parts: dict[str, Any] = {one.called: one for one in sources}
        return cls(**parts, **sections)

    def section(self, kind: type[N]) -> N | None:
        """The section of one hypervisor; None = there is none."""
        found = getattr(self, kind.called)
        return found if isinstance(found, kind) else None

    def sources(self) -> list[Section]:
        """The sections that say whose guests they are; in a configuration that was checked there is one."""
        found = (getattr(self, one.called) for one in SECTIONS)
        return [one for one in found if one is not None and one.names_guests]

    @property
    def source(self) -> Section:
        """The one of a configuration that was checked."""
        return self.sources()[0]

    @property
    def around(self) -> Around:
        """What its source needs from the other sections."""
        return Around(Path(self.host.root), Path(self.control.state))

    def limits(self) -> Limits:
        """Of every decision."""
        return Limits(
            reserve_bytes=_plain(self.host.reserve),
            interval_s=self.loop.interval_s,
            may_limit=any(one.may_limit for one in self.sources()),
            may_ksm=self.emergency.ksm,
            may_reclaim=self.emergency.reclaim,
        )

    def settings(
        self,
        name: str,
        kept: Terms = UNSAID,
        most: Mode | None = None,
        *,
        uuid: str = "",
        tags: Collection[str] = (),
        order: Terms = UNSAID,
    ) -> Terms:
        """The operator's word on a guest, each setting by itself. The first that says it counts: an order; the file on this very
        guest, by its UUID, then by its name; the hypervisor; the file on names like its own, the longest pattern first, then on
        its tags; `[guest.default]`.

        Args:
            name: of the guest.
            kept: what the operator has written down at the hypervisor.
            most: no mode is more than this; the loop's when it is left out.
            uuid: of the guest.
            tags: of the guest, at its hypervisor.
            order: what was ordered while the daemon runs.
        """
        most = most or self.loop.mode
        sources = (order, *self._own(name, uuid), kept, *self._alike(name, tags), self.guest.get(DEFAULT, UNSAID), NORMAL)
        found = functools.reduce(Terms.over, sources)
        return replace(found, mode=least(most, found.mode or most))

    def _own(self, name: str, uuid: str) -> Iterator[Terms]:
        """What is said of this guest alone."""
        for key in (uuid, uuid.lower(), uuid.upper(), name):
            if key and key in self.guest and not stands_for_many(key):
                yield self.guest[key]

    def _alike(self, name: str, tags: Collection[str]) -> Iterator[Terms]:
        """What is said of all guests that are called or tagged alike; of two patterns, the longer one is nearer."""
        for pattern in sorted(filter(is_pattern, self.guest), key=len, reverse=True):
            if is_called(name, pattern):
                yield self.guest[pattern]
        for tag in sorted(tags):
            if (key := TAG + tag) in self.guest:
                yield self.guest[key]


DEFAULT: Final = "default"
TAG: Final = "tag:"
"""Before a tag, where a guest's name could stand: `[guest."tag:batch"]`."""


def stands_for_many(name: str) -> bool:
    """Whether a name in the file is not that of one guest."""
    return name == DEFAULT or name.startswith(TAG) or is_pattern(name)


def is_pattern(name: str) -> bool:
    """Whether a name in the file stands for all guests that are called so: `web-*`, `db-??`."""
    return not name.startswith(TAG) and ("*" in name or "?" in name)


def _plain(size: int | None) -> int | None:
    """A size that came from a file as any other: what goes to disk or over the wire knows no `Size`."""
    return None if size is None else int(size)


def read_config(path: Path) -> Config:
    """The configuration in a file, and in those of the `conf.d` next to it, by name: what two of them set, the later one sets.

    Raises:
        SettingsError: not readable, not TOML, or something in it is wrong; names file, place and remedy.
    """
    data: dict[str, Any] = {}
    for one in (path, *_more(path)):
        part = _read_toml(one)
        convert(part, Config, str(one))
        data = _merged(data, part)
    config = convert(data, Config, str(path))
    _check(config, path)
    return config


def socket_as_said(path: Path) -> Path:
    """Where the daemon listens by a configuration that may be wrong: by its lines, else as where nothing is said."""
    found = ControlConfig().socket
    for one in (path, *_more_that_can_be_read(path)):
        table = ""
        with contextlib.suppress(OSError):
            for line in one.read_text(errors="replace").splitlines():
                if match := re.match(r"\s*\[([^\]]*)", line):
                    table = match[1].strip()
                elif table == "control" and (match := re.match(r"""\s*socket\s*=\s*["']([^"']+)["']""", line)):
                    found = match[1]
    return Path(found)


def _more(path: Path) -> list[Path]:
    """The files of its `conf.d`, by name. Raises SettingsError: what cannot be read may say anything."""
    folder = path.parent / "conf.d"
    try:
        return sorted(one for one in folder.iterdir() if one.suffix == ".toml" and not one.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror}; let the user that runs this read it, or remove it") from error


def _more_that_can_be_read(path: Path) -> list[Path]:
    try:
        return _more(path)
    except SettingsError:
        return []


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(path.read_text(), str(path))
    except FileNotFoundError as error:
        text = f"no configuration at {path}: `ballonet init` writes one, -c names another; `ballonet try` needs none"
        raise SettingsError(text) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Tables are joined, all else is replaced."""
    both = {
        name: _merged(old[name], value)
        for name, value in new.items()
        if isinstance(old.get(name), dict) and isinstance(value, dict)
    }
    return old | new | both


def _check(config: Config, path: Path) -> None:
    """What no single key shows."""
    sources = config.sources()
    if not sources:
        *first, last = sorted((one.example for one in SECTIONS), key=lambda text: " " in text)
        raise SettingsError(f"{path}: names no guests: add {', '.join(first)}, or {last}")
    if len(sources) > 1:
        named = " and ".join(f"[{one.called}]" for one in sources)
        raise SettingsError(f"{path}: {named}: keep one; a daemon steers all guests of a host in one way")
    if wrong := config.source.contradiction():
        raise SettingsError(f"{path}: {wrong}")
    if config.loop.policy not in POLICIES:
        raise SettingsError(f"{path}: at `loop.policy`: no policy {config.loop.policy!r}; there are {', '.join(POLICIES)}")
    if config.control.listen:
        address_of(config.control.listen)
    for name in config.guest:
        if name.startswith(TAG) and set(name) & {"*", "?"}:
            raise SettingsError(f"{path}: at `guest.{name}`: a tag is written out; wildcards stand for names of guests")
        one = config.settings(name)
        if one.floor_bytes is not None and one.ceiling_bytes is not None and one.floor_bytes > one.ceiling_bytes:
            raise SettingsError(f"{path}: at `guest.{name}.floor`: above the ceiling; lower it or raise the ceiling")
