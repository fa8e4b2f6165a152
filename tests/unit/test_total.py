"""MemTotal that stays while the balloon moves: Windows, vmmemctl, Linux with deflate-on-oom."""

import pytest

from ballonet.decide import estimate, stuck
from ballonet.decide.memory import GuestMemory, Motion
from ballonet.decide.total import kept_then
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, GuestStats
from ballonet.model.units import GIB, MIB

USED = 2 * GIB
LIMITS = Limits()


def said(keep_mib: int, used: int = USED, *, fixed: bool, age_s: float = 0.0) -> Guest:
    """A guest of 8 GiB that has 256 MiB beside its MemTotal, and uses `used` of all."""
    total = (8 * GIB if fixed else keep_mib * MIB) - 256 * MIB
    stats = GuestStats(total_bytes=total, available_bytes=keep_mib * MIB - used)
    return Guest(name="g", ceiling_bytes=8 * GIB, keep_bytes=keep_mib * MIB, stats=stats, stats_age_s=age_s)


def seen(memory: GuestMemory, guest: Guest, now: float) -> GuestMemory:
    return stuck.judge(estimate.remember(memory, guest, LIMITS, now), guest.keep_bytes or 0, guest.ceiling_bytes, LIMITS, now)


@pytest.mark.parametrize("fixed", [True, False])
def test_a_balloon_is_no_growth(fixed: bool) -> None:
    """While its balloon takes 4 GiB and gives them back, a guest that uses the same seems neither to grow nor to shrink."""
    memory = seen(GuestMemory(), said(8192, fixed=fixed), 0.0)
    memory = stuck.commanded(memory, 4 * GIB, 0.0)
    ways = [*range(8192, 4095, -128), *range(4096, 8193, 128)]
    for number, keep_mib in enumerate(ways, start=1):
        memory = seen(memory, said(keep_mib, fixed=fixed), number * 0.2)
        assert not memory.use.growth_per_s
        if memory.use.total_follows is not None:
            assert memory.use.used_bytes == USED
    assert memory.use.total_follows is not fixed


def test_growth_is_seen_while_the_balloon_rests_and_while_it_moves() -> None:
    """A guest whose MemTotal is fixed rises at 1 GiB/s: that is seen at rest, and most of it while it is given memory."""
    memory = seen(GuestMemory(), said(6144, fixed=True), 0.0)
    for number in range(1, 5):
        memory = seen(memory, said(6144 - 128 * number, fixed=True), number * 0.2)
    assert memory.use.total_follows is False
    memory = seen(memory, said(5632, fixed=True), 2.0)
    memory = seen(memory, said(5632, USED + 200 * MIB, fixed=True), 2.2)
    assert memory.use.growth_per_s == pytest.approx(1000 * MIB, rel=0.01)
    memory = seen(memory, said(5832, USED + 400 * MIB, fixed=True), 2.4)
    assert memory.use.growth_per_s > 700 * MIB
    assert memory.use.used_bytes == USED + 400 * MIB


def test_what_it_kept_is_that_of_the_moment_of_its_statistics() -> None:
    """Between two ticks its balloon moved evenly, and not before it was asked to."""
    memory = GuestMemory(motion=Motion(keep_bytes=4 * GIB, seen_at=10.0, kept_bytes=4 * GIB, kept_at=9.0, commanded_at=10.0))
    for age_s, kept in ((0.0, 5 * GIB), (0.25, 4.75 * GIB), (1.0, 4 * GIB), (1.5, 4 * GIB)):
        assert kept_then(memory, said(5120, fixed=True, age_s=age_s), 5 * GIB, 11.0) == kept
