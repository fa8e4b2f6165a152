"""File descriptors: each guest costs up to three, and a loop that has none left sees neither the host nor its guests."""

import contextlib
import resource
from typing import Final

from ballonet.model.finding import Finding, Level

A_GUEST: Final = 3
"""QMP, ballonet's agent, QEMU's guest agent."""
OWN: Final = 150
"""Two doors with their connections, history, what is read of the host."""


def raise_limit() -> None:
    """As many as the system allows: systemd's soft limit of 1,024 is for programs that select (systemd.exec(5), LimitNOFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_findings(guests: int) -> list[Finding]:
    """Whether the daemon's file descriptors last for `guests` guests."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OWN + A_GUEST * guests:
        return []
    what = f"the daemon may open {soft} files, and {guests} guests can take {OWN + A_GUEST * guests}"
    return [Finding(level=Level.WARNING, where="host", what=what, remedy="LimitNOFILE=65536 in its unit")]
