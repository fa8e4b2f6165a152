"""What `ballonet deflate` says before it does it, of real decisions."""

from ballonet.cli.deflate import _plan
from ballonet.decide.step import START, step
from ballonet.hypervisors.local.alone import NOT_HEARD
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Budget, Guest, GuestStats, Host, Mode, Snapshot
from ballonet.model.tick import Tick
from ballonet.model.units import GIB
from ballonet.status.tell import status_of
from ballonet.status.words import Status


def guest(name: str, keep: int, *, is_heard: bool = True) -> Guest:
    """One of 8 GiB that uses 2; in GiB."""
    said = GuestStats(total_bytes=keep * GIB, available_bytes=(keep - 2) * GIB, free_bytes=(keep - 2) * GIB)
    heard = {"stats": said, "stats_age_s": 0.0} if is_heard else {}
    heard |= {} if is_heard else {"leave_alone": NOT_HEARD}
    return Guest(name=name, ceiling_bytes=8 * GIB, keep_bytes=keep * GIB, resident_bytes=2 * GIB, **heard)  # type: ignore[arg-type]


def status(*guests: Guest, total: int, limit: int | None = None) -> Status:
    """Of a host of so many GiB; with a limit around all guests."""
    held = sum(one.resident_bytes or 0 for one in guests)
    names = tuple(one.name for one in guests)
    around = [Budget(name="/slice", limit_bytes=limit * GIB, available_bytes=limit * GIB - held, guests=names)] if limit else []
    host = Host(total_bytes=total * GIB, available_bytes=total * GIB - held, budgets=tuple(around))
    snapshot = Snapshot(host=host, guests=guests)
    _, plan = step(START, snapshot, Limits(), 0.0)
    return status_of(Tick(at=0, snapshot=snapshot, plan=plan), at=0, mode=Mode.ACT)


def said(found: Status, *names: str) -> str:
    return " ".join(_plan(found, [one for one in found.guests if one.name in names]))


def test_what_can_come_back_and_what_cannot() -> None:
    """By what guests may take, also while nobody has heard of them yet."""
    for is_heard in (True, False):
        guests = [guest("a", 5, is_heard=is_heard), guest("b", 5, is_heard=is_heard), guest("c", 8, is_heard=is_heard)]
        assert "lent more than it has" in said(status(*guests, total=20), "a", "b", "c")
        assert "lent more than it has" not in said(status(*guests, total=28), "a", "b", "c")


def test_a_limit_around_guests_is_named() -> None:
    """Not the host, which has plenty."""
    found = status(guest("a", 5), guest("b", 5), total=64, limit=12)
    text = said(found, "a", "b")
    assert "At least" in text
    assert "the limit of /slice has" in text
    assert "lent more than it has" not in text
    assert "the limit of" not in said(status(guest("a", 5), guest("b", 5), total=64, limit=40), "a", "b")
