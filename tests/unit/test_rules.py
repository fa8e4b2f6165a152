"""Each safety holds in a small world, and does not hold with its rule switched off."""

from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from ballonet.decide import stuck
from ballonet.decide.estimate import needs
from ballonet.decide.floor import default_floor_bytes
from ballonet.decide.memory import GuestMemory, Motion, Use
from ballonet.decide.pace import dead_band_bytes, portion_bytes
from ballonet.decide.policies.adaptive import _is_donor, _over_bytes
from ballonet.decide.seat import Seat
from ballonet.decide.step import START, step
from ballonet.decide.table import Table
from ballonet.hypervisors.fake import FakeGuest
from ballonet.model.limits import Limits
from ballonet.model.plan import Plan, Reason
from ballonet.model.snapshot import Budget, Guest, GuestStats, Host, Snapshot
from ballonet.model.units import GIB, MIB
from world import World


def without(*rules: str) -> Limits:
    return Limits(without=frozenset(rules))


def idle(name: str, used: int = 256 * MIB) -> FakeGuest:
    return FakeGuest(name, used_bytes=used)


async def budget_overrun(limits: Limits) -> int:
    """The most that was promised beyond the budget, once a start with everything promised was cured."""
    world = World([idle(f"g{n}") for n in range(4)], 2 * GIB, limits)
    await world.run(30)
    most = 0
    for name in ("g0", "g1", "g2"):
        world.guest(name).used_bytes = 900 * MIB
        for _ in range(20):
            await world.tick()
            most = max(most, world.promised_bytes() - world.budget_bytes)
    return most


async def test_r4_never_promises_what_is_not_there() -> None:
    """After every tick the guests may together take no more than the host has; without R4 they may."""
    assert await budget_overrun(Limits()) <= 2 * MIB
    assert await budget_overrun(without("R4")) > 50 * MIB


async def lowest_keep(limits: Limits) -> int:
    world = World([idle("a", 20 * MIB), idle("b", 900 * MIB), idle("c", 900 * MIB)], 2 * GIB, limits, {"a": 400 * MIB})
    await world.run(30)
    return int(world.guest("a").keep_bytes)


async def test_r6_keeps_floors() -> None:
    """A guest is never asked to keep less than its floor; without R6 it is."""
    assert await lowest_keep(Limits()) >= 400 * MIB
    assert await lowest_keep(without("R6")) < 350 * MIB


async def stuck_promises(limits: Limits) -> bool:
    """Whether a guest that cannot give is recognised and its request pulled back to what it has."""
    stuck = FakeGuest("stuck", used_bytes=100 * MIB, inflate_per_s=0)
    world = World([stuck, idle("a"), idle("b")], 5 * GIB // 2, limits)
    await world.run(20)
    return abs(stuck.asked_bytes - stuck.keep_bytes) < 2 * MIB and world.swings("a", 10) == 0


async def test_r7_parks_a_stuck_guest() -> None:
    """A guest that does not move is parked at what it has, and the others do not swing; without R7 it is asked for ever."""
    assert await stuck_promises(Limits())
    assert not await stuck_promises(without("R7"))


async def stale_loses(limits: Limits) -> bool:
    silent = FakeGuest("silent", used_bytes=100 * MIB)
    world = World([silent, idle("a"), idle("b")], 4 * GIB, limits)
    await world.run(5)
    silent.is_silent = True
    await world.run(5)
    before = silent.asked_bytes
    world.budget_bytes = 2 * GIB
    await world.run(20)
    return silent.asked_bytes < before


async def test_r8_takes_nothing_on_old_news() -> None:
    """A guest whose statistics are old loses nothing; without R8 it does."""
    assert not await stale_loses(Limits())
    assert await stale_loses(without("R8"))


async def test_r13_leaves_alone_what_cannot_be_ballooned() -> None:
    """A guest that must be left alone gets no command, and the plan says why; without R13 it does."""
    for limits, commanded in ((Limits(), False), (without("R13"), True)):
        world = World([FakeGuest("alone", used_bytes=100 * MIB, leave_alone="VFIO"), idle("a")], GIB, limits)
        await world.run(10)
        assert any(name == "alone" for _, name, _ in world.hypervisor.commands) is commanded
        if not commanded:
            assert "VFIO" in world.plans[-1].guests[0].sentence


@pytest.mark.parametrize("why", ["", "QEMU has not answered for 4 s"])
def test_whose_balloon_never_told_what_it_keeps_is_left_alone_with_the_reason(why: str) -> None:
    """A guest that fell silent before its first answer: the plan says that nothing is known, and why once that is known."""
    silent = Guest(name="a", ceiling_bytes=2 * GIB, can_balloon=not why, leave_alone=why)
    _, plan = step(START, picture(silent, available=GIB, total=4 * GIB), Limits(), 0.0)
    assert (plan.guests[0].reason, plan.guests[0].keep_bytes, plan.guests[0].is_command) == (Reason.UNKNOWN, None, False)
    assert plan.guests[0].sentence.endswith(f"is not known: {why or 'its hypervisor has not told it yet'}")


async def free_at_spike(limits: Limits) -> int:
    world = World([idle(f"g{n}") for n in range(4)], 3 * GIB, limits)
    await world.run(30)
    return int(world.budget_bytes - world.promised_bytes())


async def test_r3_keeps_a_reserve() -> None:
    """Some of the host is unpromised when a spike comes; without R3 all is promised."""
    assert await free_at_spike(Limits()) > 100 * MIB
    assert await free_at_spike(without("R3")) < 60 * MIB


async def commands_in_a_steady_world(limits: Limits) -> int:
    """How many commands guests get whose use wobbles by 3 MiB, once all have settled."""
    world = World([idle("a"), idle("b", 700 * MIB), idle("c", 100 * MIB)], 1300 * MIB, limits)
    await world.run(60)
    before = len(world.hypervisor.commands)
    for number in range(480):
        world.guest("a").used_bytes = (256 + number % 2 * 3) * MIB
        world.guest("c").used_bytes = (100 + number % 3) * MIB
        await world.tick()
    return len(world.hypervisor.commands) - before


async def test_r12_a_steady_world_comes_to_rest() -> None:
    """After a while nothing is asked of anybody any more; without R12 guests are moved back and forth."""
    assert await commands_in_a_steady_world(Limits()) == 0
    assert await commands_in_a_steady_world(without("R12")) > 20


async def relief_s(limits: Limits) -> float:
    """Seconds until a guest that suddenly uses 640 MiB more keeps that much."""
    world = World([idle(f"g{n}") for n in range(4)], 3 * GIB, limits)
    await world.run(30)
    world.guest("g0").used_bytes = 900 * MIB
    start = world.now
    while world.guest("g0").keep_bytes < 900 * MIB and world.now < start + 60:
        await world.tick()
    return float(world.now - start)


async def test_r1_guests_before_thresholds() -> None:
    """A guest in need has its memory within a second; in steps and behind the host's own threshold, without R1, it has not."""
    assert await relief_s(Limits()) < 1
    assert await relief_s(without("R1")) > 1


async def squeezed_s() -> float:
    """Seconds until a guest that an outside hand squeezed has what it uses."""
    world = World([idle("victim", 700 * MIB), idle("a"), idle("b")], 2 * GIB)
    await world.run(20)
    world.guest("victim").asked_bytes = 300 * MIB
    start = world.now
    await world.run(0.75)
    while world.guest("victim").keep_bytes < 700 * MIB and world.now < start + 30:
        await world.tick()
    return float(world.now - start)


async def test_an_outside_squeeze_is_undone() -> None:
    """A guest that another controller squeezed has its memory back within 3 s."""
    assert await squeezed_s() <= 3


async def paged_by_a_volatile_guest(limits: Limits) -> int:
    """What a guest whose use comes and goes every few seconds pages out, once it is known for that."""
    world = World([idle("volatile", 300 * MIB), idle("a", 500 * MIB), idle("b", 500 * MIB)], 1750 * MIB, limits)
    await world.run(20)
    before = 0
    for number in range(40):
        world.guest("volatile").used_bytes = (600 if number % 2 else 300) * MIB
        await world.run(3)
        if number == 12:
            before = world.guest("volatile").swap_out_bytes
    return world.guest("volatile").swap_out_bytes - before


async def test_r2_need_remembers_and_foresees() -> None:
    """A volatile guest is not squeezed to what it uses between its peaks, of 300 MiB, fourteen times at once; without R2 it
    pages at each of them.
    """
    assert await paged_by_a_volatile_guest(Limits()) < 0.005 * 14 * 300 * MIB
    assert await paged_by_a_volatile_guest(without("R2")) > 100 * MIB


async def kept_by_a_liar(limits: Limits) -> float:
    """What a guest is given that keeps 300 MiB, has touched 50 of them, and says that it uses more than it has."""
    liar = FakeGuest("liar", used_bytes=50 * MIB, claims_bytes=10 * GIB, keep_bytes=300 * MIB)
    world = World([liar, idle("a", 400 * MIB), idle("b", 400 * MIB)], 3 * GIB, limits)
    world.guest("a").keep_bytes = world.guest("b").keep_bytes = 500 * MIB
    await world.run(9)
    return liar.keep_bytes


async def test_r9_a_claim_gives_nothing_that_the_host_has_not_seen() -> None:
    """A guest that claims to use more than it ever touched is given nothing for it; without R9 it gets all that it has."""
    assert await kept_by_a_liar(Limits()) < 350 * MIB
    assert await kept_by_a_liar(without("R9")) > 900 * MIB


async def lowest_that_says_it_has_nothing_free(budget: int) -> float:
    """Of a guest that keeps 1 GiB, has touched 300 MiB, and has nothing available by its own word: huge pages inside, say."""
    one = FakeGuest("one", used_bytes=300 * MIB, claims_bytes=GIB)
    world = World([one, idle("a", 300 * MIB), idle("b", 300 * MIB)], budget)
    await world.run(20)
    world.guest("a").used_bytes = 600 * MIB
    await world.run(20)
    assert world.guest("a").keep_bytes > 606 * MIB
    return min(plan.guests[0].keep_bytes or 0 for plan in world.plans)


async def test_r9_nothing_is_taken_that_a_guest_says_it_uses() -> None:
    """While there is room for all it keeps it; when there is not, it has its share and no more."""
    assert await lowest_that_says_it_has_nothing_free(3 * GIB) == GIB
    assert 2 * GIB / 3 - 32 * MIB < await lowest_that_says_it_has_nothing_free(2 * GIB) < GIB


async def lowest_of_a_guest_with_swap(total_mib: int, free_mib: int, neighbours: int) -> float:
    """What a guest that uses 600 MiB is squeezed to, when its neighbours grow to what does not fit on 650 MiB for each."""
    one = idle("one", 600 * MIB)
    one.says = {"swap_total_bytes": total_mib * MIB, "swap_free_bytes": free_mib * MIB}
    others = [idle(f"other-{number}", 300 * MIB) for number in range(neighbours)]
    world = World([one, *others], 650 * MIB * (1 + neighbours), Limits())
    await world.run(20)
    for other in others:
        other.used_bytes = 980 * MIB
    await world.run(20)
    return min(plan.guests[0].keep_bytes or 0 for plan in world.plans)


@pytest.mark.parametrize(("total_mib", "free_mib"), [(0, 0), (64, 64), (2048, 10), (2048, 2048)])
async def test_r6_below_its_part_nobody_is_squeezed(total_mib: int, free_mib: int) -> None:
    """No swap, a small one, a full one, a large one: never below what it uses and a margin, whoever is short."""
    assert await lowest_of_a_guest_with_swap(total_mib, free_mib, 1) > 606 * MIB
    assert await lowest_of_a_guest_with_swap(total_mib, free_mib, 3) > 606 * MIB


async def kept_beyond_its_part(says: dict[str, int], shares: int) -> tuple[float, float]:
    """What a guest keeps that took 900 MiB first, while its neighbour rises to as much; and what that one keeps. On 1,300 MiB."""
    first = FakeGuest("first", used_bytes=900 * MIB, says=says)
    world = World([first, idle("second", 300 * MIB)], 1300 * MIB, shares={"second": shares})
    await world.run(20)
    world.guest("second").used_bytes = 900 * MIB
    await world.run(40)
    return first.keep_bytes, world.guest("second").keep_bytes


@pytest.mark.parametrize("says", [{}, {"swap_total_bytes": 0, "swap_free_bytes": 0}, {"swap_free_bytes": 4 * GIB}])
async def test_r10_who_was_first_keeps_no_more_than_its_part(says: dict[str, int]) -> None:
    """Swap or none, known or not: both end at their shares, of equal weight or of one to three."""
    first, second = await kept_beyond_its_part(says, 1000)
    assert abs(first - second) < 0.05 * 650 * MIB
    first, second = await kept_beyond_its_part(says, 3000)
    assert second > 2 * first


async def test_r10_who_shows_swap_in_for_ever_gives_what_is_not_its_part() -> None:
    """Distress protects up to the part that shares give, and no further: its neighbour is not to page for it."""
    liar = FakeGuest("liar", used_bytes=900 * MIB)
    world = World([liar, idle("a", 300 * MIB)], 1300 * MIB)
    for second in range(60):
        liar.says = {"swap_in_bytes": second * 10 * MIB}
        world.guest("a").used_bytes = (900 if second > 20 else 300) * MIB
        await world.run(1)
    assert abs(liar.keep_bytes - world.guest("a").keep_bytes) < 0.05 * 650 * MIB


HOSTILE = (
    {"available_bytes": 0, "rising_per_s": 1 << 50},
    {"heap_missing_bytes": 1 << 40, "available_bytes": 0},
    {"total_bytes": 1 << 40, "available_bytes": 0, "psi_full_us": 1 << 60},
    {"total_bytes": 0, "available_bytes": 1 << 50, "swap_free_bytes": 0},
)


@pytest.mark.parametrize("says", HOSTILE)
async def test_r9_a_hostile_agent_gains_no_more_than_its_shares(says: dict[str, int]) -> None:
    """Whatever it claims, of a host that is short it gets at the most what its shares are, and others page nothing for it."""
    liar = FakeGuest("liar", used_bytes=100 * MIB, says=says)
    world = World([liar, idle("a", 600 * MIB), idle("b", 600 * MIB)], 2 * GIB)
    await world.run(30)
    assert liar.keep_bytes < 2 * GIB / 3 + 8 * MIB
    assert world.guest("a").swap_out_bytes == world.guest("b").swap_out_bytes == 0
    assert min(world.guest("a").keep_bytes, world.guest("b").keep_bytes) > 620 * MIB


async def test_r9_one_that_claims_to_page_more_and_more_is_no_reason_to_page_others() -> None:
    """Swap counters that rise for ever raise its need to its ceiling; its shares bound what it gets of it."""
    liar = FakeGuest("liar", used_bytes=100 * MIB)
    world = World([liar, idle("a", 600 * MIB), idle("b", 600 * MIB)], 2 * GIB)
    for second in range(60):
        liar.says = {"swap_out_bytes": second << 34, "swap_in_bytes": second << 33}
        await world.run(1)
    assert liar.keep_bytes < 2 * GIB - 2 * 620 * MIB
    assert world.guest("a").swap_out_bytes == world.guest("b").swap_out_bytes == 0


async def test_r15_every_decision_has_a_reason_in_words() -> None:
    """Each decision of each tick has a code and a sentence that can be read."""
    world = World([idle("a"), FakeGuest("hung", hangs=True), FakeGuest("stuck", inflate_per_s=0), idle("c", 900 * MIB)], 2 * GIB)
    await world.run(30)
    for plan in world.plans:
        for one in plan.guests:
            assert isinstance(one.reason, Reason)
            assert len(one.sentence) > 10
            assert "{" not in one.sentence


@pytest.mark.parametrize(("size", "floor"), [(512, 168), (2048, 360), (8192, 744), (32768, 1512)])
def test_default_floor_is_hv_balloons(size: int, floor: int) -> None:
    """The default floor is Linux's hv_balloon's."""
    assert default_floor_bytes(size * MIB) == floor * MIB


# Rules that one picture shows


LIMITS = Limits()


def picture(*guests: Guest, available: int = GIB, total: int = 8 * GIB, pressure: float = 0.0) -> Snapshot:
    return Snapshot(host=Host(total_bytes=total, available_bytes=available, cpu_some_avg10_share=pressure), guests=guests)


def seen(name: str, keep: int, used: int, swapped_out: int = 0, **more: Any) -> Guest:
    stats = GuestStats(total_bytes=keep, available_bytes=max(0, keep - used), swap_in_bytes=0, swap_out_bytes=swapped_out)
    more = {"ceiling_bytes": 4 * GIB} | more
    return Guest(name=name, keep_bytes=keep, resident_bytes=keep, stats=stats, stats_age_s=0.0, **more)


def after_paging(limits: Limits) -> int:
    """What a guest is asked to keep one look after it paged out while its balloon grew."""
    state, plan = step(START, picture(seen("a", 3 * GIB, GIB), seen("b", 3 * GIB, 2900 * MIB), available=300 * MIB), limits, 0.0)
    asked = plan.guests[0].keep_bytes or 0
    assert asked < 3 * GIB
    here = asked + 20 * MIB
    _, plan = step(
        state, picture(seen("a", here, GIB, 64 * MIB), seen("b", 3 * GIB, 2900 * MIB), available=300 * MIB), limits, 0.5
    )
    return (plan.guests[0].keep_bytes or 0) - here


def test_r5_gives_back_what_made_a_guest_page() -> None:
    """A guest that pages out while its balloon grows is asked for no more within one look; without R5 it is."""
    assert after_paging(Limits()) >= 0
    assert after_paging(without("R5")) < 0


def rationed(limits: Limits, keep: int = GIB) -> dict[str, int]:
    """Who is short of three guests that use all that they keep on a host without more, and by how much."""
    guests = [
        seen(name, keep, keep - 24 * MIB, guaranteed_bytes=guaranteed)
        for name, guaranteed in (("a", 0), ("b", 0), ("c", 900 * MIB))
    ]
    _, plan = step(START, picture(*guests, available=0, total=2 * GIB), limits, 0.0)
    return {short.name: short.bytes for short in plan.short}


def test_r10_is_fair_when_it_does_not_fit() -> None:
    """All are short by the same; without R10 the last one bears it all."""
    fair, first_come = rationed(Limits()), rationed(without("R10"))
    assert set(fair) == {"a", "b", "c"}
    assert max(fair.values()) - min(fair.values()) < 8 * MIB
    assert set(first_come) == {"c"}


def test_r10_names_who_is_short_and_not_who_holds_it() -> None:
    """One holds far more than its part and asks for more; two have less than theirs: those are named, with what they lack."""
    big = seen("big", 3 * GIB, 3 * GIB - 4 * MIB)
    small = [seen(name, GIB // 2, GIB // 2, swapped_out=600 * MIB) for name in ("a", "b")]
    state, _ = step(START, picture(big, *(seen(one.name, GIB // 2, GIB // 2) for one in small), available=0), LIMITS, 0.0)
    _, plan = step(state, picture(big, *small, available=0, total=4 * GIB), LIMITS, 1.0)
    assert {short.name for short in plan.short} == {"a", "b"}
    assert plan.guests[0].reason is Reason.PART
    assert plan.guests[0].is_command


def donors(limits: Limits) -> int:
    guests = [seen(f"g{number}", 3 * GIB, GIB) for number in range(8)]
    _, plan = step(
        START, picture(*guests, available=0, total=20 * GIB, pressure=0.55), replace(limits, reserve_bytes=4 * GIB), 0.0
    )
    return sum(one.reason is Reason.DONOR for one in plan.guests)


def test_r11_bounds_concurrent_inflations() -> None:
    """On a host whose CPUs are waited for only one or two balloons grow at once; without R11 all that can."""
    assert 1 <= donors(Limits()) <= 2
    assert donors(without("R11")) >= 4


def spare_given(limits: Limits, available: int) -> int:
    """How many guests that need nothing are given more."""
    state = replace(START, busy_at=-100.0, decided_at=-1.0)
    guests = [seen(f"g{number}", 2 * GIB, 500 * MIB) for number in range(3)]
    world = picture(*guests, available=available, total=64 * GIB)
    _, plan = step(state, world, replace(limits, reserve_bytes=64 * MIB), 0.0)
    return sum(one.reason is Reason.SPARE for one in plan.guests)


def test_r14_hands_out_no_spare_on_a_scarce_host() -> None:
    """With little of the host free nobody gets spare memory; without R14 they do."""
    assert spare_given(Limits(), 2 * GIB) > 0
    assert spare_given(Limits(), 900 * MIB) == 0
    assert spare_given(without("R14"), 900 * MIB) > 0


def test_a_still_guest_is_not_asked_anew_each_tick() -> None:
    """A guest whose reading stays the very same after a command is remembered as asked: it is parked, and not asked on and on."""
    still = seen("still", 3 * GIB, GIB)
    world = picture(still, seen("short", GIB, 1000 * MIB), available=0, total=4 * GIB)
    state, asked = START, 0
    for tick in range(40):
        state, plan = step(state, world, LIMITS, 0.25 * tick)
        asked += plan.guests[0].is_command
    assert state.guests["still"].motion.asked_bytes is not None
    assert state.guests["still"].motion.parked_sign < 0
    assert asked <= 12


@pytest.mark.parametrize(("freed_bytes", "is_parked"), [(90 * MIB, True), (110 * MIB, False), (2 * GIB, False)])
def test_a_parked_guest_that_frees_memory_is_asked_again_at_once(freed_bytes: int, *, is_parked: bool) -> None:
    """It could not give, since it used all that it kept. Once it uses less by a portion of what it has, it can."""
    memory = GuestMemory(
        motion=Motion(keep_bytes=3 * GIB, asked_bytes=2 * GIB, parked_sign=-1, parked_until=300.0, stuck_used_bytes=3 * GIB)
    )
    memory = stuck.judge(replace(memory, use=Use(used_bytes=3 * GIB - freed_bytes)), 3 * GIB, 4 * GIB, LIMITS, 10.0)
    assert (memory.motion.parked_sign == -1) is is_parked


def test_a_reserve_that_was_ordered_is_pursued_in_small_steps() -> None:
    """Each guest has less to spare than is worth a command otherwise; all together have what is lacking."""
    used, keep, commands, state = 1420 * MIB, 1700 * MIB, 0, START
    keeps = dict.fromkeys("abcdefgh", keep)
    for tick in range(40):
        guests = tuple(seen(name, kept, used) for name, kept in keeps.items())
        left = 15 * GIB - sum(keeps.values())
        state, plan = step(state, picture(*guests, available=left, total=15 * GIB), Limits(reserve_bytes=2300 * MIB), float(tick))
        commands += sum(one.is_command for one in plan.guests)
        keeps = {one.name: one.keep_bytes or 0 for one in plan.guests}
    assert 15 * GIB - sum(keeps.values()) > 2250 * MIB
    assert min(keeps.values()) > used
    assert commands < 60


@pytest.mark.parametrize("size", [64 * GIB, 256 * GIB, 4096 * GIB])
def test_what_is_little_to_the_largest_is_not_little_to_others(size: int) -> None:
    """However large a guest is, a GiB is worth asking it for, and half of one is more than its part."""
    large = Seat(replace(seen("large", size, GIB), ceiling_bytes=size), GuestMemory())
    assert portion_bytes(size) <= GIB
    assert dead_band_bytes(large) <= 64 * MIB
    assert _over_bytes(large) <= GIB // 2


# What only an agent tells


def picture_of(**more: object) -> Snapshot:
    said = GuestStats(total_bytes=GIB, available_bytes=GIB - 100 * MIB, swap_in_bytes=0, swap_out_bytes=0)
    donor = Guest(name="donor", ceiling_bytes=GIB, keep_bytes=GIB, resident_bytes=GIB, stats=said, stats_age_s=0.0)
    donor = replace(donor, **more)
    other = replace(donor, name="other", ready_share=None)
    return Snapshot(host=Host(total_bytes=4 * GIB, available_bytes=GIB // 2), guests=(donor, other))


@pytest.mark.parametrize(("share", "step_share"), [(None, 0.12), (1.0, 0.12), (0.5, 0.06), (0.0, 48 / 1024)])
def test_who_could_not_make_ready_is_asked_for_less_at_once(share: float | None, step_share: float) -> None:
    """By what it made free the last time, a quarter of a step at the least (and 48 MiB)."""
    _, plan = step(START, picture_of(ready_share=share), Limits(reserve_bytes=2 * GIB), 0.0)
    assert GIB - (plan.guests[0].keep_bytes or 0) == int(step_share * GIB)


def test_r5_a_guest_that_stands_still_gets_back_what_was_taken() -> None:
    """PSI counts what no swap counter shows; without R5 nothing happens."""

    def asked(stalled_us: int, limits: Limits) -> int:
        state, keep = START, GIB
        for tick in range(6):
            said = GuestStats(
                total_bytes=keep, available_bytes=30 * MIB, swap_in_bytes=0, swap_out_bytes=0, psi_full_us=tick * stalled_us
            )
            one = Guest(name="g", ceiling_bytes=GIB, keep_bytes=keep, resident_bytes=keep, stats=said, stats_age_s=0.0)
            if tick == 0:
                one = replace(one, stats=replace(said, available_bytes=GIB // 2))
            snapshot = Snapshot(host=Host(total_bytes=2 * GIB, available_bytes=0 if tick < 2 else GIB), guests=(one,))
            state, plan = step(state, snapshot, limits, 0.5 * tick)
            reasons.append(plan.guests[0].reason)
            keep = plan.guests[0].keep_bytes or keep
        return keep

    reasons: list[Reason] = []
    asked(400_000, LIMITS)
    assert Reason.FEEDBACK in reasons
    reasons.clear()
    asked(1_000, LIMITS)
    assert Reason.FEEDBACK not in reasons
    reasons.clear()
    asked(400_000, without("R5"))
    assert Reason.FEEDBACK not in reasons


def test_r2_heaps_that_are_not_resident_are_needed_up_to_a_tenth() -> None:
    """What a collector will walk counts, and no claim of a terabyte does."""

    def needed(missing: int) -> int:
        snapshot = picture_of()
        stats = snapshot.guests[0].stats
        assert stats is not None
        guest = replace(snapshot.guests[0], stats=replace(stats, psi_full_us=0, heap_missing_bytes=missing))
        state, _ = step(START, replace(snapshot, guests=(guest,)), LIMITS, 0.0)
        return needs(state.guests["donor"], GIB, 0.0)[1]

    assert needed(50 * MIB) - needed(0) == 50 * MIB
    assert needed(1 << 40) - needed(0) == GIB // 10


def test_a_voice_that_begins_or_ends_is_no_stall() -> None:
    """The first count of an agent is of all the time since the guest booted; when it falls silent, nothing of it stays."""
    state, shares, missing = START, [], []
    picture = picture_of()
    for tick, more in enumerate(({}, {"psi_full_us": 10**9, "heap_missing_bytes": MIB}, {"psi_full_us": 10**9 + 250_000}, {})):
        stats = replace(picture.guests[0].stats, **more)  # type: ignore[type-var]  # picture_of gives it statistics
        guest = replace(picture.guests[0], stats=stats)
        state, _ = step(state, replace(picture, guests=(guest,)), LIMITS, 0.5 * tick)
        shares.append(state.guests["donor"].use.stall_share)
        missing.append(state.guests["donor"].use.heap_missing_bytes)
    assert shares == [0.0, 0.0, 0.5, 0.0]
    assert missing == [0, MIB, 0, 0]


@pytest.mark.parametrize("headroom", [0, 600 * MIB])
def test_what_an_operator_wants_free_in_a_guest_stays_free(headroom: int) -> None:
    """A neighbour needs what the host has left: the guest gives down to what it uses and its margin, or and its headroom."""
    state, now, keep = START, 0.0, {"a": 3 * GIB, "b": 3 * GIB}
    for _ in range(100):
        guests = seen("a", keep["a"], GIB, headroom_bytes=headroom), seen("b", keep["b"], min(keep["b"], 2600 * MIB))
        total = 4608 * MIB
        taken = picture(*guests, available=max(0, total - sum(keep.values())), total=total)
        state, plan = step(state, taken, Limits(), now)
        keep = {one.name: one.keep_bytes or keep[one.name] for one in plan.guests}
        now += 1.0
    free = keep["a"] - GIB
    assert (free >= headroom) if headroom else (free < 500 * MIB)


def after_a_neighbour_wants(used: int, cache: int) -> dict[str, int]:
    """What a database and its neighbour keep, when that comes to use so much of 5 GiB."""
    state, now, total, keep = START, 0.0, 5 * GIB, {"db": 3 * GIB, "b": 2 * GIB}
    for _ in range(150):
        guests = seen("db", keep["db"], GIB, cache_bytes=cache), seen("b", keep["b"], min(keep["b"], used))
        state, plan = step(state, picture(*guests, available=max(0, total - sum(keep.values())), total=total), Limits(), now)
        keep = {one.name: one.keep_bytes or keep[one.name] for one in plan.guests}
        now += 1.0
    return keep


def test_cache_that_an_operator_knows_to_be_needed_is_left_and_pages_nobody() -> None:
    """A neighbour that comes to use more gets what it needs either way; its comfort ends where the cache begins."""
    cache = 1200 * MIB
    assert after_a_neighbour_wants(2400 * MIB, 0)["db"] < GIB + cache <= after_a_neighbour_wants(2400 * MIB, cache)["db"]
    keep = after_a_neighbour_wants(3300 * MIB, cache)
    assert keep["db"] < GIB + cache
    assert keep["b"] > 3300 * MIB + 100 * MIB


def at_rest(needs: dict[str, tuple[int, int, int]], total: int, *limits: tuple[str, int, tuple[str, ...]]) -> dict[str, int]:
    """What guests keep in MiB after five minutes of balloons that obey: by name what it kept and needs (MiB), and its shares."""
    keep = {name: kept * MIB for name, (kept, _, _) in needs.items()}
    state = START
    for now in range(300):
        holds = {name: min(keep[name], need * MIB) for name, (_, need, _) in needs.items()}
        guests = [
            replace(seen(name, keep[name], holds[name], shares=shares), resident_bytes=holds[name])
            for name, (_, _, shares) in needs.items()
        ]
        budgets = tuple(
            Budget(name=name, limit_bytes=size * MIB, available_bytes=size * MIB - sum(holds[g] for g in inside), guests=inside)
            for name, size, inside in limits
        )
        host = Host(total_bytes=total * MIB, available_bytes=total * MIB - sum(holds.values()), budgets=budgets)
        state, plan = step(state, Snapshot(host=host, guests=tuple(guests)), Limits(), float(now))
        keep = {one.name: one.keep_bytes or keep[one.name] for one in plan.guests}
    return {name: kept // MIB for name, kept in keep.items()}


def test_limits_within_limits_and_beside_each_other_all_hold() -> None:
    """An idle guest gives to a needy one under the same limit, whatever lies around both or beside them."""
    three = {"a": (1600, 300, 1000), "b": (400, 1500, 1000), "c": (400, 300, 1000)}
    keep = at_rest(three, 12288, ("in", 2048, ("a", "b")), ("out", 6144, ("a", "b", "c")))
    assert keep["a"] + keep["b"] <= 2048
    assert keep["b"] > 1400
    four = {"a1": (2600, 300, 1000), "a2": (400, 2000, 1000), "b1": (2048, 1900, 50000), "b2": (2048, 1900, 50000)}
    keep = at_rest(four, 10240, ("A", 3072, ("a1", "a2")), ("B", 4196, ("b1", "b2")))
    assert keep["a1"] + keep["a2"] <= 3072
    assert keep["a2"] > 1950


@pytest.mark.parametrize(
    ("keeps", "need", "total"),
    [((2679, 1673, 763, 2001, 1954, 2137), 1954, 11260), ((1696, 1160, 1111, 1029, 1664, 400), 1192, 7113)],
)
def test_r10_many_who_hold_a_little_more_leave_nobody_far_behind(keeps: tuple[int, ...], need: int, total: int) -> None:
    """Equals of equal need end equal: what each is let off would together be all that one waits for."""
    found = at_rest({f"g{n}": (keep, need, 1000) for n, keep in enumerate(keeps)}, total)
    assert max(found.values()) - min(found.values()) < 64


def plan_of(needs: dict[str, tuple[int, int]], total: int, limit: tuple[int, tuple[str, ...]]) -> Plan:
    """The plan, four seconds on, for guests that keep and use so many MiB and never move, under one limit around some."""
    size, inside = limit
    guests = [replace(seen(name, keep * MIB, used * MIB), resident_bytes=keep * MIB) for name, (keep, used) in needs.items()]
    left = size - sum(needs[name][0] for name in inside)
    budget = Budget(name="/machine.slice", limit_bytes=size * MIB, available_bytes=left * MIB, guests=inside)
    free = total - sum(keep for keep, _ in needs.values())
    host = Host(total_bytes=total * MIB, available_bytes=free * MIB, budgets=(budget,))
    state = START
    for now in range(4):
        state, plan = step(state, Snapshot(host=host, guests=tuple(guests)), Limits(), float(now))
    return plan


def test_r10_a_full_limit_is_named_and_nobody_beside_it_is_short() -> None:
    """Two in a slice want more than it has, two beside it have what they need, on a host with gigabytes free: that is not what is
    too small.
    """
    needs = {"in-1": (950, 945), "in-2": (950, 945), "out-1": (1500, 400), "out-2": (1500, 400)}
    plan = plan_of(needs, 16384, (1900, ("in-1", "in-2")))
    assert {(one.name, one.within) for one in plan.short} == {("in-1", "/machine.slice"), ("in-2", "/machine.slice")}
    by_name = {one.name: one for one in plan.guests}
    for name in ("in-1", "in-2"):
        assert "what the limit of /machine.slice has is divided" in by_name[name].sentence
    for name in ("out-1", "out-2"):
        assert by_name[name].reason is Reason.CALM
        assert "limit" not in by_name[name].sentence
    assert plan.budgets[0].promised_bytes == 1900 * MIB


def test_r10_a_host_that_is_too_small_is_not_a_limit() -> None:
    """The limit is wide: it is the host that is divided, and said to be."""
    needs = {"in-1": (900, 895), "in-2": (1000, 995), "out": (900, 895)}
    plan = plan_of(needs, 2800, (2700, ("in-1", "in-2")))
    assert {one.within for one in plan.short} == {""}
    assert {one.name for one in plan.short} == {"in-1", "in-2", "out"}


def counted_at(guest: Guest) -> int:
    host = Host(total_bytes=64 * GIB, available_bytes=32 * GIB)
    _, plan = step(START, Snapshot(host=host, guests=(guest,)), Limits(), 0.0)
    return plan.fixed[guest.name] // MIB


def test_r4_what_lies_in_huge_pages_takes_nothing_of_the_rest() -> None:
    """No rise is kept free for a guest whose memory is a pool's; of one that lies in both, for the ordinary part."""
    one = replace(seen("one", 16 * GIB, GIB), ceiling_bytes=16 * GIB, leave_alone="its memory is huge pages")
    assert counted_at(replace(one, resident_bytes=150 * MIB)) == 150 + 16384 // 40
    assert counted_at(replace(one, resident_bytes=150 * MIB, huge_bytes=16 * GIB)) < 150 + 8
    assert counted_at(replace(one, resident_bytes=2 * MIB, huge_bytes=GIB)) < 2 + 8
    assert counted_at(replace(one, resident_bytes=4 * GIB, huge_bytes=4 * GIB + MIB)) in range(4096 + 203, 4096 + 206)


def test_r13_an_inert_guest_gets_back_all_that_it_occupies() -> None:
    """Also what was taken before it was in doubt: first small steps lie within what QEMU has beside RAM, and prove nothing."""
    state, keep = START, 2 * GIB
    steps = [2048, 1996, 1940, 1700, 1700, 1700, 1700, 1700]
    for now, asked in enumerate(steps):
        one = replace(seen("one", asked * MIB, 300 * MIB), ceiling_bytes=2 * GIB, resident_bytes=2 * GIB)
        host = Host(total_bytes=8 * GIB, available_bytes=4 * GIB)
        state, plan = step(state, Snapshot(host=host, guests=(one,)), Limits(), float(now))
        keep = plan.guests[0].keep_bytes or 0
    assert plan.guests[0].reason is Reason.INERT
    assert keep == 2 * GIB


def lowered(
    says: dict[str, int],
    limits: Limits,
    uses: tuple[int, ...] = (1500,) * 60,
    *,
    is_fixed: bool = False,
    policy: str = "adaptive",
) -> list[int]:
    """What a guest that keeps 2 GiB is asked to keep, tick by tick, once its ceiling is 512 MiB, by what it uses; all in MiB.

    is_fixed: its MemTotal stays while its balloon moves, as in Windows.
    """
    state, keep, asked = START, 2 * GIB, []
    for now, used in enumerate(uses):
        one = seen("one", keep, min(keep, used * MIB), ceiling_bytes=512 * MIB, given_bytes=2 * GIB)
        assert one.stats is not None
        more = says | ({"total_bytes": 2 * GIB} if is_fixed else {})
        one = replace(one, stats=replace(one.stats, **more))
        state, plan = step(state, picture(one, available=21 * GIB, total=24 * GIB), limits, float(now), policy)
        keep = plan.guests[0].keep_bytes or keep
        asked.append(keep // MIB)
    return asked


def test_r6_a_ceiling_below_what_a_guest_uses_is_approached_no_further_than_that() -> None:
    """In portions, and where it cannot page out never below its use; without R6, or with swap, down to the ceiling."""
    for says in ({}, {"swap_total_bytes": 0, "swap_free_bytes": 0}):
        asked = lowered(says, Limits())
        assert min(asked) >= 1500
        assert asked[-1] < 1600
        assert max(before - after for before, after in pairwise([2048, *asked])) <= portion_bytes(2 * GIB) // MIB + 1
    assert min(lowered({}, Limits(), is_fixed=True)) >= 1500
    dip = lowered({}, Limits(), (1500,) * 20 + (900,) * 5 + (1500,) * 40)
    assert dip[-1] >= 1500  # what a moment of less took comes back
    assert lowered({}, without("R6"))[-1] == 512
    assert lowered({"swap_total_bytes": 4 * GIB, "swap_free_bytes": 4 * GIB}, Limits())[-1] == 512


@pytest.mark.parametrize("policy", ["mom", "proxmox", "squeezed", "static", "hyperv", "esx"])
def test_r6_holds_of_a_ceiling_whoever_decides(policy: str) -> None:
    """A peer's policy squeezes nobody to it at once either."""
    for says in ({}, {"swap_total_bytes": 0, "swap_free_bytes": 0}):
        asked = lowered(says, Limits(), (1500,) * 300, policy=policy)
        assert min(asked) >= 1500
        assert max(before - after for before, after in pairwise([2048, *asked])) <= portion_bytes(2 * GIB) // MIB + 1


def test_r4_a_guest_that_starts_beside_its_huge_pages_counts_at_all_that_it_may_take() -> None:
    """Half of it lies in a pool; the other half it may touch within moments."""
    one = replace(seen("one", 16 * GIB, GIB), ceiling_bytes=16 * GIB, can_balloon=False, is_starting=True, leave_alone="it boots")
    assert counted_at(replace(one, resident_bytes=2 * MIB, huge_bytes=8 * GIB)) == 8 * 1024


@pytest.mark.parametrize("policy", ["adaptive", "mom", "proxmox", "squeezed", "static"])
def test_what_is_given_back_by_order_stays_so_whoever_decides(policy: str) -> None:
    """A host with plenty: all of it comes back, whatever the guest says or does not say."""
    for age_s in (0.0, 100.0):
        state, keep = START, GIB
        for now in range(120):
            one = replace(seen("one", keep, 512 * MIB), deflates="by order", stats_age_s=age_s)
            state, plan = step(state, picture(one, available=21 * GIB, total=24 * GIB), Limits(), float(now), policy)
            keep = plan.guests[0].keep_bytes or keep
        assert keep == 4 * GIB


def test_the_last_of_what_is_ordered_back_comes_also_in_pieces() -> None:
    """When others have it only in pieces that are worth no command, it comes out of the reserve."""
    for missing, neighbour, beyond in ((10.3, 3232, 9.7), (10.3, 3241, 0), (20, 3244, 2)):
        state, limits = START, replace(Limits(), reserve_bytes=500 * MIB)
        keeps = [8 * GIB - int(missing * MIB), neighbour * MIB]
        keeps.append(18 * GIB - int(beyond * MIB) - sum(keeps))
        for now in range(30):
            guests = []
            for name, keep, used, cache in zip(("back", "other", "web"), keeps, (2, 2, 3), (0, 0, 3), strict=True):
                one = seen(name, keep, used * GIB, ceiling_bytes=8 * GIB)
                assert one.stats is not None
                free = replace(one.stats, free_bytes=max(0, keep - (used + cache) * GIB))
                one = replace(one, stats=free, resident_bytes=min(keep, (used + cache) * GIB))
                guests.append(replace(one, deflates="by order" if name == "back" else ""))
            total = 18 * GIB + 500 * MIB
            snapshot = picture(*guests, available=total - sum(one.resident_bytes or 0 for one in guests), total=total)
            state, plan = step(state, snapshot, limits, float(now))
            keeps = [(one.keep_bytes or 0) if one.is_command else keep for one, keep in zip(plan.guests, keeps, strict=True)]
        assert keeps[0] == 8 * GIB
        assert sum(keeps) <= 18 * GIB + 32 * MIB


def asked_to_give(at: float, limits: Limits, available: int = 3 * GIB) -> set[str]:
    """Who is asked to give, at each tick until then, beside one of which nobody knows yet how it runs; a large host."""
    unmet = seen("new", 4 * GIB, 0, can_balloon=False, is_starting=True, leave_alone="nobody has told yet how it runs")
    unmet = replace(unmet, resident_bytes=GIB // 4, stats=None, stats_age_s=None)
    givers = [seen(name, 3 * GIB, GIB) for name in ("a", "b")]
    state, names = START, set[str]()
    for tick in range(int(at) + 1):
        state, plan = step(state, picture(*givers, unmet, available=available, total=12 * GIB), limits, float(tick))
        names |= {one.name for one in plan.guests if one.is_command and (one.keep_bytes or 0) < 3 * GIB}
    return names


def test_r16_a_daemon_that_has_just_started_takes_nothing_for_guests_that_it_has_not_met() -> None:
    """Within moments all are met; one that is not met then boots, and is given room. A host that runs out does not wait."""
    assert asked_to_give(2.0, Limits()) == set()
    assert asked_to_give(4.0, Limits()) != set()
    assert asked_to_give(2.0, Limits(), available=16 * MIB) != set()


def test_r5_nobody_is_left_in_peace_with_more_than_it_needs_while_the_host_runs_out_and_another_pages() -> None:
    """One that suffered from giving gives again what it does not need; one that pages now does not (R14)."""

    def gives(*, cooling: bool, distressed: bool = False) -> bool:
        one = Seat(seen("a", 3 * GIB, GIB), GuestMemory(), is_cooling=cooling, is_distressed=distressed)
        table = Table(seats=[one], limits=Limits(), total_bytes=GIB, memory_bytes=GIB)
        return _is_donor(table, one, owes=False, is_dire=True)

    assert gives(cooling=False)
    assert gives(cooling=True)
    assert not gives(cooling=True, distressed=True)
