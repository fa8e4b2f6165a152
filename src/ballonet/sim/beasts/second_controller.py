"""A second controller on the same host: it sets the guest's balloon to its own figure every ten seconds."""

from collections.abc import Iterator

from ballonet.sim.beasts.outside_hand import strike

__all__ = ["rounds", "strike"]

PERIOD_S = 10.0
MOST_ROUNDS = 360


def rounds(at: float, end: float | None) -> Iterator[float]:
    """When it acts: for an hour at most."""
    for number in range(MOST_ROUNDS):
        when = at + number * PERIOD_S
        if end is not None and when > end:
            return
        yield when
