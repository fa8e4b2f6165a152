"""What history keeps, and for how long; what is asked of it is answered in a process of its own."""

# ruff: noqa: S608 names of tables, of ours

import asyncio
import contextlib
import os
import shutil
import sqlite3
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ballonet.control.messages import Orders
from ballonet.control.orders import OrderBook
from ballonet.history import asker, reader, store
from ballonet.history.answer import Question
from ballonet.history.asker import Asker
from ballonet.history.shelf import open_for_writing, unpacked
from ballonet.history.store import History
from ballonet.history.tidy import Retention, size_bytes, tidy
from ballonet.status.errors import BusyError, ControlError, NoSuchMomentError
from ballonet.status.words import Explanation, HostSample, Sample
from past import change, filled, tick

NOW = 1.7e9


def with_samples(path: Path, begin: float, every_s: float, count: int, guests: int = 2) -> sqlite3.Connection:
    """A file with samples only."""
    connection = open_for_writing(path)
    with connection:
        for guest in range(guests):
            connection.execute("INSERT INTO names (id, name) VALUES (?, ?)", (guest + 1, f"g{guest}"))
            rows = [(guest + 1, begin + every_s * n, n, n, n, n, "calm") for n in range(count)]
            connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        hosts = [(begin + every_s * n, *range(9), 2, "high") for n in range(count)]
        connection.executemany(f"INSERT INTO hosts VALUES ({', '.join('?' * 12)})", hosts)
    return connection


def counts(connection: sqlite3.Connection, since: float, until: float) -> tuple[int, int]:
    """Rows between two times: of one guest, of the host."""
    one = connection.execute("SELECT COUNT(*) FROM samples WHERE guest = 2 AND at >= ? AND at < ?", (since, until)).fetchone()[0]
    return one, connection.execute("SELECT COUNT(*) FROM hosts WHERE at >= ? AND at < ?", (since, until)).fetchone()[0]


def test_samples_grow_sparse_with_age_and_are_kept_for_a_year(tmp_path: Path) -> None:
    """One in ten seconds of a day, one a minute of thirty days, one in 15 minutes; also when it is done each minute."""
    day = 86400.0
    connection = with_samples(tmp_path / "h.db", NOW - 2 * day, 10.0, 2 * 8640)
    for later in range(5):
        tidy(connection, Retention(), NOW + 60 * later)
    fresh, minutes = counts(connection, NOW - day + 3600, NOW), counts(connection, NOW - 2 * day, NOW - day - 3600)
    assert fresh == (8280, 8280)
    assert 1379 <= minutes[0] <= 1382
    assert minutes[0] == minutes[1]
    tidy(connection, Retention(), NOW + 40 * day)
    assert 180 <= counts(connection, 0, NOW + day)[0] <= 195
    tidy(connection, Retention(), NOW + 370 * day)
    assert counts(connection, 0, NOW + day) == (0, 0)
    assert connection.execute("SELECT COUNT(*) FROM names").fetchone()[0] == 0
    connection.close()


@pytest.mark.parametrize("away_days", [0.0, 3.0, 27.0])
def test_ticks_of_before_a_long_absence_grow_sparse_too(tmp_path: Path, away_days: float) -> None:
    """A daemon that was off for weeks thins out what it left: one in ten seconds of an hour, one a minute after a day."""
    connection = open_for_writing(tmp_path / "h.db")
    with connection:
        rows = [(NOW - 7200 + n, b"x") for n in range(7200)]
        connection.executemany("INSERT INTO ticks (at, data) VALUES (?, ?)", rows)
    tidy(connection, Retention(), NOW)
    assert 3600 + 355 <= connection.execute("SELECT COUNT(*) FROM ticks").fetchone()[0] <= 3600 + 365
    tidy(connection, Retention(), NOW + away_days * 86400 + 90000)
    assert 119 <= connection.execute("SELECT COUNT(*) FROM ticks").fetchone()[0] <= 122
    connection.close()


@pytest.mark.parametrize("most", ["changes", "samples", "ticks"])
def test_who_takes_most_loses_its_own(tmp_path: Path, most: str) -> None:
    """However many of one kind there are, the others' newest stay; of all kinds the newest do."""
    connection = with_samples(tmp_path / "h.db", NOW, 10.0, 40_000 if most == "samples" else 100, guests=3)
    connection.close()
    filled(tmp_path / "h.db", [NOW + second for second in range(3000 if most == "ticks" else 50)])
    connection = open_for_writing(tmp_path / "h.db")
    with connection:
        rows = [(NOW + n, "g0", msgspec.json.encode(change(NOW + n))) for n in range(20_000 if most == "changes" else 50)]
        connection.executemany("INSERT INTO changes (at, guest, data) VALUES (?, ?, ?)", rows)
    bound = 700_000
    assert size_bytes(connection) > bound
    newest = {
        table: connection.execute(f"SELECT MAX(at) FROM {table}").fetchone()[0] for table in ("ticks", "changes", "samples")
    }
    tidy(connection, Retention(size_bytes=bound), NOW + 400_000, is_sure=False)
    assert size_bytes(connection) <= bound
    for table, at in newest.items():
        assert connection.execute(f"SELECT MAX(at) FROM {table}").fetchone()[0] == at, table
    connection.close()


def test_a_clock_that_jumps_ahead_makes_nothing_old(tmp_path: Path) -> None:
    """400 days for a minute, as of a host whose battery is empty; an hour of it is believed."""
    ahead = 0.0
    history = History(tmp_path / "h.db", Retention(), clock=lambda: time.time() + ahead)
    history.note(tick(time.time()), [change(time.time())])
    until_written(history, tmp_path / "h.db", 1)
    ahead = 400 * 86400.0
    history._tidy_at = 0.0  # as after a minute
    history.note(tick(time.time() + ahead), [])
    until_written(history, tmp_path / "h.db", 2)
    history._tidy_at, history._jumped_at = 0.0, -1e9  # as after an hour
    history.note(tick(time.time() + ahead + 1), [])
    history.close()
    assert len(list(reader.ticks(tmp_path / "h.db", 0, 1e11))) == 2


def test_what_a_clock_that_was_ahead_has_left_goes_first(tmp_path: Path) -> None:
    """Rows of the future push nothing out that is true, of ticks and of samples."""
    connection = with_samples(tmp_path / "h.db", NOW, 10.0, 2000)
    with connection:
        connection.execute("INSERT INTO samples VALUES (1, ?, 1, 1, 1, 1, 'calm')", (NOW + 3e8,))
    connection.close()
    filled(tmp_path / "h.db", [NOW + second for second in range(300)] + [NOW + 3e8 + second for second in range(600)])
    connection = open_for_writing(tmp_path / "h.db")
    tidy(connection, Retention(size_bytes=int(0.95 * size_bytes(connection))), NOW + 20_000, is_sure=False)
    assert connection.execute("SELECT MAX(at) FROM ticks").fetchone()[0] == NOW + 299
    assert counts(connection, NOW, NOW + 20_000)[0] > 1900
    assert connection.execute("SELECT MAX(at) FROM samples").fetchone()[0] < NOW + 1e6
    connection.close()


def test_a_clock_that_is_ahead_at_the_start_makes_nothing_old(tmp_path: Path) -> None:
    """The newest row is long ago: it was away, or the clock is wrong; an hour later it is believed."""
    filled(tmp_path / "h.db", [time.time() - 10])
    history = History(tmp_path / "h.db", Retention(), clock=lambda: time.time() + 3e8)
    history.note(tick(time.time() + 3e8), [])
    history.close()
    assert len(list(reader.ticks(tmp_path / "h.db", 0, 1e11))) == 2


def until_written(history: History, path: Path, count: int) -> None:
    start = time.monotonic()
    while True:
        with contextlib.suppress(NoSuchMomentError):  # it is just being made
            if len(list(reader.ticks(path, 0, 1e11))) >= count and not history.backlog:
                return
        assert time.monotonic() - start < 60
        time.sleep(0.02)


def test_a_row_that_unpacks_without_end_is_no_tick() -> None:
    """298 KiB of it take 300 MiB."""
    with pytest.raises(ValueError, match="more than"):
        unpacked(zlib.compress(b"[" * (300 << 20), 9))


@pytest.mark.parametrize("name", ["a?b=c", "a#b", "a%20b", "ä"])
def test_a_path_is_a_path(tmp_path: Path, name: str) -> None:
    """And no address of options."""
    history = History(tmp_path / name / "h.db", Retention())
    now = time.time()
    history.note(tick(now), [])
    history.close()
    assert reader.tick_at(tmp_path / name / "h.db", now).at == now
    (tmp_path / "folder").mkdir()
    with pytest.raises(NoSuchMomentError):
        reader.tick_at(tmp_path / "folder", NOW)


def test_damaged_files_do_not_pile_up(tmp_path: Path) -> None:
    """The newest two are kept."""
    for number in range(4):
        (tmp_path / f"h.db.damaged-2026110{number}-000000").write_text("old")
    (tmp_path / "h.db").write_text("not a database, and long enough to be read as one\n" * 100)
    open_for_writing(tmp_path / "h.db").close()
    assert len(list(tmp_path.glob("*.damaged-*"))) == 2


async def test_questions_are_answered_by_a_process_of_its_own(tmp_path: Path) -> None:
    """Of each kind, by one process one after the other; what is wrong with one is its answer; a killed process is begun anew."""
    with_samples(tmp_path / "h.db", NOW, 10.0, 1000).close()
    connection = open_for_writing(tmp_path / "h.db")
    with connection:
        connection.execute(
            "INSERT INTO changes (at, guest, data) VALUES (?, ?, ?)", (NOW, "g0", msgspec.json.encode(change(NOW)))
        )
    connection.close()
    one = Asker(tmp_path / "h.db")
    try:
        span: dict[str, Any] = {"since": NOW, "until": NOW + 1e5, "limit": 100}
        many = await asyncio.gather(*(one.ask(Question(what="samples", name="g1", **span)) for _ in range(5)))
        rows = msgspec.json.decode(many[0], type=list[Sample])
        assert (len(rows), rows[0].guest, rows[0].at, rows[-1].at > NOW + 9800) == (100, "g1", NOW, True)
        assert len(msgspec.json.decode(await one.ask(Question(what="host_samples", **span)), type=list[HostSample])) == 100
        assert b"keeps it" in bytes(await one.ask(Question(what="changes", **span)))
        with pytest.raises(ControlError, match="nothing within"):
            msgspec.json.decode(await one.ask(Question(what="explanation", name="g1", since=5.0)), type=Explanation)
        assert one._process is not None
        first = one._process.pid
        assert msgspec.json.decode(await one.ask(Question(what="samples", name="none", **span))) == []
        assert one._process.pid == first
        one._process.kill()
        await one._process.wait()
        assert await one.ask(Question(what="samples", name="g0", **span))
    finally:
        await one.close()


async def test_whoever_asks_too_much_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number may wait, each for a bounded time; and the next one is answered all the same."""
    with_samples(tmp_path / "h.db", NOW, 10.0, 10).close()
    one = Asker(tmp_path / "h.db")
    question = Question(what="host_samples", since=NOW, until=NOW + 1e5)
    try:
        async with one._turn:
            monkeypatch.setattr(asker, "ANSWER_S", 0.2)
            found = await asyncio.gather(*(one.ask(question) for _ in range(asker.WAITING + 3)), return_exceptions=True)
        assert all(isinstance(error, BusyError) for error in found)
        assert sum("wait already" in str(error) for error in found) == 3
        monkeypatch.setattr(asker, "ANSWER_S", 60.0)
        assert len(msgspec.json.decode(await one.ask(question))) == 10
    finally:
        await one.close()


def test_a_long_reader_does_not_let_the_log_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's log cannot be emptied meanwhile: ticks are lost and counted until the reader ends, and then written again."""
    monkeypatch.setattr(store, "LEAST_LOG_BYTES", 256 << 10)
    monkeypatch.setattr(store, "RETRY_S", 0.0)
    path, lost = tmp_path / "h.db", []
    history = History(path, Retention(size_bytes=1 << 20), on_lost=lambda: lost.append(1))
    now = time.time()
    history.note(tick(now), [])
    until_written(history, path, 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT COUNT(*) FROM ticks").fetchone()
    log, number = path.with_name("h.db-wal"), 0
    start = time.monotonic()
    while not lost and time.monotonic() - start < 60:
        number += 1
        history.note(tick(now + number, guests=40), [])
        while history.backlog:
            time.sleep(0.002)
    assert lost
    assert log.stat().st_size < 2 << 20
    other.close()
    count = len(lost)
    history.note(tick(now + number + 1), [])
    until_written(history, path, number + 2 - count)
    history.close()
    assert len(lost) == count


@pytest.mark.parametrize("what", ["log", "both", "index"])
def test_a_log_that_is_removed_costs_what_was_in_it_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """SQLite's files beside the file, gone while it is written: told, and whoever reads later can."""
    monkeypatch.setattr(store, "RETRY_S", 0.0)
    path, lost = tmp_path / "h.db", []
    history = History(path, Retention(), on_lost=lambda: lost.append(1))
    now = time.time()
    history.note(tick(now), [])
    until_written(history, path, 1)
    for tail in {"log": ["wal"], "both": ["wal", "shm"], "index": ["shm"]}[what]:
        path.with_name(f"h.db-{tail}").unlink()
    for number in range(1, 6):
        history.note(tick(now + number), [])
        while history.backlog:
            time.sleep(0.002)
    history.close()
    assert len(lost) <= 1
    assert [one.at for one in reader.ticks(path, 0, 1e11)][-4:] == [now + number for number in range(2, 6)]


@pytest.mark.parametrize("what", ["file", "folder", "replaced"])
def test_a_file_that_is_removed_is_begun_anew_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """What is written into a file that nobody sees any more is lost, so it is counted."""
    monkeypatch.setattr(store, "RETRY_S", 0.0)
    path, lost = tmp_path / "state" / "h.db", []
    history = History(path, Retention(), on_lost=lambda: lost.append(1))
    now = time.time()
    history.note(tick(now), [])
    until_written(history, path, 1)
    if what == "folder":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if what == "replaced":
        path.write_bytes(b"")
    for number in (1, 2):
        history.note(tick(now + number), [])
    until_written(history, path, 1)
    history.close()
    assert len(lost) == 1
    assert [one.at for one in reader.ticks(path, 0, 1e11)] == [now + 2]


def test_damaged_files_take_no_more_than_history_may(tmp_path: Path) -> None:
    """Beside it."""
    for number in range(2):
        (tmp_path / f"h.db.damaged-2026110{number}-000000").write_bytes(bytes(1 << 20))
    (tmp_path / "h.db").write_bytes(b"nonsense" * 100000)
    open_for_writing(tmp_path / "h.db", most_bytes=1 << 20).close()
    assert sum(one.stat().st_size for one in tmp_path.glob("*.damaged-*")) <= 1 << 20


def test_only_its_owner_reads_history(tmp_path: Path) -> None:
    """Whatever the umask of whoever begins it."""
    old = os.umask(0)
    try:
        open_for_writing(tmp_path / "state/h.db").close()
        OrderBook(tmp_path / "orders/orders.json").write(Orders())
    finally:
        os.umask(old)
    for name in ("state/h.db", "orders/orders.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert (tmp_path / name).parent.stat().st_mode & 0o027 == 0
