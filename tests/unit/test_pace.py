"""How much donors are asked for at once: by the speed of their balloons, which small orders do not hide."""

import pytest
from msgspec.structs import replace

from ballonet.decide import stuck
from ballonet.decide.memory import GuestMemory
from ballonet.hypervisors.fake import FakeGuest
from ballonet.model.limits import Limits
from ballonet.model.units import GIB, MIB
from world import World


def after(orders: list[tuple[int, int]], took_per_s: float = 0.0) -> float:
    """The speed known in MiB/s of a balloon that was asked for so many MiB, and gave so many within a second, each time."""
    memory = GuestMemory(keep_bytes=8 * GIB, seen_at=0.0, took_per_s=took_per_s * MIB)
    for turn, (asked, gave) in enumerate(orders):
        here = memory.keep_bytes or 0
        memory = stuck.commanded(replace(memory, asked_bytes=here), here - asked * MIB, float(turn))
        memory = stuck.judge(memory, here - gave * MIB, 16 * GIB, Limits(), turn + 1.0)
    return memory.took_per_s / MIB


def test_a_balloon_that_was_asked_for_little_is_not_slow() -> None:
    """One that arrived had time to spare. Taken for its speed, each small order would make the next one smaller."""
    assert after([(900, 900)] * 3, 800) == 900
    assert after([(30, 30)] * 20, 800) == 800
    assert after([(30, 30)] * 20) == 0  # not known yet
    assert after([(2000, 2000)]) == 2000  # more than is assumed of one that nobody has measured


def test_a_balloon_that_was_still_on_its_way_is_as_slow_as_it_was() -> None:
    """All that it gave in the time is its speed, and what is known follows within a few looks."""
    assert after([(900, 100)]) == 100
    assert after([(900, 100)] * 20, 800) == pytest.approx(100, rel=0.01)


async def given_by_a_slow_one(ceiling: int, dt: float) -> int:
    """What a guest with much to spare and a balloon known for slow gives within 30 s, MiB, once a neighbour needs it."""
    slow = FakeGuest("slow", ceiling_bytes=ceiling, used_bytes=ceiling // 8)
    rising = FakeGuest("rising", ceiling_bytes=8 * GIB, used_bytes=GIB)
    world = World([slow, rising], ceiling + GIB)
    await world.run(20, dt)
    slow.inflate_per_s = 20 * MIB
    known = world.state.guests["slow"]
    world.state = replace(world.state, guests=world.state.guests | {"slow": replace(known, took_per_s=slow.inflate_per_s)})
    before = slow.keep_bytes
    rising.used_bytes = 5 * GIB
    await world.run(30, dt)
    return int(before - slow.keep_bytes) // MIB


@pytest.mark.parametrize("dt", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("ceiling", [8 * GIB, 16 * GIB, 64 * GIB, 256 * GIB])
async def test_what_a_slow_balloon_is_asked_for_is_sent_to_it(ceiling: int, dt: float) -> None:
    """However large the guest, and small against it what its balloon moves at once: others count on it."""
    assert await given_by_a_slow_one(ceiling, dt) > 250
