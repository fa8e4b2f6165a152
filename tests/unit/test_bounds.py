"""Steering by bounds: buffer and priority from needs, minimum and maximum as a ratchet, nothing that Set-VMMemory forbids."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ballonet.decide.bounds import GRAIN_BYTES, MOST_BUFFER_PERCENT, changes
from ballonet.model.knobs import BUFFER_PERCENT, PRIORITY, Bounds
from ballonet.model.plan import Decision, Plan, Reason
from ballonet.model.snapshot import Guest, Host, Mode, Snapshot
from ballonet.model.units import GIB, MIB

OLD = Bounds(minimum_bytes=2 * GIB, maximum_bytes=8 * GIB, buffer_percent=20, priority=50)


def wish(used: int, need: int, old: Bounds = OLD, state: str = "high", before: Bounds = OLD, **fields: object) -> Bounds:
    """What one guest of 8 GiB would be set to; what stands where nothing is worth it."""
    guest = replace(Guest(name="vm", ceiling_bytes=8 * GIB, keep_bytes=4 * GIB), **fields)
    one = Decision("vm", 4 * GIB, Reason.CALM, {}, False, used, need, need, 512 * MIB)
    plan = Plan(policy="adaptive", guests=(one,), host_state=state)
    found = changes(
        plan, Snapshot(host=Host(total_bytes=64 * GIB, available_bytes=GIB), guests=(guest,)), {"vm": old}, {"vm": before}
    )
    return found[0][1] if found else old


def test_buffer_is_what_it_needs_beyond_its_demand() -> None:
    """Never less than the operator's, never more than 100 %, unless more is guaranteed."""
    assert wish(2 * GIB, 3 * GIB).buffer_percent == 50
    assert wish(2 * GIB, 2 * GIB, replace(OLD, buffer_percent=60)).buffer_percent == 20
    assert wish(GIB, 4 * GIB).buffer_percent == MOST_BUFFER_PERCENT
    assert wish(GIB, GIB, guaranteed_bytes=4 * GIB).buffer_percent == 300
    assert wish(2 * GIB, int(2.5 * GIB)) == OLD


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
    assert wish(GIB, 8 * GIB, mode=Mode.ADVISE) == OLD
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
