"""What stands in the way of ballooning, each with its remedy."""

import enum
from typing import Final

from msgspec import Struct


class Level(enum.Enum):
    """How bad it is."""

    NOTE = "note"
    """Good to know."""
    WARNING = "warning"
    """It works less well than it could."""
    FAULT = "fault"
    """It does not work, or is not safe."""


HOST: Final = "host"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing, and what to do about it."""

    level: Level
    where: str
    """`host`, or a guest's name."""
    what: str
    remedy: str


def fault(what: str, remedy: str) -> Finding:
    """One of the host that keeps it from working."""
    return Finding(level=Level.FAULT, where=HOST, what=what, remedy=remedy)
