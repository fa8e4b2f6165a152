"""A guest's memory as its kernel sees it, and the balloon driver in it: reserves extents where it finds them, tells the host.

Each extent of the guest is in exactly one place: never touched, free, in use, or in the balloon. Behind those that were
touched stands an extent of the host.
"""

from ballonet.sim.ledger import EXTENT_BYTES, Ledger, LedgerError


class GuestRam:
    """The extents of one guest, and those of the host behind them."""

    def __init__(self, owner: int, total_bytes: int, ledger: Ledger) -> None:
        self.owner = owner
        self.total = total_bytes // EXTENT_BYTES
        self._ledger = ledger
        self._behind: dict[int, int] = {}
        """The guest's extent -> the host's: the page table."""
        self.untouched = list(range(self.total - 1, -1, -1))
        self.free: list[int] = []
        self.used: list[int] = []
        self.balloon: list[int] = []
        self.is_inert = False
        """What is in the balloon does not go back to the host."""

    @property
    def idle(self) -> int:
        """Extents that the guest can use at once."""
        return len(self.free) + len(self.untouched)

    @property
    def resident(self) -> int:
        """Extents of the host behind this guest."""
        return len(self._behind)

    @property
    def keep(self) -> int:
        """Extents that are not in the balloon."""
        return self.total - len(self.balloon)

    def use(self, count: int) -> int:
        """The guest's software takes up to `count` extents, those that were used before first. Gives how many."""
        warm = _pop(self.free, count)
        cold = _pop(self.untouched, count - len(warm))
        self._touch(cold)
        self.used += warm
        self.used += cold
        return len(warm) + len(cold)

    def release(self, count: int) -> None:
        """The guest's software frees up to `count`; the host goes on paying for them."""
        self.free += _pop(self.used, count)

    def reserve(self, count: int) -> list[int]:
        """The driver reserves up to `count` where it finds them: what was used before comes first in the free lists."""
        found = _pop(self.free, count)
        found += _pop(self.untouched, count - len(found))
        self.balloon += found
        return found

    def surrender(self, extents: list[int]) -> None:
        """The host hears which extents are in the balloon, and takes what stands behind them."""
        if self.is_inert:
            return
        behind = self._behind
        self._ledger.take_back(self.owner, [behind.pop(one) for one in extents if one in behind])

    def restore(self, count: int) -> int:
        """The driver frees up to `count`; the guest touches them again one by one, as it needs them. Gives how many."""
        found = _pop(self.balloon, count)
        self.untouched += found
        return len(found)

    def vanish(self) -> None:
        """The guest ends: all that stood behind it goes back to the host."""
        self._ledger.take_back(self.owner, list(self._behind.values()))
        self._behind.clear()
        self.untouched += self.free + self.used + self.balloon
        self.free, self.used, self.balloon = [], [], []

    def reset(self) -> None:
        """The guest boots anew in the same process: its balloon is gone, and the host goes on paying for what it had touched."""
        self.free += self.used
        self.used = []
        self.restore(len(self.balloon))

    def check(self) -> None:
        """Every extent is in exactly one place, and the host's books agree. Raises LedgerError."""
        everything = self.untouched + self.free + self.used + self.balloon
        if len(everything) != self.total or len(set(everything)) != self.total:
            raise LedgerError(f"guest {self.owner}: an extent is in two places or in none")
        if not self.is_inert and self._behind and set(self._behind) != {*self.free, *self.used}:
            raise LedgerError(f"guest {self.owner}: what it touched is not what the host backs")
        if self._ledger.held(self.owner) != len(self._behind):
            raise LedgerError(
                f"guest {self.owner}: the host's books say {self._ledger.held(self.owner)}, it has {len(self._behind)}"
            )

    def _touch(self, extents: list[int]) -> None:
        extents = [one for one in extents if one not in self._behind] if self.is_inert else extents
        self._behind.update(zip(extents, self._ledger.lend(self.owner, len(extents)), strict=True))


def _pop(stack: list[int], count: int) -> list[int]:
    cut = max(0, len(stack) - max(0, count))
    found = stack[cut:]
    del stack[cut:]
    return found
