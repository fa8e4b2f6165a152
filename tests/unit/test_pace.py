"""R11 and R12, function by function: how much at once, how many at once, and what is worth a command."""

from hypothesis import given
from hypothesis import strategies as st

from ballonet.decide.memory import GuestMemory, Motion
from ballonet.decide.pace import EASY_SHARE, HARD_SHARE, dead_band_bytes, donors_at_once, portion_bytes, step_bytes, take_per_s
from ballonet.decide.seat import Seat
from ballonet.decide.table import Table
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest
from ballonet.model.units import GIB, MIB

sizes = st.integers(256 * MIB, 8 << 40)


def seat(ceiling: int, took_per_s: float = 0.0, ready: float | None = None) -> Seat:
    return Seat(Guest(name="a", ceiling_bytes=ceiling, ready_share=ready), GuestMemory(motion=Motion(took_per_s=took_per_s)))


def table(pressure: float, *, off: bool = False) -> Table:
    without = frozenset({"R11"}) if off else frozenset[str]()
    return Table(seats=[], limits=Limits(without=without), total_bytes=GIB, memory_bytes=GIB, pressure_share=pressure)


def test_fewer_give_at_once_as_the_host_is_waited_for() -> None:
    """All below a tenth, one from six tenths on, never none; with the rule off all."""
    found = [donors_at_once(table(pressure / 100), 10) for pressure in range(0, 101, 5)]
    assert found == sorted(found, reverse=True)
    assert found[0] == donors_at_once(table(EASY_SHARE), 10) == 10
    assert donors_at_once(table(HARD_SHARE), 10) == donors_at_once(table(1.0), 10) == 1
    assert donors_at_once(table(1.0, off=True), 10) == 10


@given(sizes, st.floats(0, 4e9), st.none() | st.floats(0, 1))
def test_a_step_is_always_enough_for_a_command(ceiling: int, took: float, ready: float | None) -> None:
    """However slow a balloon is and however little it made ready: what others count on is sent."""
    one = seat(ceiling, took, ready)
    assert step_bytes(one) > dead_band_bytes(one) >= MIB
    assert dead_band_bytes(one) <= max(MIB, portion_bytes(ceiling))
    assert take_per_s(one) > 0


def test_a_balloon_is_asked_for_what_it_moves_in_two_seconds() -> None:
    """As measured; a quarter when it could make nothing ready."""
    assert step_bytes(seat(16 * GIB, 1e9)) == 2_000_000_000
    assert step_bytes(seat(16 * GIB, 1e9, ready=0.0)) == 500_000_000
    assert step_bytes(seat(16 * GIB, 1e9, ready=1.0)) == 2_000_000_000
    assert step_bytes(seat(16 * GIB)) == int(2 * 0.06 * 16 * GIB)


@given(sizes)
def test_what_is_little_is_bounded_on_the_largest(ceiling: int) -> None:
    """What is little to a guest of 4 TiB may be all that its neighbours lack."""
    assert portion_bytes(ceiling) <= GIB
    assert dead_band_bytes(seat(ceiling)) <= 64 * MIB
