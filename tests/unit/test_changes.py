"""What history is told of a tick."""

from msgspec import structs

from ballonet.daemon.changes import Changes
from ballonet.model.knobs import Bounds, Steering
from ballonet.model.plan import Decision, Keep, Plan, Reason
from ballonet.model.snapshot import Guest, Host, Mode, Snapshot
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


def steered(at: float, ask: Bounds | None, outcome: Outcome = Outcome(), mode: Mode = Mode.ACT) -> Tick:  # noqa: B008 frozen
    old = Bounds(minimum_bytes=GIB, maximum_bytes=8 * GIB, buffer_percent=20, priority=50)
    guest = Guest(name="a", ceiling_bytes=4 * GIB, keep_bytes=3 * GIB, knobs=old, mode=mode)
    numbers = structs.asdict(ask or old) | {"has": "gets" if ask else "has", "used_bytes": 1, "need_bytes": 1, "pages": ""}
    one = Decision("a", 3 * GIB, Reason.BOUNDED, numbers, ask, steering=Steering.BOUNDS)
    snapshot = Snapshot(host=Host(total_bytes=8 * GIB, available_bytes=4 * GIB), guests=(guest,))
    return Tick(at=at, snapshot=snapshot, plan=Plan(policy="adaptive", guests=(one,)), outcome=outcome)


def test_what_is_asked_of_anothers_loop_has_its_rows() -> None:
    """One when it is asked, each time that it is another; and what goes out or fails later says what that was."""
    first = Bounds(minimum_bytes=GIB, maximum_bytes=8 * GIB, buffer_percent=150, priority=50)
    second = Bounds(minimum_bytes=GIB, maximum_bytes=8 * GIB, buffer_percent=20, priority=100)
    changes = Changes()
    rows = [changes.of(steered(0, first, Outcome(waiting=("a",))))]
    rows.append(changes.of(steered(1, None, Outcome(begun=("a",)))))
    rows.append(changes.of(steered(2, None, Outcome(failed={"a": "no"}))))
    told = [(one.done, one.decision.asked.get("buffer_percent")) for some in rows for one in some]
    assert told == [("waits", 150), ("sent", 150), ("failed", 150)]
    changes = Changes()
    asked = [first, first, second, second, None, second]
    advised = [changes.of(steered(at, ask, mode=Mode.ADVISE)) for at, ask in enumerate(asked)]
    assert [len(some) for some in advised] == [1, 0, 1, 0, 0, 0]
    assert [one.done for some in advised for one in some] == ["advised", "advised"]
