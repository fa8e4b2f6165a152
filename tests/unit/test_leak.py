"""Who grows without end, and who only grows."""

from msgspec.structs import replace

from ballonet.decide import leak
from ballonet.decide.memory import GuestMemory, Use
from ballonet.model.units import GIB

CEILING = 16 * GIB


def after(*says: tuple[float, float]) -> tuple[GuestMemory, float]:
    """What is known after it said so: seconds, GiB in use."""
    memory = GuestMemory()
    for at, used in says:
        memory = leak.follow(replace(memory, use=Use(said_bytes=int(used * GIB))), CEILING, at)
    return memory, says[-1][0]


def is_leak(*says: tuple[float, float]) -> bool:
    memory, now = after(*says)
    return leak.is_endless(memory, CEILING, now)


def rise(start: float, end: float, lasts_s: int, at: float = 0.0) -> list[tuple[float, float]]:
    return [(at + second, start + (end - start) * second / lasts_s) for second in range(lasts_s + 1)]


def test_a_long_steep_rise_that_frees_nothing_is_a_leak() -> None:
    """Half of its ceiling in a minute, and on it goes."""
    assert is_leak(*rise(2, 10, 60))


def test_a_start_a_phase_and_a_sawtooth_are_none() -> None:
    """A service that fills memory in ten seconds; a rise of a fifth; a collector's heap that comes down."""
    assert not is_leak(*rise(2, 12, 10))
    assert not is_leak(*rise(2, 5, 60))
    teeth = [one for n in range(4) for one in (*rise(2, 7, 30, at=40.0 * n), (40.0 * n + 31, 2.0))]
    assert not is_leak(*teeth)


def test_one_that_comes_to_rest_was_none_and_one_at_its_end_still_is() -> None:
    """After a minute without a rise; but at the ceiling there is nowhere to go."""
    assert not is_leak(*rise(2, 10, 60), (60 + leak.PAUSE_S + 1, 10.0))
    assert is_leak(*rise(2, 15.9, 60), (60 + leak.PAUSE_S + 1, 15.9))


def test_a_phase_of_seconds_after_a_long_rest_is_none() -> None:
    """A rise counts from where it began: twelve seconds of it, after nearly a minute in which nothing moved, are a phase."""
    rest = [(float(second), 2.0) for second in range(50)]
    assert not is_leak(*rest, *rise(2, 8, 12, at=50.0))
    assert is_leak(*rest, *rise(2, 8, 24, at=50.0))
