"""R7, function by function: when a balloon counts as still, how long it is left, and what wakes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ballonet.decide.memory import GuestMemory, Motion, Use
from ballonet.decide.stuck import BACKOFF_S, LONGEST_BACKOFF_S, STILL_S, asks_in_vain, commanded, is_under_way, judge
from ballonet.model.limits import Limits
from ballonet.model.units import GIB, MIB

CEILING = 4 * GIB
ASKED = commanded(
    GuestMemory(motion=Motion(keep_bytes=3 * GIB, mark_bytes=3 * GIB, seen_at=0.0), use=Use(used_bytes=2 * GIB)), 2 * GIB, 0.0
)


def stood(memory: GuestMemory, keep: int, until: float, limits: Limits | None = None) -> GuestMemory:
    """After a balloon stood so, looked at each second."""
    for second in range(int(memory.motion.seen_at) + 1, int(until) + 1):
        memory = judge(memory, keep, CEILING, limits or Limits(), float(second))
    return memory


def test_a_balloon_that_does_not_move_is_parked_and_its_back_off_doubles() -> None:
    """Not before 5 s; 10 s the first time, 300 s at the most; with the rule off never."""
    assert stood(ASKED, 3 * GIB, STILL_S - 1).motion.parked_sign == 0
    memory = stood(ASKED, 3 * GIB, STILL_S)
    assert (memory.motion.parked_sign, memory.motion.backoff_s, memory.motion.stuck_bytes) == (-1, BACKOFF_S, 3 * GIB)
    assert stood(ASKED, 3 * GIB, 60, Limits(without=frozenset({"R7"}))).motion.parked_sign == 0
    waits = []
    for _ in range(8):
        waits.append(memory.motion.backoff_s)
        memory = stood(memory, 3 * GIB, memory.motion.parked_until)
        assert memory.motion.parked_sign == 0
        memory = stood(commanded(memory, 2 * GIB, memory.motion.seen_at), 3 * GIB, memory.motion.seen_at + STILL_S + 1)
        assert memory.motion.parked_sign == -1
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
    assert waits[-1] == LONGEST_BACKOFF_S


def test_one_that_moves_is_not_parked_however_slowly() -> None:
    """A mebibyte each four seconds is a move."""
    memory, keep = ASKED, 3 * GIB
    for second in range(1, 60):
        keep -= MIB if second % 4 == 0 else 0
        memory = judge(memory, keep, CEILING, Limits(), float(second))
        assert memory.motion.parked_sign == 0


def test_a_guest_that_frees_memory_is_asked_again_before_its_time() -> None:
    """By a portion: then it can give."""
    memory = stood(ASKED, 3 * GIB, STILL_S)
    assert judge(memory, 3 * GIB, CEILING, Limits(), STILL_S + 1).motion.parked_sign == -1
    freed = replace(memory, use=Use(used_bytes=GIB))
    assert judge(freed, 3 * GIB, CEILING, Limits(), STILL_S + 1).motion.parked_sign == 0


def test_who_does_not_take_is_parked_the_other_way() -> None:
    """And asks in vain until what it was asked is pulled back."""
    memory = stood(commanded(GuestMemory(motion=Motion(keep_bytes=GIB, mark_bytes=GIB, seen_at=0.0)), 2 * GIB, 0.0), GIB, STILL_S)
    assert memory.motion.parked_sign == 1
    assert asks_in_vain(memory, GIB)
    assert not asks_in_vain(replace(memory, motion=replace(memory.motion, asked_bytes=GIB)), GIB)


@pytest.mark.parametrize("keep", [2 * GIB, 2 * GIB + MIB // 2])
def test_one_that_has_arrived_is_at_rest(keep: int) -> None:
    """A little beside what was asked is there."""
    assert not is_under_way(ASKED, keep)
    assert stood(ASKED, keep, 30).motion.parked_sign == 0


@given(st.integers(1, 400), st.integers(1, 400))
def test_its_speed_is_measured_while_it_takes(slow: int, fast: int) -> None:
    """Never beyond what was seen, whatever it was asked before."""
    memory, keep = ASKED, 3 * GIB
    for second, mib in enumerate((slow, fast), 1):
        keep -= mib * MIB
        memory = judge(memory, keep, CEILING, Limits(), float(second))
    assert min(slow, fast) * MIB - 1 <= memory.motion.took_per_s <= max(slow, fast) * MIB + 1
