"""The host's memory, extent by extent: each has exactly one owner, and nothing is made or lost.

An extent is what virtio-balloon moves with one request: 256 pages of 4 KiB (VIRTIO_BALLOON_ARRAY_PFNS_MAX,
drivers/virtio/virtio_balloon.c, Linux 6.1).
"""

from collections import Counter
from typing import Final

from ballonet.model.units import MIB

EXTENT_BYTES: Final = MIB
FREE: Final = -1
"""Owner of what nobody has."""
HOST: Final = -2
"""Owner of what the host uses itself."""


class LedgerError(AssertionError):
    """An extent would have two owners, or none: the simulation itself is wrong."""


class Ledger:
    """Who owns each of the host's extents. What is lent beyond them lies in the host's swap, and is counted."""

    def __init__(self, total_bytes: int) -> None:
        self.total = total_bytes // EXTENT_BYTES
        self._owners = [FREE] * self.total
        self._free = list(range(self.total - 1, -1, -1))
        self._held: Counter[int] = Counter()
        self._swapped: list[int] = []
        """Numbers beyond `total` that came back and can be lent again."""

    def lend(self, owner: int, count: int) -> list[int]:
        """Gives `count` extents to an owner; when none are free, such as lie in the host's swap (numbers >= total)."""
        owners, free = self._owners, self._free
        cut = max(0, len(free) - count)
        found = free[cut:]
        del free[cut:]
        while len(found) < count:
            if not self._swapped:
                self._swapped.append(len(owners))
                owners.append(FREE)
            found.append(self._swapped.pop())
        for number in found:
            owners[number] = owner
        self._held[owner] += count
        return found

    def take_back(self, owner: int, numbers: list[int]) -> None:
        """Takes extents back from their owner. Raises LedgerError when one is not its."""
        owners = self._owners
        for number in numbers:
            if owners[number] != owner:
                raise LedgerError(f"extent {number} belongs to {owners[number]}, not to {owner}")
            owners[number] = FREE
            (self._free if number < self.total else self._swapped).append(number)
        self._held[owner] -= len(numbers)

    def held(self, owner: int) -> int:
        """How many an owner has."""
        return self._held[owner]

    @property
    def lent(self) -> int:
        """How many are not free, those in the host's swap included."""
        return len(self._owners) - len(self._free) - len(self._swapped)

    def check(self) -> None:
        """Every extent has exactly one owner, and the books agree. Raises LedgerError. Looks at every extent."""
        counted = Counter(self._owners)
        idle = self._free + self._swapped
        if len(set(idle)) != len(idle) or counted.pop(FREE, 0) != len(idle) or any(self._owners[n] != FREE for n in idle):
            raise LedgerError("the free extents are not those that nobody owns")
        if counted != +self._held:
            raise LedgerError(f"owners hold {dict(counted)}, the books say {dict(+self._held)}")
