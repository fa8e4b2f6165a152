"""What a hypervisor's own loop is to go by is sent in the background, one guest after the other."""

import asyncio

import pytest
from msgspec.structs import replace

from ballonet.act import turner as turner_module
from ballonet.act.turner import Turner
from ballonet.hypervisors.contract import Guided, RefusedError
from ballonet.model.knobs import Entitlement, Knobs
from ballonet.model.plan import Decision, Keep, Plan, Reason
from ballonet.model.snapshot import Guest, Host, Mode, Snapshot
from ballonet.model.units import GIB

OLD = Entitlement(shares=1000, reservation_bytes=2 * GIB)


class Esx(Guided):
    """Remembers what it was told; answers when it is let."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Knobs]] = []
        self.refuses = ""
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    def host(self) -> Host | None:
        return None

    def knobs(self) -> dict[str, Knobs]:
        return {}

    def originals(self) -> dict[str, Knobs]:
        return {}

    async def restore(self, deadline_s: float = 30.0) -> tuple[dict[str, Knobs], dict[str, str]]:
        return {}, {}

    async def turn(self, name: str, wish: Knobs, deadline_s: float) -> None:
        await self.goes_on.wait()
        if name == self.refuses:
            raise RefusedError("no")
        self.sent.append((name, wish))


def asking(reservations: dict[str, int | None], mode: Mode = Mode.ACT) -> tuple[Plan, Snapshot]:
    """A plan that asks for so much to be reserved, in GiB."""
    guests = tuple(Guest(name=name, ceiling_bytes=8 * GIB, knobs=OLD, mode=mode) for name in reservations)
    told = tuple(
        Decision(
            name, 8 * GIB, Reason.ENTITLED, {}, None if size is None else Entitlement(shares=1000, reservation_bytes=size * GIB)
        )
        for name, size in reservations.items()
    )
    host = Host(total_bytes=64 * GIB, available_bytes=GIB)
    return Plan(policy="adaptive", guests=told), Snapshot(host=host, guests=guests)


async def settled(turner: Turner) -> None:
    """Until what was asked is sent."""
    while turner._task is not None and not turner._task.done():
        await asyncio.sleep(0.001)


async def test_what_frees_goes_first_and_what_came_of_it_is_told() -> None:
    """A refusal is one guest's, and told once."""
    esx = Esx()
    turner = Turner(esx)
    outcome = await turner.apply(*asking({"more": 4, "less": 1, "same": None}))
    assert outcome.begun == ("less", "more")
    await settled(turner)
    assert [name for name, _ in esx.sent] == ["less", "more"]
    esx.refuses = "less"
    await turner.apply(*asking({"more": None}))  # takes what came of the first
    outcomes = [await turner.apply(*asking({"more": 3, "less": 2}))]
    await settled(turner)
    outcomes.append(await turner.apply(*asking({"more": None})))
    assert [one for outcome in outcomes for one in outcome.failed.items()] == [("less", "no")]
    assert [one for outcome in outcomes for one in outcome.sent] == ["more"]
    assert (await turner.apply(*asking({"more": None}))).failed == {}
    await turner.close()


async def test_a_host_that_answers_late_gets_the_last_word_only() -> None:
    """And no tick waits for it."""
    esx = Esx()
    esx.goes_on.clear()
    turner = Turner(esx)
    await turner.apply(*asking({"one": 1, "two": 4}))
    outcome = await turner.apply(*asking({"two": 6}))
    assert (outcome.under_way, outcome.waiting, outcome.begun) == (("one",), ("two",), ())
    esx.goes_on.set()
    await settled(turner)
    assert [(name, wish.reservation_bytes) for name, wish in esx.sent if isinstance(wish, Entitlement)] == [
        ("one", GIB),
        ("two", 6 * GIB),
    ]
    await turner.close()


async def test_nothing_is_sent_that_is_only_advised_or_a_balloon_s() -> None:
    """Whatever a plan asks."""
    esx = Esx()
    turner = Turner(esx)
    assert (await turner.apply(*asking({"one": 1}, Mode.ADVISE))).begun == ()
    plan, snapshot = asking({"one": None})
    keeps = Plan(policy="adaptive", guests=(Decision("one", GIB, Reason.NEEDS, {}, Keep(GIB)),))
    assert (await turner.apply(keeps, snapshot)).begun == ()
    assert (await turner.apply(plan, snapshot)).begun == ()
    assert esx.sent == []
    await turner.close()


async def test_what_was_asked_before_a_hold_or_of_another_moment_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what was asked of a guest that is gone, is only watched since, or waits for so long that it was of another moment."""
    _, seen = asking({"one": None, "two": None})
    one, two = seen.guests
    later: dict[str, tuple[Guest, ...]] = {
        "held": (one, replace(two, leave_alone="on hold")),
        "watched": (one, replace(two, mode=Mode.OBSERVE)),
        "deflated": (one, replace(two, deflates="by order")),
        "gone": (one,),
        "late": (one, two),
    }
    for why, guests in later.items():
        esx = Esx()
        esx.goes_on.clear()
        turner = Turner(esx)
        monkeypatch.setattr(turner_module, "STALE_S", 0.0 if why == "late" else 10.0)
        await turner.apply(*asking({"one": 1, "two": 4}))
        await turner.apply(asking({one.name: None for one in guests})[0], replace(seen, guests=guests))
        esx.goes_on.set()
        await settled(turner)
        assert [name for name, _ in esx.sent] == ["one"], why
        await turner.close()


async def test_what_is_being_sent_is_not_sent_again() -> None:
    """However often it is asked meanwhile."""
    esx = Esx()
    esx.goes_on.clear()
    turner = Turner(esx)
    begun = [one for _ in range(5) for one in (await turner.apply(*asking({"one": 1}))).begun]
    esx.goes_on.set()
    await settled(turner)
    assert (begun, len(esx.sent)) == (["one"], 1)
    await turner.close()
