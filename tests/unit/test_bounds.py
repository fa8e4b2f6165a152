"""Steering by bounds: buffer and priority from needs, minimum and maximum as a ratchet, nothing that Set-VMMemory forbids."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ballonet.decide.memory import GuestMemory, Use
from ballonet.decide.seat import Seat
from ballonet.decide.steering.bounds import GRAIN_BYTES, RISING_PERCENT, RISING_SHARE_PER_S
from ballonet.decide.steering.knobs import PACES, Turned, decisions
from ballonet.decide.table import Table
from ballonet.model.knobs import BUFFER_PERCENT, PRIORITY, Bounds, Steering
from ballonet.model.limits import Limits
from ballonet.model.plan import Reason
from ballonet.model.snapshot import Guest, GuestStats, Mode
from ballonet.model.units import GIB, MIB

OLD = Bounds(minimum_bytes=2 * GIB, maximum_bytes=8 * GIB, buffer_percent=20, priority=50)


def seat(used: int, need: int, old: Bounds = OLD, before: Bounds = OLD, growth: float = 0.0, **fields: object) -> Seat:
    """One guest of 8 GiB that keeps 4."""
    said = GuestStats(total_bytes=4 * GIB, available_bytes=GIB)
    guest = Guest(name="vm", ceiling_bytes=8 * GIB, keep_bytes=4 * GIB, stats=said, knobs=old, knobs_before=before)
    memory = GuestMemory(use=Use(used_bytes=used, growth_per_s=growth))
    return Seat(
        replace(guest, **fields),
        memory,
        keep_bytes=4 * GIB,
        held_bytes=4 * GIB,
        floor_bytes=512 * MIB,
        needs_bytes=(min(need, 4 * GIB), need),
    )


def table(*seats: Seat, total: int = 64 * GIB, state: str = "high", now: float = 1e6) -> Table:
    return Table(seats=list(seats), limits=Limits(), total_bytes=total, memory_bytes=total, now=now, state=state)


def wish(used: int, need: int, old: Bounds = OLD, state: str = "high", total: int = 64 * GIB, **fields: object) -> Bounds:
    """What it would be set to; what stands where nothing is worth it."""
    found = decisions(table(seat(used, need, old, **fields), total=total, state=state), {})["vm"].ask  # type: ignore[arg-type]
    return found if isinstance(found, Bounds) else old


def test_the_buffer_is_the_operators_and_larger_while_a_guest_rises() -> None:
    """However much it needs; a guarantee is kept by it too, and goes back to what it was."""
    assert wish(2 * GIB, 4 * GIB) == OLD
    assert wish(2 * GIB, 3 * GIB, growth=100e6).buffer_percent == RISING_PERCENT
    assert wish(2 * GIB, 3 * GIB, growth=0.9 * RISING_SHARE_PER_S * 8 * GIB) == OLD
    own = replace(OLD, buffer_percent=200)
    assert wish(2 * GIB, 3 * GIB, own, before=own, growth=100e6) == own
    assert wish(2 * GIB, 3 * GIB, replace(OLD, buffer_percent=RISING_PERCENT)) == OLD
    assert wish(GIB, GIB, guaranteed_bytes=4 * GIB).buffer_percent == 300


def test_a_guest_that_rises_is_not_made_to_wait_and_others_are() -> None:
    """2 s and 10 s."""
    rule_s, urgent_s = PACES[Steering.BOUNDS]
    for growth, wait_s in ((0.0, rule_s), (100e6, urgent_s)):
        one = seat(2 * GIB, 3 * GIB, growth=growth, shares=2000)
        assert decisions(table(one, now=100 + wait_s - 0.5), {"vm": Turned(asked_at=100.0)})["vm"].ask is None
        assert decisions(table(one, now=100 + wait_s), {"vm": Turned(asked_at=100.0)})["vm"].ask is not None


def test_a_decision_tells_what_stands_and_what_is_asked() -> None:
    """Never of a balloon that nobody sizes."""
    one = decisions(table(seat(2 * GIB, 3 * GIB, growth=100e6)), {})["vm"]
    assert (one.reason, one.keep_bytes, one.steering) == (Reason.BOUNDED, 4 * GIB, Steering.BOUNDS)
    assert one.sentence.startswith("gets 2 GiB to 8 GiB, a buffer of 150 % and priority 50")


def test_priority_is_the_operators_shares() -> None:
    """50 is 1000; what somebody set stays where nobody says otherwise."""
    assert wish(2 * GIB, 3 * GIB, shares=1500).priority == 75
    assert wish(2 * GIB, 3 * GIB, shares=50000).priority == 100
    own = replace(OLD, priority=30)
    assert wish(2 * GIB, 3 * GIB, own, before=own).priority == 30


def test_minimum_falls_while_the_host_is_short() -> None:
    """A step at a time, to what it needs or is guaranteed."""
    assert wish(GIB, GIB).minimum_bytes == 2 * GIB
    assert wish(GIB, GIB, state="soft").minimum_bytes == GIB
    assert wish(GIB // 2, GIB // 2, state="low", guaranteed_bytes=int(1.5 * GIB)).minimum_bytes == int(1.5 * GIB)
    assert wish(3 * GIB, 3 * GIB, state="low").minimum_bytes == 2 * GIB


def test_maximum_rises_to_what_the_operator_lets_it_have() -> None:
    """When it needs nearly all of it, a step at a time."""
    assert wish(6 * GIB, 7 * GIB, grows_to_bytes=16 * GIB).maximum_bytes == 8 * GIB
    assert wish(7 * GIB, 8 * GIB, grows_to_bytes=16 * GIB).maximum_bytes == 9 * GIB
    assert wish(7 * GIB, 8 * GIB, grows_to_bytes=8 * GIB + GRAIN_BYTES).maximum_bytes == 8 * GIB + GRAIN_BYTES
    assert wish(7 * GIB, 8 * GIB).maximum_bytes == 8 * GIB


def test_who_is_watched_or_left_alone_is_not_touched() -> None:
    """R13 and the modes."""
    assert wish(GIB, 8 * GIB, mode=Mode.OBSERVE) == OLD
    assert wish(GIB, 8 * GIB, can_balloon=False) == OLD


@given(
    st.integers(1, 64 * GIB),
    st.integers(1, 64 * GIB),
    st.sampled_from(["high", "soft", "low"]),
    st.integers(0, 8 * GIB),
    st.integers(1, 50000),
    st.integers(0, 64 * GIB),
)
def test_nothing_forbidden_is_asked(used: int, need: int, state: str, guaranteed: int, shares: int, most: int) -> None:
    """While it runs: minimum only down, maximum only up and in blocks of 128 MB, the rest within its bounds."""
    new = wish(used, need, state=state, guaranteed_bytes=guaranteed, shares=shares, grows_to_bytes=most or None)
    assert 0 < new.minimum_bytes <= OLD.minimum_bytes
    assert OLD.maximum_bytes <= new.maximum_bytes
    assert (new.minimum_bytes - OLD.minimum_bytes) % GRAIN_BYTES == 0
    assert (new.maximum_bytes - OLD.maximum_bytes) % GRAIN_BYTES == 0
    assert BUFFER_PERCENT[0] <= new.buffer_percent <= BUFFER_PERCENT[1]
    assert PRIORITY[0] <= new.priority <= PRIORITY[1]
