"""Steering by entitlement: shares and reservations from needs, within bounds, and no more often than pays."""

import asyncio
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ballonet.act.guide import LIMIT_PAUSE_S, PACES, Guide
from ballonet.decide.entitlement import MOST_SHARES, RESERVED_SHARE, changes, entitlements, is_worth
from ballonet.hypervisors.contract import Capabilities, Guided, RefusedError, Steering
from ballonet.model.knobs import Entitlement, Knobs
from ballonet.model.plan import Decision, Plan, Reason, Reserve, ReserveReason
from ballonet.model.snapshot import Guest, Host, Mode, Snapshot
from ballonet.model.units import GIB, MIB

SIZE = 8 * GIB
RULE_S, URGENT_S = PACES[Steering.ENTITLEMENT]


def world(*needs: int, total: int = 32 * GIB, reason: Reason = Reason.CALM, **guest: object) -> tuple[Plan, Snapshot]:
    """Guests of 8 GiB, vm-0 and so on, that need so much; three quarters of that at the least."""
    one = Guest(name="", ceiling_bytes=SIZE, keep_bytes=SIZE, **guest)  # type: ignore[arg-type]
    guests = tuple(replace(one, name=f"vm-{number}") for number in range(len(needs)))
    told = tuple(
        Decision(guest.name, SIZE, reason, {}, False, need // 2, need, need * 3 // 4, MIB)
        for guest, need in zip(guests, needs, strict=True)
    )
    plan = Plan(policy="adaptive", guests=told, reserve=Reserve(GIB, ReserveReason.OPERATOR, {}))
    return plan, Snapshot(host=Host(total_bytes=total, available_bytes=GIB), guests=guests)


def test_reservations_follow_need_and_shares_the_operator() -> None:
    """10 for each MiB that it has, as ESXi's normal, times its weight."""
    found = entitlements(*world(4 * GIB, GIB))
    assert found["vm-0"] == Entitlement(shares=81920, reservation_bytes=3 * GIB)
    assert found["vm-1"] == Entitlement(shares=81920, reservation_bytes=768 * MIB)
    assert entitlements(*world(4 * GIB, shares=3000))["vm-0"].shares == 3 * 81920


def test_nobody_is_touched_who_is_watched_left_alone_or_unheard() -> None:
    """R13, R5 and the modes."""
    assert entitlements(*world(GIB, mode=Mode.OBSERVE)) == {}
    assert entitlements(*world(GIB, mode=Mode.ADVISE)) == {}
    assert entitlements(*world(GIB, can_balloon=False, leave_alone="no Tools")) == {}
    for reason in (Reason.STALE, Reason.ALONE, Reason.UNKNOWN, Reason.OBSERVED):
        assert entitlements(*world(GIB, reason=reason)) == {}


@given(st.lists(st.integers(1, SIZE), min_size=1, max_size=12), st.integers(GIB, 64 * GIB), st.integers(0, 2 * GIB))
def test_reservations_fit(needs: list[int], total: int, guaranteed: int) -> None:
    """Never more than half of the host beyond what was guaranteed, nobody more than it has; shares are what the API takes."""
    found = entitlements(*world(*needs, total=total, guaranteed_bytes=guaranteed))
    assert sum(one.reservation_bytes for one in found.values()) <= max(RESERVED_SHARE * total, guaranteed * len(needs))
    for one in found.values():
        assert 0 <= one.reservation_bytes <= SIZE
        assert one.reservation_bytes >= guaranteed // MIB * MIB
        assert 1 <= one.shares <= MOST_SHARES


def test_small_changes_are_not_sent() -> None:
    """A tenth, and 64 MiB."""
    old = Entitlement(shares=1000, reservation_bytes=GIB)
    assert not is_worth(old, replace(old, shares=1100, reservation_bytes=GIB + 100 * MIB))
    assert is_worth(old, replace(old, shares=1101))
    assert is_worth(old, replace(old, reservation_bytes=GIB + 120 * MIB))
    assert not is_worth(replace(old, reservation_bytes=0), replace(old, reservation_bytes=64 * MIB))
    assert is_worth(old, replace(old, limit_bytes=GIB))


class Esx(Guided):
    """Remembers what it was told."""

    def __init__(self, *names: str, limit_bytes: int | None = None) -> None:
        one = Entitlement(shares=81920, reservation_bytes=0, limit_bytes=limit_bytes, level="normal")
        self.known: dict[str, Knobs] = dict.fromkeys(names, one)
        self.before = dict(self.known)
        self.sent: list[tuple[str, Knobs]] = []
        self.refuses = ""

    def host(self) -> Host | None:
        return None

    async def restore(self, deadline_s: float = 30.0) -> tuple[dict[str, Knobs], dict[str, str]]:
        return {}, {}

    def knobs(self) -> dict[str, Knobs]:
        return self.known

    def originals(self) -> dict[str, Knobs]:
        return self.before

    async def turn(self, name: str, wish: Knobs, deadline_s: float) -> None:
        if name == self.refuses:
            raise RefusedError("no")
        self.known[name] = wish
        self.sent.append((name, wish))


def guide(esx: Esx, clock: Callable[[], float]) -> Guide:
    return Guide(esx, Capabilities(name="esx", steering=Steering.ENTITLEMENT, mechanisms=frozenset()), clock)


async def test_as_seldom_as_pays() -> None:
    """Each guest once in 20 s, sooner while it pages; somebody's limit stays; what shrinks goes first; a refusal is told."""
    now, esx = 0.0, Esx("vm-0", "vm-1", limit_bytes=6 * GIB)
    entitler = guide(esx, lambda: now)

    async def turn(*needs: int, reason: Reason = Reason.CALM) -> int:
        before = len(esx.sent)
        await entitler.apply(*world(*needs, reason=reason))
        await asyncio.sleep(0.01)
        return len(esx.sent) - before

    assert await turn(GIB, 2 * GIB) == 2
    assert all(isinstance(wish, Entitlement) and wish.limit_bytes == 6 * GIB for _, wish in esx.sent)
    now = RULE_S - 1
    assert await turn(4 * GIB, GIB) == 0
    now = RULE_S
    assert await turn(4 * GIB, GIB) == 2
    assert [name for name, _ in esx.sent[2:]] == ["vm-1", "vm-0"]
    now += URGENT_S
    assert await turn(6 * GIB, GIB, reason=Reason.DISTRESS) == 1
    assert all(isinstance(wish, Entitlement) and wish.level == "normal" for _, wish in esx.sent)
    now, esx.refuses = 1000.0, "vm-0"
    assert await turn(GIB, GIB) == 0
    outcome = await entitler.apply(*world(GIB, GIB))
    assert outcome.failed == {"vm-0": "no"}
    await entitler.close()


def tight_world(state: str, **guest: object) -> tuple[Plan, Snapshot]:
    """vm-0 needs 2 GiB of its 8 and holds 6."""
    plan, snapshot = world(2 * GIB, resident_bytes=6 * GIB, **guest)  # type: ignore[arg-type]
    return msgspec.structs.replace(plan, host_state=state), snapshot


def limit_of(state: str, old: Entitlement, before: Entitlement | None = None, **guest: object) -> int | None:
    """What limit would be sent; 0 = nothing is."""
    originals: dict[str, Knobs] = {"vm-0": before or Entitlement(shares=81920, reservation_bytes=0)}
    found = changes(*tight_world(state, **guest), {"vm-0": old}, originals, may_limit={"vm-0"})
    return found[0][1].limit_bytes if found else 0


def test_limits_are_set_while_the_host_is_short_and_taken_back() -> None:
    """Never below what is needed or 35 % of the size; gone when it hurts; somebody else's stays; off by default."""
    free = Entitlement(shares=81920, reservation_bytes=1536 * MIB)
    assert limit_of("soft", free) == int(0.35 * SIZE // MIB + 1) * MIB
    assert limit_of("high", free) == 0
    limited = replace(free, limit_bytes=3 * GIB)
    assert limit_of("high", limited) is None
    assert limit_of("soft", limited, theirs={"latency": 1}) is None
    assert limit_of("soft", limited, before=replace(free, limit_bytes=3 * GIB)) == 0
    assert changes(*tight_world("low"), {"vm-0": free}, {}) == []


async def test_limit_that_was_taken_back_stays_away() -> None:
    """For ten minutes; reservations go on meanwhile."""
    now, esx = 0.0, Esx("vm-0")
    entitler = Guide(
        esx, Capabilities(name="esx", steering=Steering.ENTITLEMENT, mechanisms=frozenset(), may_limit=True), lambda: now
    )

    async def limit(**guest: object) -> int | None:
        await entitler.apply(*tight_world("hard", **guest))
        await asyncio.sleep(0.01)
        one = esx.known["vm-0"]
        assert isinstance(one, Entitlement)
        return one.limit_bytes

    assert await limit() is not None
    now = 1.0
    assert await limit(theirs={"latency": 5}) is None
    now += LIMIT_PAUSE_S - 1
    assert await limit() is None
    now += 2
    assert await limit() is not None
    await entitler.close()


def test_limit_goes_with_the_balloon_and_with_the_leave_to_set_one() -> None:
    """Without a balloon it is pure swap; held or only watched, it stays as it is."""
    limited = Entitlement(shares=81920, reservation_bytes=1536 * MIB, limit_bytes=3 * GIB)
    assert limit_of("soft", limited, can_balloon=False, leave_alone="no Tools") is None
    assert limit_of("soft", limited, leave_alone="on hold since noon", reason=Reason.ALONE) == 0
    assert limit_of("soft", limited, mode=Mode.OBSERVE) == 0
    was: dict[str, Knobs] = {"vm-0": replace(limited, limit_bytes=None)}
    assert [wish.limit_bytes for _, wish in changes(*tight_world("soft"), {"vm-0": limited}, was)] == [None]


def test_what_the_operator_set_at_the_hypervisor_counts() -> None:
    """High shares stay high, a reservation is never lowered, and none is asked for beyond a limit."""
    was = Entitlement(shares=163840, reservation_bytes=6 * GIB, level="high")
    assert changes(*world(4 * GIB), {"vm-0": was}, {"vm-0": was}) == []
    ((_, wish),) = changes(*world(4 * GIB, shares=3000), {"vm-0": was}, {"vm-0": was})
    assert (wish.shares, wish.level, wish.reservation_bytes) == (3 * 81920, "custom", 6 * GIB)
    bound = Entitlement(shares=81920, reservation_bytes=0, limit_bytes=2 * GIB, level="normal")
    ((_, wish),) = changes(*world(4 * GIB), {"vm-0": bound}, {"vm-0": bound})
    assert (wish.limit_bytes, wish.reservation_bytes) == (2 * GIB, 2 * GIB)
