"""What holds of every plan, for any world and any past."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ballonet.decide.floor import floor_bytes
from ballonet.decide.policies import POLICIES
from ballonet.decide.step import START, step
from ballonet.model.limits import Limits
from ballonet.model.plan import Plan
from ballonet.model.snapshot import Guest, GuestStats, Host, Mode, Snapshot
from ballonet.model.units import GIB, MIB

SLACK = 2 * MIB
sizes = st.integers(0, 2**64)  # guests say what they like
small = st.integers(0, 4 * GIB)
stats = st.builds(
    GuestStats,
    total_bytes=st.none() | sizes | small,
    free_bytes=st.none() | sizes,
    available_bytes=st.none() | sizes | small,
    cache_bytes=st.none() | sizes,
    swap_free_bytes=st.none() | sizes,
    swap_in_bytes=st.none() | sizes | small,
    swap_out_bytes=st.none() | sizes | small,
)


@st.composite
def guests(draw: st.DrawFn, name: str) -> Guest:
    ceiling = draw(st.integers(64 * MIB, 4 * GIB))
    return Guest(
        name=name,
        ceiling_bytes=ceiling,
        keep_bytes=draw(st.none() | st.integers(1, ceiling)),
        resident_bytes=draw(st.none() | st.integers(0, ceiling)),
        stats=draw(st.none() | stats),
        stats_age_s=draw(st.none() | st.floats(0, 100)),
        floor_bytes=draw(st.none() | st.integers(0, ceiling)),
        guaranteed_bytes=draw(st.integers(0, ceiling)),
        shares=draw(st.integers(1, 50000)),
        can_balloon=draw(st.booleans()),
        is_migrating=draw(st.booleans()),
        mode=draw(st.sampled_from(Mode)),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Snapshot]:
    """A few moments of one host; guests come and go, numbers jump."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        host = Host(total_bytes=draw(st.integers(MIB, 16 * GIB)), available_bytes=draw(st.integers(0, 8 * GIB)))
        names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=5))
        found.append(Snapshot(host=host, guests=tuple(draw(guests(name)) for name in names)))
    return found


def plans(history: list[Snapshot], policy: str) -> list[Plan]:
    state, found = START, []
    for number, snapshot in enumerate(history):
        state, plan = step(state, snapshot, Limits(), 0.5 * number, policy)
        found.append(plan)
    return found


@settings(max_examples=150, deadline=None)
@given(histories(), st.sampled_from(sorted(POLICIES)))
def test_every_plan(history: list[Snapshot], policy: str) -> None:
    """Order, bounds, floors, who must not be moved, and a sentence for each."""
    for snapshot, plan in zip(history, plans(history, policy), strict=True):
        assert [one.name for one in plan.guests] == [guest.name for guest in snapshot.guests]
        for one, guest in zip(plan.guests, snapshot.guests, strict=True):
            assert len(one.sentence) > 10
            if not one.is_command:
                continue
            assert one.keep_bytes is not None
            assert guest.keep_bytes is not None
            assert 0 < one.keep_bytes <= guest.ceiling_bytes
            assert guest.can_balloon
            assert not guest.is_migrating
            assert guest.mode is not Mode.OBSERVE
            if one.keep_bytes < guest.keep_bytes:
                assert one.keep_bytes >= floor_bytes(guest)


@settings(max_examples=150, deadline=None)
@given(histories(), st.sets(st.sampled_from("abcdef")))
def test_no_subset_of_commands_promises_too_much(history: list[Snapshot], carried_out: set[str]) -> None:
    """R4: whichever commands of a plan take effect, guests may take no more than there is, unless they may already."""
    for snapshot, plan in zip(history, plans(history, "adaptive"), strict=True):
        before = after = 0
        for one, guest in zip(plan.guests, snapshot.guests, strict=True):
            held = max(guest.ceiling_bytes if guest.keep_bytes is None else guest.keep_bytes, guest.resident_bytes or 0)
            before += held
            after += max(held, one.keep_bytes or 0) if one.is_command and one.name in carried_out else held
        assert after <= max(before, plan.memory_bytes + SLACK)
