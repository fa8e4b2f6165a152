"""The metrics' text, read by the parser of those who define it: whatever a guest is called, each number comes through."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from ballonet.model.knobs import Entitlement
from ballonet.model.plan import Decision, Keep, Plan, Reason
from ballonet.model.snapshot import Guest, Host, Mode, Snapshot
from ballonet.model.tick import Tick
from ballonet.model.units import GIB
from ballonet.status.metrics import Counters, exposition
from ballonet.status.tell import status_of
from ballonet.status.words import Status


def status(name: str, **decision: object) -> Status:
    guest = Guest(name=name, uuid="u-1", ceiling_bytes=8 * GIB, keep_bytes=3 * GIB + 1)
    one = Decision(name, 3 * GIB, Reason.CALM, {"need_bytes": GIB})
    plan = Plan(policy="adaptive", guests=(replace(one, **decision),))
    snapshot = Snapshot(host=Host(total_bytes=64 * GIB, available_bytes=GIB), guests=(guest,))
    return status_of(Tick(at=1e9, snapshot=snapshot, plan=plan), at=1.7e9, mode=Mode.ACT)


def read(found: Status | None, counters: Counters | None = None) -> dict[tuple[str, ...], float]:
    """By name and what beside guest and UUID is a label."""
    text = exposition(found, counters or Counters()).decode()
    assert text.endswith("\n")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    more = [[value for name, value in one.labels.items() if name not in ("domain", "uuid")] for one in samples]
    return {(one.name, *labels): one.value for one, labels in zip(samples, more, strict=True)}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_each_name_comes_through(name: str) -> None:
    """Quotes, backslashes, line ends, whatever a label must escape."""
    text = exposition(status(name), Counters()).decode()
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    keeps = [one for one in samples if one.name == "ballonet_guest_keep_bytes"]
    assert [(one.labels, one.value) for one in keeps] == [({"domain": name, "uuid": "u-1"}, 3 * GIB + 1)]


def test_what_is_asked_is_told_on_every_hypervisor() -> None:
    """A size to keep; what another's loop is to go by; nothing."""
    asked = "ballonet_guest_asked_bytes"
    assert read(status("a", ask=Keep(2 * GIB)))[asked, "keep"] == 2 * GIB
    entitled = read(status("a", ask=Entitlement(shares=10, reservation_bytes=GIB)))
    assert {key: value for key, value in entitled.items() if key[0] == asked} == {(asked, "reservation"): GIB}
    assert not [key for key in read(status("a")) if key[0] == asked]


def test_counters_are_there_before_the_first_tick() -> None:
    """And those of commands by reason."""
    counters = Counters()
    counters.tick(1.0)
    counters.commands["a", "u", "needs"] += 2
    found = read(None, counters)
    assert found["ballonet_ticks_total",] == 1
    assert found["ballonet_guest_commands_total", "needs"] == 2
