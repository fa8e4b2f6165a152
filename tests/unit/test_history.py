"""History: bounded, thinned out, readable after anything; the loop never waits for it."""

import sqlite3
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from ballonet.daemon.answers import DaemonAnswers
from ballonet.history import reader
from ballonet.history.demand import demand
from ballonet.history.replay import replay
from ballonet.history.shelf import open_for_writing
from ballonet.history.store import History
from ballonet.history.tidy import Retention, size_bytes, tidy
from ballonet.model.limits import Limits
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Mode
from ballonet.model.tick import Outcome
from ballonet.model.units import GIB, MIB
from ballonet.status.errors import NoSuchMomentError
from past import change, filled, tick


def test_a_tick_comes_back_as_it_was(tmp_path: Path) -> None:
    """With its plan, reasons and numbers; looks are left out: they say nothing of the past."""
    path = tmp_path / "history.db"
    history, now = History(path, Retention()), time.time()
    one = tick(now)
    history.note(one, [change(now), change(now, "g1")])
    history.close()
    back = reader.tick_at(path, now)
    assert back.snapshot == one.snapshot
    assert back.plan.guests == one.plan.guests
    assert [row.guest for row in reader.changes(path, "", 0, 1e11, 10)] == ["g0", "g1"]
    assert [row.guest for row in reader.changes(path, "g1", 0, 1e11, 10)] == ["g1"]
    assert reader.changes(path, "", now + 1, 1e11, 10) == []
    assert [row.at for row in reader.samples(path, "g2", 0, 1e11, 10)] == [now]


def test_old_ticks_are_thinned_out_and_very_old_ones_dropped(tmp_path: Path) -> None:
    """An hour as it was, a day of one in ten seconds, then one a minute; whatever the clock says, nothing newer is touched."""
    now = 1_000_000_000.0
    spans = {"fresh": now - 600, "hours": now - 7200, "days": now - 2 * 86400, "old": now - 40 * 86400, "future": now + 5000}
    path = filled(tmp_path / "h.db", [at + second for at in spans.values() for second in range(120)])
    connection = open_for_writing(path)
    tidy(connection, Retention(), now)
    count = {
        name: connection.execute("SELECT COUNT(*) FROM ticks WHERE at BETWEEN ? AND ?", (at, at + 119)).fetchone()[0]
        for name, at in spans.items()
    }
    connection.close()
    assert count["fresh"] == count["future"] == 120
    assert 12 <= count["hours"] <= 13
    assert 2 <= count["days"] <= 3
    assert count["old"] == 0


def test_the_file_stays_within_its_size(tmp_path: Path) -> None:
    """The oldest go first, and room that is free again is given back to the disk."""
    path = filled(tmp_path / "h.db", [1e9 + second for second in range(3000)])
    connection = open_for_writing(path)
    before, bound = size_bytes(connection), 400_000
    assert before > 2 * bound
    tidy(connection, Retention(size_bytes=bound), 1e9 + 3000)
    assert 0 < size_bytes(connection) <= bound
    assert connection.execute("SELECT MAX(at) FROM ticks").fetchone()[0] == 1e9 + 2999
    connection.close()
    assert path.stat().st_size < before / 2


@pytest.mark.parametrize("harm", ["half", "text", "empty", "newer", "row"])
def test_damaged_files(tmp_path: Path, harm: str) -> None:
    """Put aside and told, or read as far as it goes; either way what comes is kept."""
    path = filled(tmp_path / "h.db", [1e9 + second for second in range(500)])
    if harm == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif harm in {"text", "empty"}:
        path.write_text("not a database, and long enough to be read as one\n" * 100 if harm == "text" else "")
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99" if harm == "newer" else "UPDATE ticks SET data = x'00'")
        connection.close()
    if harm == "row":
        with pytest.raises(NoSuchMomentError, match="no tick"):
            reader.tick_at(path, 1e9)
    history = History(path, Retention())
    history.note(tick(2e9), [])
    history.close()
    assert reader.tick_at(path, 2e9).at == 2e9
    assert len(list(tmp_path.glob("*.damaged-*"))) == (harm in {"half", "text", "newer"})


def test_a_disk_that_refuses_is_told_once_and_loses_only_its_ticks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing reaches the loop; each lost tick is counted."""
    (tmp_path / "file").write_text("")
    lost: list[int] = []
    history = History(tmp_path / "file" / "h.db", Retention(), lambda: lost.append(1))
    for second in range(5):
        history.note(tick(1e9 + second), [])
    history.close()
    assert len(lost) == 5
    assert caplog.text.count("history not written") == 1


def test_a_slow_disk_never_stops_the_loop(tmp_path: Path) -> None:
    """While the file is locked by another, ticks wait, then are lost and counted; noting one takes no time."""
    path = filled(tmp_path / "h.db", [1e9])
    lost: list[int] = []
    blocker = sqlite3.connect(path)
    blocker.execute("BEGIN EXCLUSIVE")
    history = History(path, Retention(), lambda: lost.append(1))
    start = time.monotonic()
    for second in range(200):
        history.note(tick(1e9 + second), [])
    assert time.monotonic() - start < 1.0
    assert len(lost) >= 100
    blocker.rollback()
    blocker.close()
    history.close()


def test_no_history_and_no_such_moment_are_said(tmp_path: Path) -> None:
    """With what there is instead."""
    with pytest.raises(NoSuchMomentError, match="written by `ballonet run`"):
        reader.tick_at(tmp_path / "none.db", 1.0)
    path = filled(tmp_path / "h.db", [1e9, 1e9 + 10])
    with pytest.raises(NoSuchMomentError, match=r"it has 2001-09-0\d \d\d:\d\d:40 to 2001-09-0\d \d\d:\d\d:50"):
        reader.tick_at(path, 1.0)
    assert reader.tick_at(path, 1e9 + 5).at == 1e9
    assert reader.tick_at(path, 1e9 - 5).at == 1e9


def test_replay_says_what_would_have_been_different() -> None:
    """Equal parts ask for less than guests kept; the policy that decided then asks for the same again."""
    ticks = [tick(1e9 + second, guests=6) for second in range(60)]
    static, same = (replay(ticks, name, Limits()) for name in ("static", "adaptive"))
    assert static.ticks == 60
    assert static.guests["g0"].less_byte_s > 0
    assert static.guests["g0"].commands > 0
    assert same.guests["g0"].kept_byte_s == pytest.approx(59 * 2 * GIB)
    assert same.policy_then == "adaptive"
    with pytest.raises(ValueError, match="nothing was recorded"):
        replay([], "static", Limits())


def test_what_was_only_advised_is_no_command_of_then() -> None:
    """Ticks of a host in mode advise plan commands, and send none."""
    advised = [replace(tick(1e9 + second, guests=2), outcome=Outcome()) for second in range(30)]
    sent = [replace(one, outcome=Outcome(begun=("g0",))) for one in advised]
    assert replay(advised, "static", Limits()).guests["g0"].commands_then == 0
    assert replay(sent, "static", Limits()).guests["g0"].commands_then == 30


async def test_without_history_nothing_is_kept_for_it(tmp_path: Path) -> None:
    """What happens is told to nobody, and not remembered without end."""
    desk = DaemonAnswers(tmp_path, tmp_path, None, lambda: Mode.ACT, lambda: None)
    for second in range(50):
        desk.tell(change(1e9 + second))
        desk.note(tick(1e9 + second), [])
    assert desk._pending == []
    await desk.close()


def test_recorded_demand_can_be_simulated() -> None:
    """What guests used, on the memory that was for them."""
    scenario = demand([tick(1e9 + second, used=(second + 10) * 16 * MIB) for second in range(60)])
    assert [group.name for group in scenario.guests] == ["g0", "g1", "g2"]
    assert scenario.guests[0].memory == 2 * GIB
    assert scenario.host.memory == 7 * GIB
    assert scenario.duration_s == 59
    assert len(scenario.guests[0].phases) > 10
    with pytest.raises(SettingsError, match="earlier --from"):
        demand([tick(1e9), tick(1e9 + 1)])
