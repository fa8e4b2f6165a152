"""What is said of a guest: the numbers and a remedy, for every reason that there is."""

import pytest
from msgspec.structs import replace

from ballonet.model.plan import Decision, Keep, Plan, PlanBudget, Reason, Reserve, ReserveReason, Shortage
from ballonet.model.snapshot import Guest, GuestStats, Host, Mode, Snapshot
from ballonet.model.tick import Tick
from ballonet.model.units import GIB, MIB
from ballonet.status.errors import NoSuchGuestError
from ballonet.status.explain import CHANGES, explain
from ballonet.status.tell import status_of

NUMBERS = {
    "used_bytes": 3 * GIB,
    "growth_bytes": 100 * MIB,
    "need_bytes": 4 * GIB,
    "swap_in_bytes": MIB,
    "swap_out_bytes": MIB,
    "wait_s": 30.0,
    "deficit_bytes": GIB,
    "names": "web-3",
    "peer": "Proxmox VE",
    "what": "its goal is",
    "goal_bytes": GIB,
    "floor_bytes": GIB,
    "wish_bytes": 2 * GIB,
    "slack_bytes": GIB,
    "stats_age_s": 12.0,
    "asked_bytes": 2 * GIB,
    "still_s": 6.0,
    "why": "QEMU is stopped",
    "mode": "observe",
    "risen_bytes": 2 * GIB,
    "rising_s": 60.0,
    "demand_bytes": 9 * GIB,
    "recalled_bytes": GIB,
    "occupied_bytes": 6 * GIB,
    "has": "gets",
    "reservation_bytes": 2 * GIB,
    "shares": 1000,
    "limited": "",
    "need_now_bytes": 2 * GIB,
    "pages": "",
    "minimum_bytes": GIB,
    "maximum_bytes": 8 * GIB,
    "buffer_percent": 50,
    "priority": 50,
}


def told(reason: Reason, mode: Mode = Mode.ACT, host_mode: Mode = Mode.ACT, within: str = "", **more: object) -> str:
    stats = GuestStats(total_bytes=6 * GIB, available_bytes=3 * GIB, swap_total_bytes=GIB, swap_free_bytes=GIB)
    fields = {"keep_bytes": 6 * GIB, "resident_bytes": 5 * GIB, "stats": stats, "stats_age_s": 0.4, "mode": mode} | more
    guest = Guest(name="web", ceiling_bytes=16 * GIB, **fields)  # type: ignore[arg-type]
    numbers = NUMBERS | ({"within": f"the limit of {within}"} if within else {})
    decision = Decision("web", 6 * GIB, reason, numbers, Keep(6 * GIB), 3 * GIB, 4 * GIB, int(3.2 * GIB), GIB)
    plan = Plan(
        policy="adaptive",
        guests=(decision,),
        short=(Shortage("web", GIB, within), Shortage("db", 2 * GIB)) if reason is Reason.SHORT else (),
        budgets=(PlanBudget("/machine.slice", 12 * GIB, ("web", "cache"), 11 * GIB),) if within else (),
        memory_bytes=100 * GIB,
        promised_bytes=90 * GIB,
        fixed={"web": int(5.5 * GIB)},
        reserve=Reserve(4 * GIB, ReserveReason.OPERATOR, {}),
    )
    tick = Tick(at=0, snapshot=Snapshot(host=Host(total_bytes=120 * GIB, available_bytes=20 * GIB), guests=(guest,)), plan=plan)
    found = explain(tick, "web", at=1e9, mode=host_mode)
    assert status_of(tick, at=1e9, mode=host_mode).guests[0].sentence in found.sentence
    return "\n".join((found.sentence, found.host, *found.changes, *(f"{fact.what}: {fact.value}" for fact in found.facts)))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_numbers_and_what_would_change_it(reason: Reason) -> None:
    """And names the guest, the host's memory and its state."""
    text = told(reason)
    assert reason in CHANGES
    for what in (
        "web ",
        "120 GiB",
        "90 GiB of the 100 GiB",
        "keeps 4 GiB free",
        "State: high",
        "keep: what its balloon leaves it now: 6 GiB",
        "used: 3 GiB",
    ):
        assert what in text, what
    assert "{" not in text


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        (
            Reason.CALM,
            (
                "more than 5 GiB",
                "can spare 2 GiB",
                "10 GiB is promised to no guest",
                "ballonet set web --floor SIZE",
                "ballonet hold web",
            ),
        ),
        (Reason.SHORT, ("lacks 1 GiB", "too small", "--guaranteed 3277MiB", "1000")),
        (Reason.DONOR, ("reserve of 4 GiB", "never below its need of 4 GiB")),
        (Reason.DISTRESS, ("ballonet set web --floor 4096MiB", "what it needs now")),
        (Reason.STALE, ("lsmod", "BLNSVR")),
    ],
)
def test_what_would_change_it(reason: Reason, says: tuple[str, ...]) -> None:
    """The figures are those of the guest, the commands can be typed as they stand."""
    text = told(reason)
    for one in says:
        assert one in text, one


def test_a_guest_that_pages_with_all_its_memory_cannot_be_helped_by_a_floor() -> None:
    """It is said what can."""
    assert "give the VM more memory" in told(Reason.DISTRESS, keep_bytes=16 * GIB)


def test_modes_name_the_command_that_helps() -> None:
    """The host's, where it is the host that only watches; the guest's own otherwise."""
    assert "`ballonet mode act`" in told(Reason.OBSERVED, Mode.OBSERVE, Mode.OBSERVE)
    assert "`ballonet set web --mode act`" in told(Reason.OBSERVED, Mode.OBSERVE, Mode.ACT)
    assert "Nothing of this is sent in mode advise: `ballonet mode act`" in told(Reason.DONOR, Mode.ADVISE, Mode.ADVISE)
    for own in (Mode.OBSERVE, Mode.ADVISE):  # of one guest on a host that acts: no command that would stop all others
        said = told(Reason.OBSERVED, own, Mode.ACT)
        assert "ballonet mode advise" not in said
        assert said.count("--mode act") == 1


def test_left_alone_says_the_adapter_s_own_remedy() -> None:
    """Or that it counts at what it holds."""
    assert "What to do: qm set 100 --shares 0" in told(Reason.ALONE, leave_alone="pvestatd balloons it; qm set 100 --shares 0")
    assert "counts at 5.5 GiB, what it holds" in told(Reason.ALONE, leave_alone="a device is passed through")
    assert "when the migration is over" in told(Reason.ALONE, is_migrating=True)


def test_what_counts_and_is_not_resident_is_told() -> None:
    """Of most guests there is nothing to tell; where there is, it decides what they count at and may keep."""
    plain = told(Reason.CALM)
    assert not any(word in plain for word in ("host's swap", "huge pages", "limited by the host", "stays free"))
    said = told(
        Reason.CALM, swapped_bytes=2 * GIB, huge_bytes=3 * GIB, limit_bytes=9 * GIB, headroom_bytes=GIB, cache_bytes=4 * GIB
    )
    for line in (
        "in the host's swap: 2 GiB",
        "in huge pages of the host, which no other guest can be lent: 3 GiB",
        "limited by the host to: 9 GiB",
        "stays free in it, as set: 1 GiB",
        "page cache that counts as needed, as set: 4 GiB",
    ):
        assert line in said, said


def test_nobody_of_that_name() -> None:
    """Those that there are, are named."""
    tick = Tick(at=0, snapshot=Snapshot(host=Host(total_bytes=1, available_bytes=1)), plan=Plan(policy="adaptive", guests=()))
    with pytest.raises(NoSuchGuestError, match="there are: none at all"):
        explain(tick, "web", at=0, mode=Mode.ACT)


@pytest.mark.parametrize("reason", [Reason.SHORT, Reason.PART, Reason.BUDGET])
def test_a_full_limit_is_named_and_not_the_host(reason: Reason) -> None:
    """Beside it the host may have plenty: moving a guest to another host is no remedy then."""
    assert "the host" in told(reason)
    text = told(reason, within="/machine.slice")
    assert "limit of /machine.slice" in text.split("\n")[0]
    assert "lies within the limit of /machine.slice, whose guests may take: 11 GiB of 12 GiB" in text
    assert "raise it, or move a guest out" in text
    assert "This host is too small" not in text


def test_those_short_are_told_by_what_is_too_small() -> None:
    """The host's and the limit's apart."""
    text = told(Reason.SHORT, within="/machine.slice")
    assert (
        "1 guest lacks 2 GiB of the least that keeps them from paging. Within the limit of /machine.slice 1 guest lacks 1 GiB"
        in text
    )
    assert "all within that limit lack 1 GiB together" in text


def test_a_floor_that_no_order_lowers_is_not_said_to_be_lowered_by_one() -> None:
    """It stands above what the operator set, since nobody knows of swap."""
    raised = told(Reason.FLOOR, floor_bytes=GIB // 2, stats=GuestStats(total_bytes=6 * GIB, available_bytes=3 * GIB))
    assert "with ballonet's agent in the guest" in raised
    assert "ballonet set web --floor SIZE, less" not in raised
    assert "ballonet set web --floor SIZE`, less than 1 GiB" in told(Reason.FLOOR, floor_bytes=GIB)


def test_a_guest_that_uses_more_than_the_line_is_not_told_of_the_line() -> None:
    """It keeps less than it needs: what it waits for is said, and no figure that it has passed."""
    text = told(Reason.CALM, keep_bytes=int(3.5 * GIB))
    assert "It needs 4 GiB, and keeps 3.5 GiB" in text
    assert "gets more when it uses more than" not in text


def test_words_of_what_is_not_so() -> None:
    """Never heard is heard by nobody; more promised than there is, is what guests may take."""
    assert "last heard: never\n" in told(Reason.UNKNOWN, stats=None, stats_age_s=None) + "\n"


def test_remedies_of_the_past_are_of_the_mode_then() -> None:
    """A time at which the whole host only advised, told while it acts."""
    guest = Guest(name="web", ceiling_bytes=16 * GIB, keep_bytes=6 * GIB, resident_bytes=5 * GIB, mode=Mode.ADVISE)
    decision = Decision("web", 5 * GIB, Reason.DONOR, NUMBERS, Keep(6 * GIB), 3 * GIB, 4 * GIB, 3 * GIB, GIB)
    plan = Plan(policy="adaptive", guests=(decision,), memory_bytes=100 * GIB)
    tick = Tick(at=0, snapshot=Snapshot(host=Host(total_bytes=120 * GIB, available_bytes=GIB), guests=(guest,)), plan=plan)
    then = explain(tick, "web", at=0, mode=None)
    assert any("ballonet mode act" in change for change in then.changes)


def test_many_who_keep_memory_by_order_are_a_few_names_and_a_number() -> None:
    """On a host of 150 guests too, what one reads is short; the largest come first."""
    kept = tuple(
        Guest(name=f"db-{n}", ceiling_bytes=8 * GIB, keep_bytes=8 * GIB - n * MIB, stats_age_s=0.1, leave_alone="on hold")
        for n in range(9)
    )
    own = Decision("web", 6 * GIB, Reason.SHORT, NUMBERS, Keep(6 * GIB), 6 * GIB, 8 * GIB, 7 * GIB, GIB)
    others = tuple(Decision(one.name, 8 * GIB, Reason.ALONE, {"why": ""}, None, 2 * GIB, 3 * GIB, 3 * GIB, GIB) for one in kept)
    web = Guest(name="web", ceiling_bytes=16 * GIB, keep_bytes=6 * GIB, resident_bytes=6 * GIB, stats_age_s=0.1)
    plan = Plan(policy="adaptive", guests=(*others, own), memory_bytes=14 * GIB, promised_bytes=14 * GIB)
    host = Host(total_bytes=16 * GIB, available_bytes=GIB)
    tick = Tick(at=0, snapshot=Snapshot(host=host, guests=(*kept, web)), plan=plan)
    told = [one for one in explain(tick, "web", at=1e9, mode=Mode.ACT).changes if "db-" in one or "left alone" in one]
    assert [one.split()[0] for one in told] == ["db-0", "db-1", "db-2", "6"]


def beside(kept: Guest, reason: Reason, numbers: dict[str, object]) -> str:
    """What is said of `web`, beside a guest that keeps 8 GiB and needs 3."""
    web = Guest(name="web", ceiling_bytes=16 * GIB, keep_bytes=6 * GIB, resident_bytes=6 * GIB, stats_age_s=0.1)
    decisions = (
        Decision("web", 6 * GIB, reason, NUMBERS | numbers, Keep(6 * GIB), 6 * GIB, 8 * GIB, 7 * GIB, GIB),
        Decision("db", 8 * GIB, Reason.ALONE, {"why": "by order"}, None, 2 * GIB, 3 * GIB, 3 * GIB, GIB),
    )
    plan = Plan(policy="adaptive", guests=decisions, memory_bytes=14 * GIB, promised_bytes=14 * GIB)
    host = Host(total_bytes=16 * GIB, available_bytes=GIB)
    tick = Tick(at=0, snapshot=Snapshot(host=host, guests=(web, kept)), plan=plan)
    return "\n".join(explain(tick, "web", at=1e9, mode=Mode.ACT).changes)


@pytest.mark.parametrize("reason", [Reason.SHORT, Reason.BUDGET, Reason.PART])
def test_who_keeps_memory_by_order_is_named_to_those_who_lack_it(reason: Reason) -> None:
    """With the command that lets it go, and not a larger reserve."""
    kept = Guest(name="db", ceiling_bytes=8 * GIB, keep_bytes=8 * GIB, resident_bytes=2 * GIB, stats_age_s=0.1)
    why = "on hold; to let it go: ballonet release db"
    for one in (replace(kept, deflates=why), replace(kept, leave_alone=why)):
        text = beside(one, reason, {})
        assert "db keeps 5 GiB more than it needs, and gives nothing:" in text
        assert "ballonet release db" in text
        assert "host.reserve" not in text
    assert "db keeps" not in beside(kept, reason, {})
