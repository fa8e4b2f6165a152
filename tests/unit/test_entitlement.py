"""Steering by entitlement: shares and reservations from needs, within bounds, and no more often than pays."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ballonet.decide.memory import GuestMemory, Use
from ballonet.decide.seat import Seat
from ballonet.decide.steering.entitlement import LIMIT_PAUSE_S, MOST_SHARES, RESERVED_SHARE, is_worth
from ballonet.decide.steering.knobs import PACES, Turned, after, decisions
from ballonet.decide.table import Table
from ballonet.model.knobs import Entitlement, Steering
from ballonet.model.limits import Limits
from ballonet.model.plan import Reason
from ballonet.model.snapshot import Guest, GuestStats, Mode
from ballonet.model.units import GIB, MIB

SIZE = 8 * GIB
RULE_S, URGENT_S = PACES[Steering.ENTITLEMENT]
NORMAL = Entitlement(shares=81920, reservation_bytes=0, level="normal")


def world(*needs: int, total: int = 32 * GIB, reason: Reason = Reason.CALM, now: float = 1e6, **guest: object) -> Table:
    """Guests of 8 GiB, vm-0 and so on, that need so much; three quarters of that at the least."""
    fields = {"knobs": NORMAL, "stats": GuestStats(total_bytes=SIZE, available_bytes=GIB)} | guest
    one = Guest(name="", ceiling_bytes=SIZE, keep_bytes=SIZE, **fields)  # type: ignore[arg-type]
    seats = [
        Seat(
            replace(one, name=f"vm-{number}"),
            GuestMemory(use=Use(used_bytes=need // 2)),
            reason=reason,
            keep_bytes=SIZE,
            floor_bytes=MIB,
            needs_bytes=(need * 3 // 4, need),
            is_distressed=reason is Reason.DISTRESS,
        )
        for number, need in enumerate(needs)
    ]
    return Table(seats=seats, limits=Limits(), total_bytes=total, memory_bytes=total, now=now)


def asked(table: Table, turned: dict[str, Turned] | None = None) -> dict[str, Entitlement]:
    """What is asked for, by guest."""
    found = {name: one.ask for name, one in decisions(table, turned or {}).items()}
    return {name: ask for name, ask in found.items() if isinstance(ask, Entitlement)}


def test_reservations_follow_need_and_shares_the_operator() -> None:
    """10 for each MiB that it has, as ESXi's normal, times its weight."""
    found = asked(world(4 * GIB, GIB))
    assert found["vm-0"] == replace(NORMAL, reservation_bytes=3 * GIB)
    assert found["vm-1"] == replace(NORMAL, reservation_bytes=768 * MIB)
    assert asked(world(4 * GIB, shares=3000))["vm-0"].shares == 3 * 81920


def test_nobody_is_touched_who_is_watched_left_alone_or_unheard() -> None:
    """R13, R5 and the modes; what is only advised is asked, and act sends nothing of it."""
    assert asked(world(GIB, mode=Mode.OBSERVE)) == {}
    assert asked(world(GIB, mode=Mode.ADVISE)) != {}
    assert asked(world(GIB, can_balloon=False, leave_alone="no Tools")) == {}
    assert asked(world(GIB, deflates="by order")) == {}
    for reason in (Reason.STALE, Reason.ALONE, Reason.UNKNOWN, Reason.OBSERVED):
        assert asked(world(GIB, reason=reason)) == {}


def test_a_decision_tells_what_stands_and_what_is_asked() -> None:
    """Never of a balloon that nobody sizes."""
    table = world(4 * GIB)
    first = decisions(table, {})["vm-0"]
    assert (first.reason, first.keep_bytes, first.steering) == (Reason.ENTITLED, SIZE, Steering.ENTITLEMENT)
    assert first.sentence.startswith("gets 3 GiB reserved")
    assert first.asked["reservation_bytes"] == 3 * GIB
    quiet = decisions(world(4 * GIB, knobs=replace(NORMAL, reservation_bytes=3 * GIB)), {})["vm-0"]
    assert quiet.ask is None
    assert quiet.sentence.startswith("has 3 GiB reserved")
    held = decisions(world(GIB, deflates="by order"), {})["vm-0"]
    assert (held.reason, held.sentence) == (Reason.ALONE, "is left alone: by order")


@given(st.lists(st.integers(1, SIZE), min_size=1, max_size=12), st.integers(GIB, 64 * GIB), st.integers(0, 2 * GIB))
def test_reservations_fit(needs: list[int], total: int, guaranteed: int) -> None:
    """Never more than half of the host beyond what was guaranteed, nobody more than it has; shares are what the API takes."""
    found = asked(world(*needs, total=total, guaranteed_bytes=guaranteed)).values()
    assert sum(one.reservation_bytes for one in found) <= max(RESERVED_SHARE * total, guaranteed * len(needs))
    for one in found:
        assert guaranteed // MIB * MIB <= one.reservation_bytes <= SIZE
        assert 1 <= one.shares <= MOST_SHARES


def test_small_changes_are_not_sent() -> None:
    """A tenth, and 64 MiB."""
    old = Entitlement(shares=1000, reservation_bytes=GIB)
    assert not is_worth(old, replace(old, shares=1100, reservation_bytes=GIB + 100 * MIB))
    assert is_worth(old, replace(old, shares=1101))
    assert is_worth(old, replace(old, reservation_bytes=GIB + 120 * MIB))
    assert not is_worth(replace(old, reservation_bytes=0), replace(old, reservation_bytes=64 * MIB))
    assert is_worth(old, replace(old, limit_bytes=GIB))


def test_as_seldom_as_pays() -> None:
    """Each guest once in 20 s, sooner while it pages; what is only advised is not remembered as asked."""
    table = world(GIB, now=100.0)
    turned = after({}, decisions(table, {}), table)
    assert turned == {"vm-0": Turned(asked_at=100.0)}
    assert asked(world(4 * GIB, now=100 + RULE_S - 1), turned) == {}
    assert asked(world(4 * GIB, now=100 + RULE_S), turned) != {}
    assert asked(world(4 * GIB, now=100 + URGENT_S, reason=Reason.DISTRESS), turned) != {}
    advised = world(GIB, now=100.0, mode=Mode.ADVISE)
    assert after({}, decisions(advised, {}), advised) == {"vm-0": Turned()}


def limit_of(state: str, old: Entitlement, before: Entitlement | None = None, *, may: bool = True, **guest: object) -> int | None:
    """What limit would be sent to a guest that needs 2 GiB of its 8 and holds 6; 0 = nothing is."""
    fields = {"resident_bytes": 6 * GIB, "knobs": old, "knobs_before": before or NORMAL} | guest
    table = world(2 * GIB, **fields)  # type: ignore[arg-type]
    table.state, table.limits = state, Limits(may_limit=may)
    found = asked(table)
    return found["vm-0"].limit_bytes if found else 0


FREE = replace(NORMAL, reservation_bytes=1536 * MIB)


def test_limits_are_set_while_the_host_is_short_and_taken_back() -> None:
    """Never below what is needed or 35 % of the size; gone when it hurts; somebody else's stays; off by default."""
    assert limit_of("soft", FREE) == int(0.35 * SIZE // MIB + 1) * MIB
    assert limit_of("high", FREE) == 0
    limited = replace(FREE, limit_bytes=3 * GIB)
    assert limit_of("high", limited) is None
    assert limit_of("soft", limited, theirs={"latency": 1}) is None
    assert limit_of("soft", limited, before=replace(FREE, limit_bytes=3 * GIB)) == 0
    assert limit_of("low", FREE, may=False) == 0


def test_limit_that_was_taken_back_stays_away() -> None:
    """For ten minutes; it is taken back at once, whenever something was asked last."""
    fields = {"resident_bytes": 6 * GIB, "knobs_before": NORMAL}

    def table(now: float, old: Entitlement, **more: object) -> Table:
        found = world(2 * GIB, now=now, knobs=old, **fields | more)  # type: ignore[arg-type]
        found.state, found.limits = "hard", Limits(may_limit=True)
        return found

    limited = replace(FREE, limit_bytes=3 * GIB)
    release = table(1.0, limited, theirs={"latency": 5})
    made = decisions(release, {"vm-0": Turned(asked_at=0.0)})
    assert isinstance(made["vm-0"].ask, Entitlement)
    assert made["vm-0"].ask.limit_bytes is None
    turned = after({"vm-0": Turned(asked_at=0.0)}, made, release)
    assert turned["vm-0"].freed_at == 1.0
    assert asked(table(LIMIT_PAUSE_S, FREE), turned) == {}
    assert asked(table(LIMIT_PAUSE_S + 2, FREE), turned)["vm-0"].limit_bytes is not None


def test_limit_goes_with_the_balloon_and_with_the_leave_to_set_one() -> None:
    """Without a balloon it is pure swap; held or only watched, it stays as it is."""
    limited = replace(FREE, limit_bytes=3 * GIB)
    assert limit_of("soft", limited, can_balloon=False, leave_alone="no Tools") is None
    assert limit_of("soft", limited, leave_alone="on hold since noon", can_balloon=True, mode=Mode.OBSERVE) == 0
    assert limit_of("soft", limited, mode=Mode.OBSERVE) == 0
    assert limit_of("soft", limited, may=False) is None


def test_what_the_operator_set_at_the_hypervisor_counts() -> None:
    """High shares stay high, a reservation is never lowered, and none is asked for beyond a limit."""
    was = Entitlement(shares=163840, reservation_bytes=6 * GIB, level="high")
    assert asked(world(4 * GIB, knobs=was)) == {}
    wish = asked(world(4 * GIB, shares=3000, knobs=was))["vm-0"]
    assert (wish.shares, wish.level, wish.reservation_bytes) == (3 * 81920, "custom", 6 * GIB)
    bound = replace(NORMAL, limit_bytes=2 * GIB)
    wish = asked(world(4 * GIB, knobs=bound))["vm-0"]
    assert (wish.limit_bytes, wish.reservation_bytes) == (2 * GIB, 2 * GIB)


def test_a_limit_that_cannot_be_taken_back_is_tried_again_and_not_each_tick() -> None:
    """At once the first time, and then as often as one that pages is looked after."""
    limited, turned, times = replace(FREE, limit_bytes=3 * GIB), dict[str, Turned](), []
    for now in range(60):
        table = world(2 * GIB, now=float(now), knobs=limited, knobs_before=NORMAL, resident_bytes=6 * GIB)
        made = decisions(table, turned)
        turned = after(turned, made, table)
        times += [now] if made["vm-0"].ask is not None else []
    assert times == [0, 15, 30, 45]


def test_a_limit_stays_away_from_who_was_not_seen_for_a_moment() -> None:
    """The pause is not forgotten with the guest; it is when it is over."""
    old = {"gone": Turned(asked_at=1.0, freed_at=1.0), "other": Turned(asked_at=1.0)}
    assert after(old, {}, world(now=2.0)) == {"gone": old["gone"]}
    assert after(old, {}, world(now=LIMIT_PAUSE_S + 2)) == {}
