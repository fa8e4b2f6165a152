"""R5, function by function: what is taken for suffering, what is given back for it, and for how long there is peace."""

import pytest
from msgspec.structs import replace

from ballonet.decide.estimate import MARGIN_SHARE
from ballonet.decide.feedback import AFTER_S, COOL_S, FORGET_S, LONGEST_COOL_S, PAGING_PER_S, STALL_SHARE, is_cooling, judge
from ballonet.decide.memory import GuestMemory, Peace, Use
from ballonet.model.limits import Limits
from ballonet.model.units import GIB, MIB

CEILING = 4 * GIB


def of(memory: GuestMemory, **changes: float) -> GuestMemory:
    """The same with other use, and another past of commands."""
    peace = {name: value for name, value in changes.items() if name in Peace.__struct_fields__}
    use = {name: value for name, value in changes.items() if name not in peace}
    return replace(memory, use=replace(memory.use, **use), peace=replace(memory.peace, **peace))


GAVE = GuestMemory(use=Use(used_bytes=2 * GIB, sampled_at=101.0), peace=Peace(down_at=100.0, down_from_bytes=3 * GIB))
"""Asked at 100 s to give, from 3 GiB on; heard a second later."""
PAGES = of(GAVE, swap_out_per_s=2 * PAGING_PER_S)


def judged(memory: GuestMemory, now: float = 101.0, keep: int = 2 * GIB, limits: Limits | None = None) -> GuestMemory:
    return judge(memory, keep, CEILING, limits or Limits(), now)


@pytest.mark.parametrize(
    ("memory", "suffers"),
    [
        (PAGES, True),
        (of(GAVE, swap_out_per_s=PAGING_PER_S / 2), False),
        (of(GAVE, swap_in_per_s=2 * PAGING_PER_S, swapped_bytes=GIB), True),
        (of(GAVE, stall_share=2 * STALL_SHARE), True),
        (of(GAVE, stall_share=STALL_SHARE / 2), False),
        (of(PAGES, sampled_at=99.0), False),  # it says so of before it was asked
        (of(PAGES, down_at=101.0 - AFTER_S - 1), False),  # that was long ago
    ],
)
def test_what_is_suffering(memory: GuestMemory, *, suffers: bool) -> None:
    """Paging out, in without room, or standing still, soon after it was asked to give; nothing with the rule off."""
    assert (judged(memory).peace.cool_until > 101.0) is suffers
    assert judged(memory, limits=Limits(without=frozenset({"R5"}))) is memory


def test_it_gets_back_what_explains_its_paging_and_no_more_than_was_taken() -> None:
    """What it uses and has out, and a margin; all that was taken when it pages though it says that it has room."""
    margin = int(2 * MARGIN_SHARE * CEILING)
    assert judged(of(PAGES, swapped_bytes=100 * MIB)).peace.cool_bytes == 2 * GIB + 100 * MIB + margin
    assert judged(of(PAGES, swapped_bytes=8 * GIB)).peace.cool_bytes == 3 * GIB
    assert judged(of(PAGES, used_bytes=GIB)).peace.cool_bytes == 3 * GIB
    assert judged(PAGES, keep=int(3.5 * GIB)).peace.cool_bytes == int(3.5 * GIB)  # it is nobody's reason to give


def test_peace_lasts_longer_each_time_and_the_past_is_forgotten() -> None:
    """4 s, then twice as long, 240 s at the most."""
    memory, waits = PAGES, []
    for _ in range(9):
        now = max(101.0, memory.peace.cool_until + 1)
        memory = judged(of(memory, down_at=now - 1, sampled_at=now), now)
        waits.append(memory.peace.cool_until - now)
    assert waits == [4, 8, 16, 32, 64, 128, 240, 240, 240]
    assert waits[-1] == LONGEST_COOL_S
    later = memory.peace.cool_until + FORGET_S + 1
    assert judged(of(memory, down_at=later - 1, sampled_at=later), later).peace.cool_until == later + COOL_S


def test_peace_ends_when_the_guest_has_freed_memory() -> None:
    """Then it is no longer in trouble."""
    memory = judged(PAGES)
    assert is_cooling(memory, CEILING, 102.0)
    assert not is_cooling(of(memory, used_bytes=GIB), CEILING, 102.0)
    assert not is_cooling(memory, CEILING, memory.peace.cool_until)
