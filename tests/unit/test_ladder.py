"""The ladder beyond balloons: off by default, behind the same guard, put back at the end."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from ballonet.act.host_steps import HostSteps
from ballonet.decide.ladder import KSM_MOST, PERIOD_S, RECLAIM_MOST_BYTES
from ballonet.decide.ladder import emergency as decided
from ballonet.decide.step import START, step
from ballonet.model.limits import Limits
from ballonet.model.plan import Decision, Emergency, Plan, Reason, Reserve, ReserveReason
from ballonet.model.snapshot import Guest, Host, Mode, Snapshot
from ballonet.model.units import GIB, MIB
from ballonet.sense.host import ProcHost

ALL = Limits(may_ksm=True, may_reclaim=True)


def world(state: str, *guests: tuple[str, Reason, int, Mode]) -> tuple[Plan, Snapshot]:
    """Guests of 4 GiB that need 1 GiB: name, reason, what they hold, mode."""
    seen = tuple(
        Guest(name=name, ceiling_bytes=4 * GIB, keep_bytes=4 * GIB, resident_bytes=held, mode=mode)
        for name, _, held, mode in guests
    )
    told = tuple(Decision(name, 4 * GIB, reason, {}, None, GIB // 2, GIB, GIB, GIB // 2) for name, reason, _, _ in guests)
    reserve = Reserve(GIB, ReserveReason.OPERATOR, {})
    plan = Plan(policy="adaptive", guests=told, host_state=state, reserve=reserve)
    return plan, Snapshot(host=Host(total_bytes=16 * GIB, available_bytes=GIB // 4), guests=seen)


def steps(plan: Plan, snapshot: Snapshot, limits: Limits, pages: int | None) -> Emergency:
    """What the host is to do, whose KSM looks at so many pages a turn."""
    return decided(plan, replace(snapshot, host=replace(snapshot.host, ksm_pages=pages)), limits)


def test_nothing_unless_it_is_allowed() -> None:
    """Each by itself."""
    low = world("low", ("a", Reason.CALM, 3 * GIB, Mode.ACT))
    assert steps(*low, Limits(), 0) == steps(*low, Limits(), 500)
    assert steps(*low, Limits(), 0).reclaim == {}
    assert steps(*low, Limits(may_ksm=True), 0).reclaim == {}
    assert steps(*low, Limits(may_reclaim=True), 0).ksm_pages is None


def test_ksm_climbs_while_scarce_and_comes_down_when_there_is_plenty() -> None:
    """Not at all in between."""
    pages, seen = 0, []
    for _ in range(8):
        pages = steps(*world("soft"), ALL, pages).ksm_pages or 0
        seen.append(pages)
    assert seen[0] == 364
    assert seen[-1] == KSM_MOST
    assert steps(*world("clear"), ALL, 700).ksm_pages == 700
    assert steps(*world("high"), ALL, 700).ksm_pages == 650
    assert steps(*world("high"), ALL, 100).ksm_pages == 0


@pytest.mark.parametrize("state", ["high", "clear", "soft"])
def test_nobody_is_paged_out_before_the_host_is_in_need(state: str) -> None:
    """Hard and low only."""
    assert steps(*world(state, ("a", Reason.CALM, 3 * GIB, Mode.ACT)), ALL, 0).reclaim == {}


def test_who_is_paged_out_and_by_how_much() -> None:
    """Those that hold most beyond need, no more than the host lacks; nobody in distress, on hold, only watched or unknown."""
    plan, snapshot = world(
        "hard",
        ("most", Reason.CALM, 3 * GIB, Mode.ACT),
        ("some", Reason.DONOR, GIB + 100 * MIB, Mode.ACT),
        ("need", Reason.CALM, GIB, Mode.ACT),
        ("watched", Reason.CALM, 3 * GIB, Mode.OBSERVE),
        *((reason.value, reason, 3 * GIB, Mode.ACT) for reason in (Reason.DISTRESS, Reason.ALONE, Reason.STALE, Reason.SHORT)),
    )
    assert steps(plan, snapshot, ALL, 0).reclaim == {"most": RECLAIM_MOST_BYTES, "some": 100 * MIB}
    little = replace(snapshot, host=replace(snapshot.host, available_bytes=GIB - 10 * MIB))
    assert steps(plan, little, ALL, 0).reclaim == {"most": 10 * MIB}


def test_steps_are_part_of_a_plan_and_come_each_ten_seconds() -> None:
    """Whatever else is decided in between; none where nothing is allowed."""
    _, snapshot = world("low", ("a", Reason.CALM, 3 * GIB, Mode.ACT))
    snapshot = replace(snapshot, host=replace(snapshot.host, available_bytes=0, ksm_pages=0))
    for limits, times in ((ALL, [0.0, PERIOD_S, 2 * PERIOD_S]), (Limits(), [])):
        state, found = START, []
        for now in range(int(2 * PERIOD_S) + 1):
            state, plan = step(state, snapshot, limits, float(now))
            if plan.emergency != Emergency():
                found.append(float(now))
        assert found == times


async def test_ksm_is_put_back_when_it_is_not_allowed_any_more(tmp_path: Path) -> None:
    """Without an end of the daemon."""
    root = tree(tmp_path)
    ladder = await climbed(root)
    ladder.climb(Plan(policy="adaptive", guests=()), may_ksm=False)
    assert (root / "sys/kernel/mm/ksm/run").read_text() == "0\n"


def tree(root: Path) -> Path:
    for name, text in {
        "sys/kernel/mm/ksm/run": "0\n",
        "sys/kernel/mm/ksm/pages_to_scan": "100\n",
        "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 500 kB\n",
        "proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 1\n",
        "proc/7/cgroup": "0::/machine.slice/vm-a.scope/emulator\n",
        "sys/fs/cgroup/machine.slice/vm-a.scope/memory.reclaim": "",
        "sys/fs/cgroup/machine.slice/vm-a.scope/emulator/cgroup.procs": "7\n",
        "sys/fs/cgroup/machine.slice/memory.reclaim": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


async def climbed(root: Path, allowed: Limits = ALL) -> HostSteps:
    ladder = HostSteps(root, {"a": 7}.get)
    plan, snapshot = world("low", ("a", Reason.CALM, 3 * GIB, Mode.ACT))
    pages = ProcHost(root).read().host.ksm_pages
    ladder.climb(replace(plan, emergency=steps(plan, snapshot, allowed, pages)), may_ksm=allowed.may_ksm)
    if ladder._task is not None:
        await asyncio.wait_for(ladder._task, 5)
    return ladder


async def test_steps_are_taken_and_put_back(tmp_path: Path) -> None:
    """KSM runs while it is needed; the guest's own group is told how much to page out; at the end KSM is as it was."""
    root = tree(tmp_path)
    ladder = await climbed(root)
    assert (root / "sys/kernel/mm/ksm/run").read_text() == "1"
    assert (root / "sys/kernel/mm/ksm/pages_to_scan").read_text() == "364"
    assert (root / "sys/fs/cgroup/machine.slice/vm-a.scope/memory.reclaim").read_text() == str(RECLAIM_MOST_BYTES)
    assert (root / "sys/fs/cgroup/machine.slice/memory.reclaim").read_text() == ""
    await ladder.close()
    assert (root / "sys/kernel/mm/ksm/run").read_text() == "0\n"
    assert (root / "sys/kernel/mm/ksm/pages_to_scan").read_text() == "100\n"


async def test_nothing_is_touched_that_is_not_allowed(tmp_path: Path) -> None:
    """Whatever state the host is in."""
    root = tree(tmp_path)
    await climbed(root, Limits())
    assert (root / "sys/kernel/mm/ksm/run").read_text() == "0\n"
    assert (root / "sys/fs/cgroup/machine.slice/vm-a.scope/memory.reclaim").read_text() == ""


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("proc/swaps", "Filename Type Size Used Priority\n", "no swap to page out to"),
        ("sys/fs/cgroup/machine.slice/vm-a.scope/emulator/cgroup.procs", "7\n8\n", "1 other processes"),
        ("proc/7/cgroup", "0::/\n", "no cgroup of its own"),
    ],
)
async def test_what_stands_in_the_way_is_told_and_nothing_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, text: str, says: str
) -> None:
    """A group that others share would page them out too."""
    root = tree(tmp_path)
    (root / file).write_text(text)
    await climbed(root, Limits(may_reclaim=True))
    told = " ".join(str(record.__dict__.get("trouble", "")) for record in caplog.records)
    assert says in told
    assert (root / "sys/fs/cgroup/machine.slice/vm-a.scope/memory.reclaim").read_text() == ""
