"""R13's second line: a balloon that took, and left what its guest occupies where it was."""

import pytest
from msgspec.structs import replace

from ballonet.decide import inert
from ballonet.decide.memory import GuestMemory
from ballonet.model.units import GIB, MIB

CEILING = 8 * GIB


def judged(*looks: tuple[float, int, int | None], memory: GuestMemory | None = None) -> GuestMemory:
    """What is believed after looks: seconds, kept and occupied MiB."""
    memory = memory or inert.judge(GuestMemory(), CEILING, CEILING, CEILING, -1.0)
    for at, keep, occupied in looks:
        memory = inert.judge(memory, None if occupied is None else occupied * MIB, keep * MIB, CEILING, at)
    return memory


def is_alone(memory: GuestMemory, now: float) -> bool:
    return now < memory.proof.inert_until


def test_what_does_not_come_back_in_two_seconds_never_does() -> None:
    """Two GiB were taken and nothing came: in doubt at once, left alone two seconds later, and back goes what was taken."""
    doubted = judged((0.0, 6144, 8192))
    assert inert.is_doubted(doubted, 0.0)
    assert not is_alone(doubted, 1.9)
    found = judged((0.0, 6144, 8192), (2.0, 6144, 8192))
    assert is_alone(found, 3.0)
    assert found.proof.inert_keep_bytes == CEILING
    assert not is_alone(found, 2.0 + inert.ALONE_S)


@pytest.mark.parametrize("came", [2048, 1100])
def test_what_comes_back_late_or_in_part_works(came: int) -> None:
    """A host that sees it a second later, or a guest that fills other pages meanwhile."""
    found = judged((0.0, 6144, 8192), (1.0, 6144, 8192 - came), (9.0, 6144, 8192 - came))
    assert not inert.is_doubted(found, 9.0)
    assert not is_alone(found, 9.0)


def test_little_proves_nothing_and_neither_does_what_cannot_be_measured() -> None:
    """Less than a portion, or no figure of what it occupies."""
    assert not inert.is_doubted(judged((0.0, 8192 - 16, 8192), (5.0, 8192 - 16, 8192)), 5.0)
    assert not inert.is_doubted(judged((0.0, 4096, None), (5.0, 4096, None)), 5.0)


def test_it_is_tried_again_after_twice_as_long() -> None:
    """Devices are unplugged and pins let go; who is inert again waits longer, up to a day."""
    once = judged((0.0, 6144, 8192), (2.0, 6144, 8192))
    later = 2.0 + inert.ALONE_S + 1
    back = replace(once, proof=replace(once.proof, proof_keep_bytes=CEILING, proof_excess_bytes=0))
    twice = judged((later, 6144, 8192), (later + 2, 6144, 8192), memory=back)
    assert twice.proof.inert_until - (later + 2) == 2 * inert.ALONE_S
    long = judged(
        (later, 6144, 8192),
        (later + 2, 6144, 8192),
        memory=replace(back, proof=replace(back.proof, inert_s=inert.LONGEST_ALONE_S)),
    )
    assert long.proof.inert_s == inert.LONGEST_ALONE_S


@pytest.mark.parametrize("own", [20, 50, 90])
def test_what_qemu_has_beside_ram_is_no_pin(own: int) -> None:
    """A small guest fills its memory just as its balloon takes a little."""
    small = 1024 * MIB
    memory = inert.judge(GuestMemory(), 900 * MIB, small, small, 0.0)
    for at in range(1, 9):
        memory = inert.judge(memory, (964 + own) * MIB, 964 * MIB, small, float(at))
    assert not inert.is_doubted(memory, 9.0)
