"""What adapters of one host's guests have in common: many guests that come and go, each found by its name."""

import asyncio
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from ballonet.hypervisors.contract import GuestGoneError
from ballonet.hypervisors.local.beats import Beats
from ballonet.model.finding import Finding
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest


class Member(Protocol):
    """One of its guests."""

    name: str

    @property
    def pid(self) -> int | None:
        """Its process; None while it is not known."""
        ...

    def reading(self) -> Guest | None:
        """What is known now; None until there is something."""
        ...

    def watch(self, look: Look) -> None:
        """As the contract says."""
        ...

    async def make_ready(self, free_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        ...

    async def set_keep(self, keep_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        ...


M = TypeVar("M", bound=Member)


class LocalAdapter(Generic[M]):
    """The part of the contract that every such adapter does alike."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._guests: dict[str, M] = {}
        """By what does not change of a guest: its socket, its UUID."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._beats = Beats()
        self._keys: dict[str, str] = {}
        """Of guests, by the names that they were found by last."""

    @property
    def news(self) -> asyncio.Event:
        """As the contract says."""
        return self._news

    def guests(self) -> tuple[Guest, ...]:
        """As the contract says."""
        met = self._take_stock()
        readings = (guest.reading() for guest in met.values())
        return tuple(reading for reading in readings if reading is not None)

    def findings(self) -> list[Finding]:
        """As the contract says."""
        return []

    def pids(self) -> Mapping[str, int]:
        """As the contract says."""
        return {guest.name: pid for guest in self._met().values() if (pid := guest.pid) is not None}

    def watch(self, name: str, look: Look) -> None:
        """As the contract says."""
        if (guest := self._named(name)) is not None:
            guest.watch(look)

    async def make_ready(self, name: str, free_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        if (guest := self._named(name)) is not None:
            await guest.make_ready(free_bytes, deadline_s)

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        guest = self._named(name)
        if guest is None:
            raise GuestGoneError(f"{name}: no such guest")
        await guest.set_keep(keep_bytes, deadline_s)

    def _met(self) -> dict[str, M]:
        """Those that are read and steered, by what does not change of them, each with a name of its own."""
        return self._guests

    def _named(self, name: str) -> M | None:
        found = self._guests.get(self._keys.get(name, ""))
        if found is not None and found.name == name:
            return found
        self._take_stock()
        return self._guests.get(self._keys.get(name, ""))

    def _take_stock(self) -> dict[str, M]:
        met = self._met()
        self._keys = {guest.name: key for key, guest in met.items()}
        return met
