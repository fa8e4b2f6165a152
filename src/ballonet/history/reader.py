"""Reading history: while the daemon writes it, or after it is gone. Rows are chosen in SQL; only what is wanted is unpacked."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from ballonet.history.shelf import unpacked
from ballonet.model.tick import Tick
from ballonet.status.errors import NoSuchMomentError
from ballonet.status.tell import sample_of
from ballonet.status.words import Change, HostSample, Sample

NEAR_S: Final = 120.0
"""A moment further away from a time is not that time's."""
CLOSE_S: Final = 600.0
"""A shorter time is told tick by tick; samples are ten seconds apart."""
_KEPT: Final = "SELECT data FROM ticks WHERE id IN (SELECT id FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY at, id) - 1 AS number"
_THINNED: Final = " FROM ticks WHERE at BETWEEN ? AND ?) WHERE number % ? = 0) ORDER BY at, id"


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Raises NoSuchMomentError where nothing can be read."""
    if not path.exists():
        raise NoSuchMomentError(f"no history at {path}; it is written by `ballonet run`, from its start on")
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5.0)
        yield connection
    except (sqlite3.Error, ValueError) as error:
        raise NoSuchMomentError(f"cannot read {path}: {error}") from error
    finally:
        if connection is not None:
            connection.close()


def tick_at(path: Path, at: float) -> Tick:
    """The last tick before a time, or the first after it. Raises NoSuchMomentError."""
    with _reading(path) as connection:
        row = connection.execute("SELECT at, data FROM ticks WHERE at <= ? ORDER BY at DESC LIMIT 1", (at,)).fetchone()
        row = row or connection.execute("SELECT at, data FROM ticks WHERE at > ? ORDER BY at LIMIT 1", (at,)).fetchone()
        if row is None or abs(row[0] - at) > NEAR_S:
            begin, end = connection.execute("SELECT MIN(at), MAX(at) FROM ticks").fetchone()
            known = f"it has {_local(begin)} to {_local(end)}" if begin else "it is empty"
            raise NoSuchMomentError(f"history has nothing within {NEAR_S:.0f} s of that time; {known}")
        return unpacked(row[1])


def _local(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def changes(path: Path, name: str, since: float, until: float, limit: int) -> list[Change]:
    """The newest `limit` decisions between two times, oldest first; of all guests when `name` is empty.

    Raises NoSuchMomentError.
    """
    with _reading(path) as connection:
        rows = connection.execute(
            "SELECT data FROM changes WHERE at BETWEEN ? AND ? AND (? = '' OR guest = ?) ORDER BY id DESC LIMIT ?",
            (since, until, name, name, limit),
        ).fetchall()
        return [msgspec.json.decode(data, type=Change) for (data,) in reversed(rows)]


def ticks(path: Path, since: float, until: float, limit: int | None = None) -> Iterator[Tick]:
    """Ticks between two times, oldest first, evenly thinned out to `limit`. Raises NoSuchMomentError."""
    with _reading(path) as connection:
        count = connection.execute("SELECT COUNT(*) FROM ticks WHERE at BETWEEN ? AND ?", (since, until)).fetchone()[0]
        every = 1 if limit is None else -(-count // limit) or 1
        for (data,) in connection.execute(_KEPT + _THINNED, (since, until, every)):
            yield unpacked(data)


def samples(path: Path, name: str, since: float, until: float, limit: int) -> list[Sample]:
    """One guest between two times, evenly thinned out to `limit`. Raises NoSuchMomentError."""
    with _reading(path) as connection:
        row = connection.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone() if _is_long(connection) else None
        extent = _extent(connection, row[0], since, until) if row else None
        if row and extent and min(until, extent[1]) - max(since, extent[0]) > CLOSE_S:
            found = _thinned(connection, "samples", "guest = ? AND", (row[0],), since, until, limit)
            return [*_of_ticks(path, name, since, extent[0] - 1e-3, limit), *map(partial(_sample, name), found)]
    return _of_ticks(path, name, since, until, limit)


def _of_ticks(path: Path, name: str, since: float, until: float, limit: int) -> list[Sample]:
    """The same from whole ticks: of a short time, and of before there were samples."""
    told = (sample_of(tick, name) for tick in ticks(path, since, until, limit))
    return [sample for sample in told if sample is not None]


def _sample(name: str, row: tuple[Any, ...]) -> Sample:
    _, at, keeps, holds, used, need, reason = row
    return Sample(at=at, guest=name, keep_bytes=keeps, resident_bytes=holds, used_bytes=used, need_bytes=need, reason=reason)


def host_samples(path: Path, since: float, until: float, limit: int) -> list[HostSample]:
    """The host between two times, evenly thinned out to `limit`. Raises NoSuchMomentError."""
    with _reading(path) as connection:
        if not _is_long(connection):
            return []
        return [HostSample(*row) for row in _thinned(connection, "hosts", "", (), since, until, limit)]


def _is_long(connection: sqlite3.Connection) -> bool:
    """Whether the file has the long tables: one that an older ballonet wrote has not."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'hosts'").fetchone() is not None


def _extent(connection: sqlite3.Connection, guest: int, since: float, until: float) -> tuple[float, float] | None:
    """When a guest's samples between two times begin and end; None = there is none."""
    asked = "SELECT MIN(at), MAX(at) FROM samples WHERE guest = ? AND at BETWEEN ? AND ?"
    begin, end = connection.execute(asked, (guest, since, until)).fetchone()
    return None if begin is None else (begin, end)


def _thinned(
    connection: sqlite3.Connection, table: str, which: str, of: tuple[int, ...], since: float, until: float, limit: int
) -> list[tuple[Any, ...]]:
    """Rows between two times, evenly thinned out to `limit`, oldest first."""
    where = f"FROM {table} WHERE {which} at BETWEEN ? AND ?"
    count = connection.execute(f"SELECT COUNT(*) {where}", (*of, since, until)).fetchone()[0]
    every = -(-count // limit) or 1
    numbered = f"SELECT *, ROW_NUMBER() OVER (ORDER BY at) - 1 AS number {where}"
    rows = connection.execute(f"SELECT * FROM ({numbered}) WHERE number % ? = 0", (*of, since, until, every))  # noqa: S608 ours
    return [row[:-1] for row in rows]
