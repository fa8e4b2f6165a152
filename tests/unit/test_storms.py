"""Storms of random guests and faults; in a file of their own, since they take as long as all other simulations together."""

from ballonet.sim.fuzz import sweep


def test_storms() -> None:
    """1,000 VM-hours of random guests and faults break no invariant; `make fuzz` goes on for as long as one likes."""
    storms = list(sweep(1000))
    assert [broken for _, _, broken in storms if broken] == []  # `ballonet.sim.fuzz.shrink` makes one small
    assert storms[-1][0] >= 1000
