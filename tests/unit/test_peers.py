"""The peers' policies decide as the peers do; expected figures are worked by hand from their published rules."""

import pytest

from ballonet.decide.step import START, step
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, GuestStats, Host, Snapshot
from ballonet.model.units import GIB, KIB, MIB


def guest(name: str, keep: int, free: int = 0, least: int = GIB, most: int = 4 * GIB, shares: int = 1000) -> Guest:
    stats = GuestStats(free_bytes=free, available_bytes=free, total_bytes=keep)
    return Guest(name=name, ceiling_bytes=most, keep_bytes=keep, floor_bytes=least, shares=shares, stats=stats, stats_age_s=0.0)


def keeps(policy: str, host: Host, *guests: Guest, **options: float) -> list[int | None]:
    snapshot = Snapshot(host=host, guests=guests, options=options)
    return [one.keep_bytes for one in step(START, snapshot, Limits(), 0.0, policy)[1].guests]


NOBODY = Host(total_bytes=0, available_bytes=0)


def test_proxmox_gives_to_the_pressured_a_step_at_a_time() -> None:
    """The idle guest stays, the pressured one gets 100 MiB."""
    found = keeps("proxmox", NOBODY, guest("a", 2 * GIB), guest("b", 3 * GIB, free=2 * GIB), goal_bytes=GIB)
    assert found == [2 * GIB + 100 * MIB, 3 * GIB]


def test_proxmox_takes_from_the_idle_first() -> None:
    """Only the idle guest shrinks, by one step."""
    found = keeps("proxmox", NOBODY, guest("a", 2 * GIB), guest("b", 3 * GIB, free=2 * GIB), goal_bytes=-GIB)
    assert found == [2 * GIB, 3 * GIB - 100 * MIB]


def test_proxmox_takes_from_all_when_nobody_is_idle() -> None:
    """The fall-back to all guests: who is at its part already stays, the other one shrinks by a step."""
    assert keeps("proxmox", NOBODY, guest("a", 2 * GIB), guest("b", 3 * GIB), goal_bytes=-GIB) == [2 * GIB, 3 * GIB - 100 * MIB]


@pytest.mark.parametrize("goal", [-10 * MIB, 0, 10 * MIB])
def test_proxmox_rests_near_its_goal(goal: int) -> None:
    """Within 10 MiB nothing moves."""
    assert keeps("proxmox", NOBODY, guest("a", 2 * GIB), goal_bytes=goal) == [2 * GIB]


def test_proxmox_leaves_out_who_takes_no_part() -> None:
    """No floor, or shares of 0: skipped."""
    host = Host(total_bytes=64 * GIB, available_bytes=60 * GIB)
    bare = Guest(name="b", ceiling_bytes=4 * GIB, keep_bytes=2 * GIB)
    assert keeps("proxmox", host, guest("a", 2 * GIB, shares=0), bare) == [2 * GIB, 2 * GIB]


def test_squeezed_divides_in_proportion() -> None:
    """Gamma = (free + freeable - wanted) / sum(max - min)."""
    host = Host(total_bytes=8 * GIB, available_bytes=GIB)
    found = keeps("squeezed", host, guest("a", 2 * GIB, most=3 * GIB), guest("b", 2 * GIB, most=5 * GIB))
    gamma = (GIB + 2 * (GIB - 8192) - 72 * MIB) / (6 * GIB)
    expected = [GIB + gamma * 2 * GIB, GIB + gamma * 4 * GIB]
    assert all(abs((keep or 0) - want) <= 4096 for keep, want in zip(found, expected, strict=True))


def test_squeezed_gives_everybody_its_maximum_where_all_fit() -> None:
    """Gamma is at most 1. Exactly at the edge it is a little less: what a guest would free counts without two inaccuracies of
    4 KiB (`min_freeable`, xen-api ocaml/squeezed/lib/squeeze.ml), so that each comes to stand 8 KiB below its maximum.
    """
    guests = guest("a", 4 * GIB), guest("b", 4 * GIB)
    for free, short in ((2 * GIB, 0), (72 * MIB + 16 * KIB, 0), (72 * MIB, 8 * KIB)):
        found = keeps("squeezed", Host(total_bytes=16 * GIB, available_bytes=free), *guests)
        assert [4 * GIB - (keep or 0) for keep in found] == [pytest.approx(short, abs=1 * KIB)] * 2


def test_mom_shrinks_everybody_below_a_fifth() -> None:
    """5 % a round, not below what is used and the host's own free share."""
    host = Host(total_bytes=10 * GIB, available_bytes=GIB)
    assert keeps("mom", host, guest("a", 2 * GIB, free=GIB)) == [int(0.95 * 2 * GIB)]


def test_mom_grows_everybody_above_it() -> None:
    """Even who needs nothing."""
    host = Host(total_bytes=10 * GIB, available_bytes=5 * GIB)
    assert keeps("mom", host, guest("a", 2 * GIB, free=GIB)) == [int(1.05 * 2 * GIB)]


def test_esx_takes_from_who_pays_least() -> None:
    """Waldspurger's example: of two guests with equal shares and pages the idle one gives."""
    host = Host(total_bytes=64 * GIB, available_bytes=200 * MIB)
    found = keeps("esx", host, guest("idle", 4 * GIB, free=3 * GIB), guest("busy", 4 * GIB, free=400 * MIB))
    assert found[0] is not None
    assert found[0] < 4 * GIB
    assert found[1] == 4 * GIB


def test_hyperv_aims_at_its_buffer() -> None:
    """Ideal = demand x 1.2."""
    host = Host(total_bytes=16 * GIB, available_bytes=8 * GIB)
    assert keeps("hyperv", host, guest("a", 2 * GIB, free=0)) == [int(2 * GIB * 1.2)]


def test_a_peer_speaks_only_in_its_rounds() -> None:
    """Between two rounds the last word stands, and is not raised by another step."""
    snapshot = Snapshot(host=Host(total_bytes=64 * GIB, available_bytes=60 * GIB), guests=(guest("a", 2 * GIB),))
    state, plan = step(START, snapshot, Limits(), 0.0, "proxmox")
    later = Snapshot(host=snapshot.host, guests=(guest("a", 2 * GIB + 100 * MIB),))
    state, soon = step(state, later, Limits(), 5.0, "proxmox")
    _, after = step(state, later, Limits(), 10.0, "proxmox")
    assert [p.guests[0].keep_bytes for p in (plan, soon, after)] == [
        2 * GIB + 100 * MIB,
        2 * GIB + 100 * MIB,
        2 * GIB + 200 * MIB,
    ]


def test_the_guard_stays_on_top_of_a_peer() -> None:
    """MOM's minimum is 0 where nobody sets one: the guard keeps the floor; without it nothing does."""
    host = Host(total_bytes=64 * GIB, available_bytes=GIB)
    low = Guest(name="a", ceiling_bytes=16 * GIB, keep_bytes=GIB, stats=GuestStats(free_bytes=GIB), stats_age_s=0.0)
    snapshot = Snapshot(host=host, guests=(low,))
    kept, bare = (
        step(START, snapshot, limits, 0.0, "mom")[1].guests[0].keep_bytes
        for limits in (Limits(), Limits(without=frozenset({"R4", "R6"})))
    )
    assert kept == 1000 * MIB
    assert bare == int(0.95 * GIB)
