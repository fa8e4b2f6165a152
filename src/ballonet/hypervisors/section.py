"""One hypervisor's section of the configuration: its keys, how it is opened from them, and how it is called.

Each adapter's folder has its own; `registry.py` names them. Whatever else must know of an adapter asks its section: the daemon,
`check-config`, a reload, the locks, the command line.
"""

from pathlib import Path
from typing import ClassVar, NamedTuple

from msgspec import Struct

from ballonet.hypervisors.contract import Hypervisor


class Around(NamedTuple):
    """What a section does not say itself."""

    root: Path
    """Where /proc and /sys are found."""
    state: Path
    """Where the daemon keeps what must outlive it."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of the configuration that names the guests."""

    called: ClassVar[str]
    """The section's name."""
    example: ClassVar[str]
    """The least that it must say, as it is written down."""

    @property
    def names_guests(self) -> bool:
        """Whether it says whose guests they are."""
        return True

    @property
    def may_limit(self) -> bool:
        """Whether guests' limits may be set while the host is short."""
        return False

    def contradiction(self) -> str:
        """What no single key shows to be wrong: the key, what is wrong and the remedy; empty = nothing."""
        return ""

    def missing(self) -> str:
        """What must be installed before it can be used, in words and with the command; empty = nothing."""
        return ""

    def guests_of(self) -> str:
        """Whose guests they are, in words."""
        raise NotImplementedError

    def steers(self, around: Around) -> str:  # noqa: ARG002 some sections need it
        """What one daemon at a time may steer, in words, the same however it is spelt; empty = its sockets see to that."""
        return self.guests_of()

    def hypervisor(self, around: Around) -> Hypervisor:
        """The adapter, not opened yet.

        Raises:
            SettingsError: a library that it needs is not installed, or a secret cannot be read; says what mends it.
        """
        raise NotImplementedError
