"""An operator's settings of one guest in its domain's metadata: they go with it where it migrates, and into its backups.

virsh metadata VM https://ballonet.org/xmlns/guest/1 --key ballonet \
        --set '<guest min="4GiB" guaranteed="6GiB" priority="high" mode="act"/>' --live --config
"""

import xml.etree.ElementTree as ET
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from ballonet.hypervisors.contract import KeptSettings
from ballonet.model.settings import SettingsError, Size, convert
from ballonet.model.snapshot import Mode

NAMESPACE: Final = "https://ballonet.org/xmlns/guest/1"
PRIORITIES: Final = {"low": 500, "normal": 1000, "high": 2000}
"""Shares by priority, one to two to four, as ESXi has them (vSphere Resource Management, Resource Allocation Shares)."""


class DomainSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`<guest .../>`: all of it attributes, each may be missing."""

    min: Size | None = None
    """Never below."""
    max: Size | None = None
    """Less than the domain's memory, if it shall never have all of it back."""
    guaranteed: Size | None = None
    shares: Annotated[int, Meta(ge=1, le=50000)] | None = None
    priority: Literal["low", "normal", "high"] | None = None
    """Shares in words; `shares` counts before it."""
    mode: Mode | None = None


def read(text: str, name: str) -> DomainSettings:
    """The settings in a metadata element.

    Args:
        text: XML.
        name: of the domain, for errors.

    Raises:
        SettingsError: names the domain, the attribute and the remedy.
    """
    origin = f"metadata of {name}"
    try:
        element = ET.fromstring(text)  # noqa: S314 libvirt has parsed it already; expat refuses entity bombs since 2.4.1
    except ET.ParseError as error:
        raise SettingsError(f"{origin}: {error}") from error
    values: dict[str, object] = dict(element.attrib)
    if "shares" in values:
        values["shares"] = int(shares) if (shares := str(values["shares"])).isdecimal() else shares
    found = convert(values, DomainSettings, origin)
    if found.min is not None and found.max is not None and found.min > found.max:
        raise SettingsError(f"{origin}: at `min`: above `max`; lower it or raise `max`")
    return found


def kept(settings: DomainSettings) -> KeptSettings:
    """The same in the contract's words."""
    by_priority = None if settings.priority is None else PRIORITIES[settings.priority]
    return KeptSettings(
        floor_bytes=settings.min,
        ceiling_bytes=settings.max,
        guaranteed_bytes=settings.guaranteed,
        shares=by_priority if settings.shares is None else settings.shares,
        mode=settings.mode,
    )
