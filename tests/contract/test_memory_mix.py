"""Balloon and virtio-mem in one guest: who is asked for what."""

import pytest

from ballonet.hypervisors.qemu.memory import Layout, Split, VirtioMem, split

MIB = 1 << 20
BASE = 1024 * MIB


def device(size_mib: int, requested_mib: int | None = None) -> VirtioMem:
    requested = size_mib if requested_mib is None else requested_mib
    return VirtioMem("/machine/peripheral/vmem0", size_mib * MIB, requested * MIB, 2048 * MIB, 2 * MIB)


@pytest.mark.parametrize(
    ("keep_mib", "plugged_mib", "balloon_mib"),
    [
        (3072, 2048, 1024),  # all of it
        (2000, 976, 1024),  # coarse: virtio-mem alone
        (2001, 978, 1023),  # fine: the balloon takes what its blocks cannot
        (1024, 0, 1024),
        (700, 0, 700),  # below the base only the balloon moves
        (100, 0, 256),  # a quarter of the base stays
    ],
)
def test_coarse_steps_are_virtio_mems(keep_mib: int, plugged_mib: int, balloon_mib: int) -> None:
    """Whole blocks come and go by virtio-mem; the rest by the balloon; together they are what is to be kept."""
    found = split(keep_mib * MIB, BASE, device(2048), is_stuck=False)
    assert found == Split(plugged_mib * MIB, balloon_mib * MIB)


def test_the_balloon_makes_up_for_blocks_that_cannot_be_emptied() -> None:
    """Partial unplug: 300 MiB were to stay plugged and 500 do, so the balloon takes 200 more of the base."""
    keep = BASE + 300 * MIB
    assert split(keep, BASE, device(500, 300), is_stuck=False).balloon == BASE
    assert split(keep, BASE, device(500, 300), is_stuck=True).balloon == BASE - 200 * MIB


def test_without_virtio_mem_the_balloon_does_all() -> None:
    """As it was."""
    assert split(700 * MIB, BASE, None, is_stuck=False) == Split(0, 700 * MIB)
    assert Layout(BASE + 512 * MIB).ceiling_bytes == 1536 * MIB


def test_the_ceiling_does_not_move_with_what_is_plugged() -> None:
    """QEMU counts what is plugged now; what could be is the guest's too."""
    for size_mib in (0, 500, 2048):
        assert Layout(BASE, device(size_mib)).ceiling_bytes == 3072 * MIB
