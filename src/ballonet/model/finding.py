"""What stands in the way of ballooning, each with its remedy."""

import enum

from msgspec import Struct


class Level(enum.Enum):
    """How bad it is."""

    NOTE = "note"
    """Good to know."""
    WARNING = "warning"
    """It works less well than it could."""
    FAULT = "fault"
    """It does not work, or is not safe."""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing, and what to do about it."""

    level: Level
    where: str
    """`host`, or a guest's name."""
    what: str
    remedy: str
