"""The daemon's configuration: TOML, checked whole before any of it is used. docs/reference/config.md."""

import contextlib
import functools
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from ballonet.control.doors import address_of
from ballonet.decide.policies import POLICIES
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


class QemuConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[qemu]`."""

    sockets: tuple[str, ...] = ()
    """QMP sockets, wildcards allowed. ballonet needs one to itself: a socket serves one client at a time."""
    agents: bool = True
    """Whether to hear agents in guests, ballonet's and QEMU's, where a guest has a port for one."""


class LibvirtConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[libvirt]`."""

    uri: str = "qemu:///system"
    """The libvirt on this host, as `virsh -c` takes it."""
    agents: bool = True
    """Whether to hear ballonet's agent in guests, where a domain has a channel for it."""


class ProxmoxConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[proxmox]`: the VMs of this node."""

    agents: bool = True
    """Whether to hear agents in guests, where a guest has a port for one."""


class VsphereConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[vsphere]`: one ESXi host, by itself or through its vCenter; ballonet steers shares and reservations."""

    server: str
    """The host's name, or its vCenter's."""
    user: str
    port: Annotated[int, Meta(ge=1, le=65535)] = 443
    host: str = ""
    """Which of a vCenter's hosts; empty = the only one."""
    password_file: str = ""
    """A file that nobody else may read. The variable BALLONET_VSPHERE_PASSWORD comes first."""
    ca_file: str = ""
    """Certificates to trust, PEM; empty = the system's."""
    limits: bool = False
    """Also set limits while the host is short: the only way to force a balloon; taken back from a VM that waits for memory."""
    drs: bool = False
    """Steer though the host is in a cluster whose DRS moves VMs."""


class HypervConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[hyperv]`: one Hyper-V host by PowerShell remoting; ballonet steers minimum, maximum, buffer and priority."""

    server: str
    user: str
    """As Windows has it: `HOST\\user` or `user@domain`."""
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """Of WinRM; unset: 5986, or 5985 without TLS."""
    tls: bool = True
    auth: Literal["negotiate", "kerberos", "ntlm", "basic"] = "negotiate"
    """`basic` sends the password itself, and only over TLS."""
    endpoint: str = "Microsoft.PowerShell"
    """The session configuration: one of Just Enough Administration, where there is one."""
    password_file: str = ""
    """A file that nobody else may read. The variable BALLONET_HYPERV_PASSWORD comes first."""
    ca_file: str = ""
    """Certificates to trust, PEM; empty = the system's."""


class ControlConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[control]`: how `ballonet status`, `hold` and the others reach the daemon."""

    socket: str = "/run/ballonet/control.sock"
    group: str = "ballonet"
    """Who may use the socket beside root."""
    listen: str = ""
    """A loopback address and port for the same over TCP, as "127.0.0.1:9717": for Prometheus, which speaks no Unix sockets."""
    token_file: str = "/etc/ballonet/token"  # noqa: S105 a path
    """Whoever comes over TCP names what is in it."""
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


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    qemu: QemuConfig = QemuConfig()
    libvirt: LibvirtConfig | None = None
    proxmox: ProxmoxConfig | None = None
    vsphere: VsphereConfig | None = None
    hyperv: HypervConfig | None = None
    host: HostConfig = HostConfig()
    loop: LoopConfig = LoopConfig()
    control: ControlConfig = ControlConfig()
    history: HistoryConfig = HistoryConfig()
    emergency: EmergencyConfig = EmergencyConfig()
    guest: dict[str, WrittenTerms] = {}

    def limits(self) -> Limits:
        """Of every decision."""
        may_limit = self.vsphere is not None and self.vsphere.limits
        return Limits(
            reserve_bytes=_plain(self.host.reserve),
            interval_s=self.loop.interval_s,
            may_limit=may_limit,
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
        for key in (uuid, uuid.upper(), name):
            if key and key in self.guest:
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
    """The configuration in a file, and in the files of the `conf.d` beside it, by name: what two of them say, the later one says.

    Raises:
        SettingsError: not readable, not TOML, or something in it is wrong; names file, place and remedy.
    """
    data: dict[str, Any] = {}
    for one in (path, *sorted((path.parent / "conf.d").glob("*.toml"))):
        part = _read_toml(one)
        convert(part, Config, str(one))
        data = _merged(data, part)
    config = convert(data, Config, str(path))
    _check(config, path)
    return config


def socket_as_said(path: Path) -> Path:
    """Where the daemon listens by a configuration that may be wrong: by its lines, else as where nothing is said."""
    found = ControlConfig().socket
    for one in (path, *sorted((path.parent / "conf.d").glob("*.toml"))):
        table = ""
        with contextlib.suppress(OSError):
            for line in one.read_text(errors="replace").splitlines():
                if match := re.match(r"\s*\[([^\]]*)", line):
                    table = match[1].strip()
                elif table == "control" and (match := re.match(r"""\s*socket\s*=\s*["']([^"']+)["']""", line)):
                    found = match[1]
    return Path(found)


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
    named = [
        name
        for name, one in (
            ("[qemu]", config.qemu.sockets),
            ("[libvirt]", config.libvirt),
            ("[proxmox]", config.proxmox),
            ("[vsphere]", config.vsphere),
            ("[hyperv]", config.hyperv),
        )
        if one
    ]
    if not named:
        text = 'names no guests: add [libvirt], [proxmox], [vsphere], [hyperv], or [qemu] with sockets = ["/run/qemu/*.qmp"]'
        raise SettingsError(f"{path}: {text}")
    if len(named) > 1:
        raise SettingsError(f"{path}: {' and '.join(named)}: keep one; a daemon steers all guests of a host in one way")
    if config.hyperv is not None and config.hyperv.auth == "basic" and not config.hyperv.tls:
        raise SettingsError(f"{path}: at `hyperv.auth`: basic sends the password itself; set hyperv.tls, or another auth")
    if config.loop.policy not in POLICIES:
        raise SettingsError(f"{path}: at `loop.policy`: no policy {config.loop.policy!r}; there are {', '.join(POLICIES)}")
    if config.control.listen:
        address_of(config.control.listen)
    for name in config.guest:
        one = config.settings(name)
        if one.floor_bytes is not None and one.ceiling_bytes is not None and one.floor_bytes > one.ceiling_bytes:
            raise SettingsError(f"{path}: at `guest.{name}.floor`: above the ceiling; lower it or raise the ceiling")
