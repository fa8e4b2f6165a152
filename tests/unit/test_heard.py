"""What counts as news of a guest, and in what unit."""

import time
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from ballonet.hypervisors.local.guest import SAYS_NOTHING, LocalGuest, SwapUnits
from ballonet.hypervisors.qemu.answers import Report
from ballonet.hypervisors.qemu.guest import QemuGuest
from ballonet.model.snapshot import GuestStats
from ballonet.model.units import GIB, MIB, PAGE_BYTES

GOOD = GuestStats(total_bytes=8 * GIB, available_bytes=2 * GIB)


def guest() -> LocalGuest:
    return QemuGuest("g", Path("/"), lambda: None)


def take(one: QemuGuest, report: Report, asked_at: float) -> None:
    one._take(report.stats.known(), report.last_update, asked_at)


def note(one: LocalGuest, stats: GuestStats, updated: int) -> float:
    """Takes a report that was asked for now; how old the guest's statistics are then."""
    now = time.monotonic()
    one._note(stats, updated, now)
    return age(one)


def age(one: LocalGuest) -> float:
    found = one._heard(time.monotonic())[1]
    assert found is not None
    return found


@pytest.mark.parametrize("empty", [GuestStats(), GuestStats(total_bytes=8 * GIB), GuestStats(available_bytes=GIB)])
def test_a_report_without_total_and_available_is_no_news(empty: GuestStats) -> None:
    """The last good one stays and grows old, and why is known in words."""
    one = guest()
    note(one, GOOD, int(time.time()))
    one._stats_at -= 50
    assert note(one, empty, int(time.time())) > 49
    assert one._stats == GOOD
    assert one._silence == SAYS_NOTHING
    note(one, GOOD, int(time.time()) + 1)
    assert one._silence == ""


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_nothing_is_younger_than_when_it_was_first_seen(ahead: int) -> None:
    """QEMU's clock is set: what stands there grows old all the same, and what moves is new."""
    one, updated = guest(), int(time.time()) + ahead
    note(one, GOOD, updated)
    one._stats_at -= 50
    assert note(one, GOOD, updated) > 49
    assert note(one, GOOD, updated + 1) < 10


def test_a_driver_that_counts_pages_is_found_out() -> None:
    """Bytes are whole pages always: one number that is not makes all that follow pages."""
    units = SwapUnits()
    assert units.in_bytes(GuestStats(swap_in_bytes=8192)).swap_in_bytes == 8192
    assert units.in_bytes(GuestStats(swap_in_bytes=2561)).swap_in_bytes == 2561 * 4096
    assert units.in_bytes(GuestStats(swap_in_bytes=4096)).swap_in_bytes == 4096 * 4096


async def test_a_driver_that_says_nothing_has_come_up_all_the_same() -> None:
    """After a reset: it answers without statistics, as Windows does without its service. It is not starting for ever."""
    one = QemuGuest("/x/a.qmp", Path("/nonexistent"), lambda: None)

    def report(at: int) -> Report:
        mute = dict.fromkeys(("stat-total-memory", "stat-available-memory", "stat-free-memory"), 2**64 - 1)
        return msgspec.convert({"stats": mute, "last-update": at}, Report)

    take(one, report(1000), time.monotonic())
    one._begin_anew()
    assert one._reset_at is not None
    one._reset_at -= 600
    take(one, report(1000), time.monotonic())
    assert one._reset_at is not None  # that is what it said before
    take(one, report(1001), time.monotonic())
    assert one._reset_at is None


def test_what_was_learned_of_one_guest_does_not_count_for_the_next() -> None:
    """Another one at the same socket: neither its words, nor the unit in which its driver counts."""
    one = guest()
    note(one, replace(GOOD, swap_in_bytes=3), int(time.time()))
    assert one._stats is not None
    assert one._stats.swap_in_bytes == 3 * PAGE_BYTES
    one._forget_words()
    assert one._heard(time.monotonic())[0] is None
    note(one, replace(GOOD, swap_in_bytes=100 * MIB), int(time.time()))
    assert one._stats.swap_in_bytes == 100 * MIB


def test_a_trouble_that_comes_and_goes_is_told_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    """Two in turn, each well in between."""
    one = guest()
    for _ in range(50):
        for trouble in ("refused", "late"):
            one._tell(trouble)
            one._trouble = ""
    assert [record.__dict__["trouble"] for record in caplog.records] == ["refused", "late"]
