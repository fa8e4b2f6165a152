"""Carrying out a plan: free first, what fits, nobody delayed."""

import asyncio
import time
from typing import ClassVar

from msgspec.structs import replace

from ballonet.act.apply import PATIENCE_S, Actor
from ballonet.hypervisors.contract import NoAnswerError
from ballonet.hypervisors.fake import FakeGuest, FakeHypervisor
from ballonet.model.plan import Decision, Keep, Plan, Reason
from ballonet.model.snapshot import Guest, Host, Mode, Snapshot, Voice
from ballonet.model.units import GIB, MIB


class Hanging(FakeHypervisor):
    """Fake guests of which those that hang use up their deadline."""

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:
        if name in self.fakes and self.fakes[name].hangs:
            await asyncio.sleep(deadline_s)
        await super().set_keep(name, keep_bytes, deadline_s)


def guest(name: str, keep_mib: int, mode: Mode = Mode.ACT) -> Guest:
    return Guest(name=name, ceiling_bytes=GIB, keep_bytes=keep_mib * MIB, resident_bytes=keep_mib * MIB, mode=mode)


def plan(memory_mib: int, **keeps_mib: int) -> Plan:
    decisions = tuple(Decision(name, mib * MIB, Reason.NEEDS, {}, Keep(mib * MIB)) for name, mib in keeps_mib.items())
    return Plan(policy="adaptive", guests=decisions, memory_bytes=memory_mib * MIB)


def picture(*guests: Guest) -> Snapshot:
    return Snapshot(host=Host(total_bytes=2 * GIB, available_bytes=0), guests=guests)


async def test_takes_go_first_and_gives_wait_for_room() -> None:
    """A give that the host has no room for yet is not sent, whatever the order of the plan."""
    hypervisor = FakeHypervisor([FakeGuest("giver"), FakeGuest("taker")])
    outcome = await Actor(hypervisor).apply(plan(1000, taker=600, giver=300), picture(guest("taker", 400), guest("giver", 600)))
    assert outcome.sent == ("giver",)
    assert outcome.waiting == ("taker",)


async def test_a_give_that_fits_is_sent_after_the_takes() -> None:
    """With room enough both go out, the take first."""
    hypervisor = FakeHypervisor([FakeGuest("giver"), FakeGuest("taker")])
    actor = Actor(hypervisor)
    await actor.apply(plan(1500, taker=600, giver=300), picture(guest("taker", 400), guest("giver", 600)))
    assert [name for _, name, _ in hypervisor.commands] == ["giver", "taker"]


async def test_a_hung_guest_delays_nobody() -> None:
    """The others' commands are sent, the tick waits no longer than its patience, and the hung one is not asked twice."""
    hypervisor = Hanging([FakeGuest("hung", hangs=True), FakeGuest("a")])
    actor = Actor(hypervisor)
    start = time.monotonic()
    first = await actor.apply(plan(2000, hung=300, a=300), picture(guest("hung", 600), guest("a", 600)))
    second = await actor.apply(plan(2000, hung=280, a=280), picture(guest("hung", 600), guest("a", 600)))
    assert (first.sent, first.under_way) == (("a",), ("hung",))
    assert (second.sent, second.under_way) == (("a",), ("hung",))
    assert time.monotonic() - start < 10 * PATIENCE_S  # it hangs for ever: any wait for it would be far longer


async def test_a_command_without_an_answer_counts_at_the_larger_amount() -> None:
    """While a give is unanswered, its memory is not given to another."""
    hypervisor = Hanging([FakeGuest("hung", hangs=True), FakeGuest("a")])
    actor = Actor(hypervisor)
    await actor.apply(plan(1000, hung=600), picture(guest("hung", 400), guest("a", 400)))
    outcome = await actor.apply(plan(1000, a=600), picture(guest("hung", 400), guest("a", 400)))
    assert outcome.waiting == ("a",)


async def test_failures_are_told_and_others_go_on() -> None:
    """A guest that is gone fails by name; the other command is carried out."""
    hypervisor = FakeHypervisor([FakeGuest("a")])
    outcome = await Actor(hypervisor).apply(plan(2000, gone=300, a=300), picture(guest("gone", 600), guest("a", 600)))
    assert outcome.sent == ("a",)
    assert "gone" in outcome.failed


async def test_only_mode_act_sends() -> None:
    """In observe and advise nothing is sent."""
    hypervisor = FakeHypervisor([FakeGuest("a"), FakeGuest("b")])
    guests = picture(guest("a", 600, Mode.OBSERVE), guest("b", 600, Mode.ADVISE))
    await Actor(hypervisor).apply(plan(2000, a=300, b=300), guests)
    assert hypervisor.commands == []


async def test_the_deadline_ends_a_command() -> None:
    """A command to a hung guest ends with NoAnswerError, and the guest can be asked again."""
    hypervisor = Hanging([FakeGuest("hung", hangs=True)])
    try:
        await hypervisor.set_keep("hung", 300 * MIB, 0.05)
    except NoAnswerError:
        return
    raise AssertionError("a hung guest answered")


async def test_ends_with_commands_under_way() -> None:
    """Cancelling what is under way leaves nothing behind."""
    actor = Actor(Hanging([FakeGuest("hung", hangs=True)]))
    await actor.apply(plan(2000, hung=300), picture(guest("hung", 600)))
    await actor.close()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


class Speaking(FakeHypervisor):
    """Fake guests that need half a second to make memory ready."""

    asked: ClassVar[list[tuple[str, int]]] = []

    async def make_ready(self, name: str, free_bytes: int, deadline_s: float) -> None:
        self.asked.append((name, free_bytes))
        await asyncio.sleep(min(0.2, deadline_s))


async def test_much_is_made_ready_first_and_no_tick_waits_for_that() -> None:
    """Who has an agent is asked before much is taken, not before little; others get theirs at once meanwhile."""
    hypervisor = Speaking([FakeGuest("much"), FakeGuest("little"), FakeGuest("taker"), FakeGuest("mute")])
    heard = [replace(guest(name, 800), voice=Voice.AGENT) for name in ("much", "little")]
    actor = Actor(hypervisor)
    start = time.monotonic()
    outcome = await actor.apply(
        plan(3500, much=600, little=790, taker=500, mute=600), picture(*heard, guest("taker", 400), guest("mute", 800))
    )
    assert time.monotonic() - start < PATIENCE_S
    assert set(outcome.sent) == {"little", "taker", "mute"}
    assert hypervisor.asked == [("much", 200 * MIB)]
    await asyncio.sleep(0.3)
    assert hypervisor.fakes["much"].asked_bytes == 600 * MIB
    await actor.close()
