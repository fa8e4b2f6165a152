"""The contract between ballonet and a hypervisor. `ballonet.testing.check_hypervisor` runs it on any adapter.

An adapter watches its guests by itself, one task or thread each, so that a guest that hangs delays nobody. `guests()`
hands out what is known by then and never waits.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from msgspec import Struct

from ballonet.model.finding import Finding
from ballonet.model.knobs import Knobs, Steering
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest, Host, Mechanism
from ballonet.model.terms import Terms


class Capabilities(Struct, frozen=True, kw_only=True):
    """What an adapter can do."""

    name: str
    """The adapter's name in the configuration."""
    steering: Steering
    mechanisms: frozenset[Mechanism]


class HypervisorError(Exception):
    """A command did not do what was asked. The subclass says what is known after it."""


class GuestGoneError(HypervisorError):
    """No such guest (any more). Its memory is back at the host or on its way there; nothing else changed."""


class RefusedError(HypervisorError):
    """The hypervisor said no. Nothing changed."""


class NoAnswerError(HypervisorError):
    """No answer in time, or the connection broke in the middle.

    Unknown: whether the command took effect, now or later. Count the guest at the larger of what it had and what it
    was asked to keep, until it answers again.
    """


class Hypervisor(Protocol):
    """What an adapter does. All sizes in bytes."""

    @property
    def capabilities(self) -> Capabilities:
        """What this adapter can do. Constant."""
        ...

    @property
    def news(self) -> asyncio.Event:
        """Set by the adapter when the loop should not wait for its next tick; cleared by the loop."""
        ...

    async def open(self) -> None:
        """Starts watching. Guests appear in `guests()` as they answer. Cancelled: call `close` all the same."""
        ...

    async def close(self) -> None:
        """Stops watching and leaves every guest as it is. May be called twice."""
        ...

    def guests(self) -> tuple[Guest, ...]:
        """What is known of each guest now, with ages; operator's settings at their defaults. Never waits.

        Names are unique. Resident memory is measured in this very call where the host can measure it.
        """
        ...

    def findings(self) -> list[Finding]:
        """What keeps its guests away from it now, all or some, and what of theirs it cannot read; each with its remedy."""
        ...

    def terms(self, name: str) -> Terms:
        """What the operator has written down of a guest at the hypervisor; nothing where there is no place for that."""
        ...

    def pids(self) -> Mapping[str, int]:
        """The guests' processes on this host by their names, as far as there are any."""
        ...

    def watch(self, name: str, look: Look) -> None:
        """Looks at a guest as closely as `look` says from now on. An unknown name is ignored: it may just have gone."""
        ...

    async def make_ready(self, name: str, free_bytes: int, deadline_s: float) -> None:
        """Asks a guest's agent to make `free_bytes` free, before its balloon takes it. Returns when it has answered, or
        after `deadline_s`, or at once where nothing can be asked; `guests()` shows as `ready_share` what came of it.
        """
        ...

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:
        """Asks a guest's balloon to leave it `keep_bytes`. Returns when the hypervisor has taken the request; the
        guest gets there later, or never: `guests()` shows how far it is.

        Args:
            name: of a guest.
            keep_bytes: > 0 and <= its ceiling.
            deadline_s: give up after this long.

        Raises:
            GuestGoneError: no such guest.
            RefusedError: out of range, no balloon, or the hypervisor says no.
            NoAnswerError: nothing in time. Cancellation leaves the same unknown.
        """
        ...


@runtime_checkable
class Guided(Protocol):
    """What an adapter also does where the hypervisor is another machine with a loop of its own, which has knobs (steering by
    entitlement or bounds).
    """

    def host(self) -> Host | None:
        """That machine, as it says of itself; None = not heard yet, or not for long."""
        ...

    def knobs(self) -> dict[str, Knobs]:
        """How they stand for each guest now."""
        ...

    def originals(self) -> dict[str, Knobs]:
        """How they stood before ballonet turned one, as far as it did."""
        ...

    async def turn(self, name: str, wish: Knobs, deadline_s: float) -> None:
        """Sets a guest's knobs; how they stood before ballonet is written down first.

        Raises:
            GuestGoneError: no such guest.
            RefusedError: out of range, or the hypervisor says no; the text says why and what mends it.
            NoAnswerError: nothing in time.
        """
        ...

    async def restore(self, deadline_s: float = 30.0) -> tuple[dict[str, Knobs], dict[str, str]]:
        """Puts back how the knobs stood before ballonet: of whom they are, and of whom they are not and why. May be called on an
        adapter that was not opened, and again. Raises HypervisorError when nothing can be read.
        """
        ...
