"""A configuration that is read anew: each key is in force, or is said not to be."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from ballonet.daemon.config import Config
from ballonet.daemon.reload import findings, reloaded
from ballonet.hypervisors.hyperv.config import HypervConfig
from ballonet.hypervisors.libvirt.config import LibvirtConfig
from ballonet.hypervisors.proxmox.config import ProxmoxConfig
from ballonet.hypervisors.qemu.config import QemuConfig
from ballonet.hypervisors.vsphere.config import VsphereConfig
from ballonet.model.settings import Size
from ballonet.model.snapshot import Mode
from ballonet.model.terms import WrittenTerms

OLD = Config.of(
    QemuConfig(), LibvirtConfig(), ProxmoxConfig(), VsphereConfig(server="s", user="u"), HypervConfig(server="s", user="u")
)


def other(value: Any) -> Any:
    """Another value of the same kind; of what is unset, a size."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case Mode():
            return Mode.ACT
        case str():
            return value + "x"
        case tuple():
            return ("other",)
        case _:
            return Size(1 << 30)


def keys() -> Iterator[tuple[str, str]]:
    for section in Config.__struct_fields__:
        if isinstance(part := getattr(OLD, section), Struct):
            yield from ((section, key) for key in part.__struct_fields__)


@pytest.mark.parametrize(("section", "key"), list(keys()))
def test_each_key_is_in_force_or_said_not_to_be(section: str, key: str) -> None:
    """And stays named until it is as it was, or the daemon starts anew."""
    part = getattr(OLD, section)
    new = replace(OLD, **{section: replace(part, **{key: other(getattr(part, key))})})
    now, waiting = reloaded(OLD, new)
    is_in_force = getattr(getattr(now, section), key) == getattr(getattr(new, section), key)
    assert is_in_force != (f"{section}.{key}" in waiting)
    assert [f"{section}.{key}" in one.what for one in findings(waiting)] == ([] if is_in_force else [True])
    assert reloaded(now, new)[1] == waiting
    assert reloaded(now, OLD) == (OLD, ())


def test_guests_and_whole_sections() -> None:
    """A guest's settings are in force at once; a section that comes or goes waits."""
    guests = replace(OLD, guest={"web": WrittenTerms(shares=2000)})
    assert reloaded(OLD, guests) == (guests, ())
    assert reloaded(OLD, replace(OLD, libvirt=None))[1] == ("[libvirt]",)
    assert reloaded(replace(OLD, hyperv=None), OLD)[1] == ("[hyperv]",)
