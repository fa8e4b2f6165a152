"""How a guest's memory is put together: base memory, from which the balloon takes, and virtio-mem, which comes and goes.

The two are different things. A balloon takes any page inside memory that stays the guest's by name; virtio-mem plugs and
unplugs memory in blocks (dynamic allocation), faster, and only where the guest can empty whole blocks. A guest with both uses
virtio-mem for coarse steps and the balloon for what is left. No I/O here.

QEMU's `balloon` and `query-balloon` count base memory and DIMMs, without NVDIMMs and virtio-mem (hw/virtio/virtio-balloon.c,
get_current_ram_size), so what a guest keeps is that and `size` of its virtio-mem device (qapi/machine.json). A guest with several
of those is left alone: which of them gives first is the guest's administrator's to say.
"""

from typing import Final

from msgspec import Struct

LEAST_BASE_SHARE: Final = 0.25
"""Of base memory: what the balloon leaves of it. A kernel's own needs lie there; virtio-mem's blocks are movable only."""


class VirtioMem(Struct, frozen=True):
    """One virtio-mem device, in bytes."""

    path: str
    """Of the device in QOM."""
    size: int
    """Plugged now."""
    requested: int
    max_size: int
    block: int
    """It moves in steps of this."""


class Split(Struct, frozen=True):
    """What to ask of whom, for a guest to keep a number of bytes."""

    requested: int
    """Of virtio-mem."""
    balloon: int
    """Of base memory, for the `balloon` command."""


class Layout(Struct, frozen=True):
    """How a guest's memory is put together, in bytes."""

    base: int
    """What its balloon counts: memory from the start, and DIMMs."""
    device: VirtioMem | None = None
    """Its virtio-mem; None = it has none."""
    fixed: int = 0
    """What it has besides, which is never moved."""
    unknown: str = ""
    """Why it is not to be moved, in words; empty = it may be."""

    def is_like(self, other: "Layout") -> bool:
        """Whether the same is plugged in; how far a virtio-mem has moved is no difference."""
        mine, theirs = ((one.path, one.max_size, one.block) if one else None for one in (self.device, other.device))
        return (self.base, self.fixed, self.unknown, mine) == (other.base, other.fixed, other.unknown, theirs)

    @property
    def ceiling_bytes(self) -> int:
        """The most that a guest has."""
        return self.base + self.fixed + (self.device.max_size if self.device else 0)


def split(keep: int, base: int, device: VirtioMem | None, *, is_stuck: bool) -> Split:
    """How to make a guest keep `keep` bytes.

    Args:
        keep: > 0 and <= the most that the guest has.
        base: memory that is not virtio-mem.
        device: None = it has none; the balloon does all.
        is_stuck: the device does not reach what it was asked for: the guest cannot empty more blocks, and the balloon makes up
            for it.
    """
    if device is None:
        return Split(0, keep)
    least_base = int(LEAST_BASE_SHARE * base)
    wanted = max(0, keep - base)
    requested = min(device.max_size, -(-wanted // device.block) * device.block)
    plugged = max(requested, device.size) if is_stuck else requested
    return Split(requested, min(base, max(least_base, keep - plugged)))
