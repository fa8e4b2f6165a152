"""An ordinary adapter without a hypervisor: guests with a simple balloon, for tests and for trying the daemon.

Time is an argument (`clock`), so "did not move for five seconds" is tested without waiting.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ballonet.hypervisors.contract import Capabilities, GuestGoneError, NoAnswerError, RefusedError
from ballonet.hypervisors.remote.guests import RemoteGuests
from ballonet.model.knobs import Steering
from ballonet.model.snapshot import Guest, GuestStats, Mechanism
from ballonet.model.units import GIB


@dataclass
class FakeGuest:
    """A guest and how it behaves. Set the fields at any time."""

    name: str
    ceiling_bytes: int = GIB
    used_bytes: int = GIB // 4
    """What its software holds and touches."""
    inflate_per_s: float = GIB
    """How fast its balloon takes; 0 = it cannot give."""
    deflate_per_s: float = 2 * GIB
    """How fast its balloon returns; 0 = it cannot take."""
    hangs: bool = False
    """Answers nothing, neither commands nor statistics."""
    is_silent: bool = False
    """Its balloon moves, its statistics stay as they are."""
    claims_bytes: int | None = None
    """What it says it uses; None = the truth."""
    says: dict[str, int] = field(default_factory=dict)
    """Statistics that it sends, in place of the true ones or besides them, as an agent would."""
    leave_alone: str = ""
    keep_bytes: float = 0
    asked_bytes: int = 0
    resident_bytes: float = 0
    swapped_bytes: float = 0
    swap_in_bytes: int = 0
    swap_out_bytes: int = 0
    answered_at: float = 0.0

    def __post_init__(self) -> None:
        self.keep_bytes = self.keep_bytes or self.ceiling_bytes
        self.asked_bytes = self.asked_bytes or int(self.keep_bytes)
        self.resident_bytes = self.resident_bytes or min(self.used_bytes, self.keep_bytes)

    def advance(self, dt: float) -> None:
        """Lets `dt` seconds pass: the balloon moves, memory is touched, what does not fit is paged."""
        way = self.asked_bytes - self.keep_bytes
        speed = self.deflate_per_s if way > 0 else self.inflate_per_s
        if not self.hangs:
            self.keep_bytes += max(-speed * dt, min(speed * dt, way))
            swapped = max(0.0, self.used_bytes - self.keep_bytes)
            self.swap_out_bytes += int(max(0.0, swapped - self.swapped_bytes))
            # Who pages keeps paging: the part that is out is touched again and again.
            self.swap_in_bytes += int(max(0.0, self.swapped_bytes - swapped) + min(swapped, self.swapped_bytes) * dt)
            self.swapped_bytes = swapped
            self.resident_bytes = max(min(self.resident_bytes, self.keep_bytes), min(self.used_bytes, self.keep_bytes))

    def stats(self) -> GuestStats:
        """What its balloon driver says now."""
        used = self.used_bytes - self.swapped_bytes if self.claims_bytes is None else self.claims_bytes
        available = max(0, int(self.keep_bytes - used))
        true = {
            "total_bytes": int(self.keep_bytes),
            "free_bytes": available,
            "available_bytes": available,
            "cache_bytes": 0,
            "swap_in_bytes": self.swap_in_bytes,
            "swap_out_bytes": self.swap_out_bytes,
            "major_faults": 0,
        }
        return GuestStats(**(true | self.says))


class FakeHypervisor(RemoteGuests):
    """Fake guests behind the contract, and a fake host that they live on."""

    def __init__(self, guests: Iterable[FakeGuest] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now = clock()
        self._stats: dict[str, GuestStats] = {}
        self._news = asyncio.Event()
        self.fakes = {guest.name: guest for guest in guests}
        self.commands: list[tuple[float, str, int]] = []
        """Every request that was taken: when, which guest, what it shall keep."""
        for guest in self.fakes.values():
            guest.answered_at = self._now

    @property
    def capabilities(self) -> Capabilities:
        """It steers a target by balloons."""
        return Capabilities(name="fake", steering=Steering.TARGET, mechanisms=frozenset({Mechanism.BALLOON}))

    @property
    def news(self) -> asyncio.Event:
        """Never set by itself; tests set it."""
        return self._news

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def guests(self) -> tuple[Guest, ...]:
        """Every guest as it is now by the clock."""
        self._advance()
        return tuple(self._reading(guest) for guest in self.fakes.values())

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:
        """As the contract says; a guest that hangs uses up its deadline on the real clock only if it is the clock."""
        self._advance()
        guest = self.fakes.get(name)
        if guest is None:
            raise GuestGoneError(f"{name}: no such guest")
        if not 0 < keep_bytes <= guest.ceiling_bytes:
            raise RefusedError(f"{name}: {keep_bytes} bytes is not within 1 and its ceiling of {guest.ceiling_bytes}")
        if guest.hangs:
            raise NoAnswerError(f"{name}: no answer in {deadline_s} s")
        guest.asked_bytes = keep_bytes
        self.commands.append((self._now, name, keep_bytes))

    def occupied_bytes(self) -> int:
        """What all guests occupy of the fake host now."""
        self._advance()
        return int(sum(guest.resident_bytes for guest in self.fakes.values()))

    def _advance(self) -> None:
        now = self._clock()
        for guest in self.fakes.values():
            guest.advance(now - self._now)
        self._now = now

    def _reading(self, guest: FakeGuest) -> Guest:
        if not guest.hangs and not guest.is_silent:
            guest.answered_at = self._now
            self._stats[guest.name] = guest.stats()
        return Guest(
            name=guest.name,
            ceiling_bytes=guest.ceiling_bytes,
            keep_bytes=int(guest.keep_bytes),
            keep_age_s=self._now - guest.answered_at if guest.hangs else 0.0,
            resident_bytes=int(guest.resident_bytes),
            stats=self._stats.get(guest.name),
            stats_age_s=self._now - guest.answered_at,
            can_balloon=not guest.leave_alone and not guest.hangs,
            leave_alone=guest.leave_alone or ("it does not answer" if guest.hangs else ""),
        )
