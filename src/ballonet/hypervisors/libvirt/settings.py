"""An operator's settings of one guest in its domain's metadata: they go with it where it migrates, and into its backups.

virsh metadata VM https://ballonet.org/xmlns/guest/1 --key ballonet \
        --set '<guest min="4GiB" guaranteed="6GiB" priority="high" mode="act"/>' --live --config
"""

import xml.etree.ElementTree as ET
from typing import Final, Literal

from ballonet.model.settings import SettingsError, convert
from ballonet.model.terms import LONGEST_NUMBER, Terms, written

NAMESPACE: Final = "https://ballonet.org/xmlns/guest/1"
PRIORITIES: Final = {"low": 500, "normal": 1000, "high": 2000}
"""Shares by priority, one to two to four, as ESXi has them (vSphere Resource Management, Resource Allocation Shares)."""


@written(floor="min", ceiling="max")
class DomainSettings(Terms, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`<guest .../>`: all of it attributes, each may be missing. `min` is its floor and `max` its ceiling."""

    priority: Literal["low", "normal", "high"] | None = None
    """Shares in words; `shares` counts before it."""
    tags: str = ""
    """Words, with spaces between them: for settings that are meant for all guests of a kind."""


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
        shares = str(values["shares"])
        values["shares"] = int(shares) if shares.isdecimal() and len(shares) < LONGEST_NUMBER else shares
    found = convert(values, DomainSettings, origin)
    if found.floor_bytes is not None and found.ceiling_bytes is not None and found.floor_bytes > found.ceiling_bytes:
        raise SettingsError(f"{origin}: at `min`: above `max`; lower it or raise `max`")
    return found


def kept(settings: DomainSettings) -> Terms:
    """The same as terms: priority as shares."""
    by_priority = Terms(shares=None if settings.priority is None else PRIORITIES[settings.priority])
    return settings.over(by_priority)
