"""What history is told of a tick."""

from ballonet.daemon.changes import Changes
from ballonet.model.plan import Decision, Keep, Plan, Reason
from ballonet.model.snapshot import Guest, Host, Snapshot
from ballonet.model.tick import Outcome, Tick
from ballonet.model.units import GIB, MIB


def tick(at: float, outcome: Outcome, *, is_command: bool = True) -> Tick:
    guest = Guest(name="a", ceiling_bytes=4 * GIB, keep_bytes=3 * GIB, resident_bytes=GIB)
    decision = Decision(
        "a", 2 * GIB, Reason.DONOR, {"need_bytes": GIB, "deficit_bytes": 64 * MIB}, Keep(2 * GIB) if is_command else None
    )
    snapshot = Snapshot(host=Host(total_bytes=8 * GIB, available_bytes=4 * GIB), guests=(guest,))
    return Tick(at=at, snapshot=snapshot, plan=Plan(policy="adaptive", guests=(decision,)), outcome=outcome)


def test_each_failure_has_its_row_however_late_it_comes() -> None:
    """A command that goes out has one, and what becomes of it ticks later has another."""
    changes, told = Changes(), []
    for at in range(6):
        begun, late = Outcome(begun=("a",)), Outcome(failed={"a": "no answer within 3 s"})
        told += [one.done for one in changes.of(tick(at, late if at % 2 else begun))]
    assert told == ["sent", "failed"] * 3


def test_what_goes_on_is_told_once() -> None:
    """Nothing new, nothing told."""
    changes = Changes()
    assert len(changes.of(tick(0, Outcome(begun=("a",))))) == 1
    assert changes.of(tick(1, Outcome(under_way=("a",)))) == []
