"""The daemon's configuration: TOML, checked whole before any of it is used. docs/reference/config.md."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from ballonet.decide.policies import POLICIES
from ballonet.model.settings import SettingsError, Size, decode_toml
from ballonet.model.snapshot import Mode
from ballonet.sense.picture import GuestSettings


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


class GuestConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[guest.NAME]`; `[guest.default]` for all that are not named."""

    floor: Size | None = None
    """Never below. Unset: what Linux's hv_balloon keeps for a guest of that size."""
    ceiling: Size | None = None
    guaranteed: Size = Size(0)
    """Comes first when not everything fits."""
    shares: Annotated[int, Meta(ge=1, le=50000)] = 1000
    mode: Mode | None = None
    """Overrides the loop's, towards less only."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    qemu: QemuConfig
    host: HostConfig = HostConfig()
    loop: LoopConfig = LoopConfig()
    guest: dict[str, GuestConfig] = {}

    def settings(self, name: str) -> GuestSettings:
        """The operator's word on a guest. Modes never add up to more than the loop's."""
        one = self.guest.get(name) or self.guest.get("default") or GuestConfig()
        order = list(Mode)
        mode = self.loop.mode if one.mode is None else min(self.loop.mode, one.mode, key=order.index)
        return GuestSettings(
            floor_bytes=one.floor,
            ceiling_bytes=one.ceiling,
            guaranteed_bytes=one.guaranteed,
            shares=one.shares,
            mode=mode,
        )


def read_config(path: Path) -> Config:
    """The configuration in a file.

    Raises:
        SettingsError: not readable, not TOML, or something in it is wrong; names file, place and remedy.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    config = decode_toml(text, Config, str(path))
    if not config.qemu.sockets:
        raise SettingsError(f'{path}: at `qemu.sockets`: names no socket; for example ["/run/qemu/*.qmp"]')
    if config.loop.policy not in POLICIES:
        raise SettingsError(f"{path}: at `loop.policy`: no policy {config.loop.policy!r}; there are {', '.join(POLICIES)}")
    for name, one in config.guest.items():
        if one.floor is not None and one.ceiling is not None and one.floor > one.ceiling:
            raise SettingsError(f"{path}: at `guest.{name}.floor`: above the ceiling; lower it or raise the ceiling")
    return config
