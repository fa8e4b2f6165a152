"""How much history is kept: thinned out with age, the oldest dropped for age, and whatever takes most for size."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

THIN: Final = ((3600.0, 10.0), (86400.0, 60.0))
"""Ticks older than the first: one in the second is kept; seconds."""
THIN_SAMPLES: Final = ((86400.0, 60.0), (30 * 86400.0, 900.0))
"""The same for samples, of which one in SAMPLE_S is written."""
SAMPLE_S: Final = 10.0
SAMPLES_AGE_S: Final = 366 * 86400.0
"""They are kept for a year, whatever ticks are."""
TIDY_S: Final = 60.0
AHEAD_S: Final = 600.0
"""A row from further ahead than this is of a clock that was wrong."""
BATCH: Final = 500
"""Rows that are dropped at a time when the file is too large; of samples a hundred times as many, which are as large."""
PARTS: Final = {"ticks": 0.5, "changes": 0.2, "samples": 0.3}
"""Of the file's size: who has more than its part loses first."""
ROW_BYTES: Final = {"changes": 60, "samples": 60}
"""What a row takes besides its data."""


Span = tuple[float, float]
"""From and until, seconds since 1970."""


class Retention(Struct, frozen=True, kw_only=True):
    """How much is kept."""

    size_bytes: int = 512 << 20
    age_s: float = 30 * 86400.0


def tidy(connection: sqlite3.Connection, bounds: Retention, now: float, *, is_sure: bool = True) -> None:
    """Thins out, drops what is too old, then the oldest of what takes most while the file is too large.

    Args:
        connection: of the file.
        bounds: of it.
        now: seconds since 1970. Rows from after it stay: a clock that went back makes nothing old.
        is_sure: whether that may be believed; a clock that has just jumped ahead makes nothing old either.
    """
    if is_sure:
        with connection:
            _thin_ticks(connection, now)
            for table in ("ticks", "changes"):
                connection.execute(f"DELETE FROM {table} WHERE at < ?", (now - bounds.age_s,))  # noqa: S608 two names of ours
        with connection:
            _thin_samples(connection, now)
    while size_bytes(connection) > bounds.size_bytes and _drop_oldest(connection, bounds.size_bytes, now):
        pass
    connection.executescript("PRAGMA incremental_vacuum")  # `execute` would give back one page
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _of_age(
    connection: sqlite3.Connection, what: str, older_s: float, every_s: float, now: float
) -> Iterator[tuple[float, float]]:
    """The time whose rows have come of age since this was done last, however long ago: each is looked at once."""
    until = math.floor((now - older_s) / every_s) * every_s
    mark = f"{what} thinned to {every_s:.0f} s"
    row = connection.execute("SELECT at FROM marks WHERE name = ?", (mark,)).fetchone()
    yield row[0] if row and row[0] <= until else 0.0, until
    connection.execute("INSERT OR REPLACE INTO marks (name, at) VALUES (?, ?)", (mark, until))


def _thin_ticks(connection: sqlite3.Connection, now: float) -> None:
    for older_s, every_s in THIN:
        with _of_age(connection, "ticks", older_s, every_s, now) as span:
            connection.execute(
                "DELETE FROM ticks WHERE at >= ? AND at < ? AND id NOT IN "
                "(SELECT MIN(id) FROM ticks WHERE at >= ? AND at < ? GROUP BY CAST(at / ? AS INTEGER))",
                (*span, *span, every_s),
            )


def _thin_samples(connection: sqlite3.Connection, now: float) -> None:
    guests = [number for (number,) in connection.execute("SELECT id FROM names")]
    for older_s, every_s in THIN_SAMPLES:
        with _of_age(connection, "samples", older_s, every_s, now) as span:
            for guest in guests:
                connection.execute(
                    "DELETE FROM samples WHERE guest = ? AND at >= ? AND at < ? AND at NOT IN (SELECT MIN(at) FROM samples"
                    " WHERE guest = ? AND at >= ? AND at < ? GROUP BY CAST(at / ? AS INTEGER))",
                    (guest, *span, guest, *span, every_s),
                )
            connection.execute(
                "DELETE FROM hosts WHERE at >= ? AND at < ? AND at NOT IN"
                " (SELECT MIN(at) FROM hosts WHERE at >= ? AND at < ? GROUP BY CAST(at / ? AS INTEGER))",
                (*span, *span, every_s),
            )
    oldest = now - SAMPLES_AGE_S
    for guest in guests:
        connection.execute("DELETE FROM samples WHERE guest = ? AND at < ?", (guest, oldest))
    connection.execute("DELETE FROM hosts WHERE at < ?", (oldest,))
    connection.execute("DELETE FROM names WHERE id NOT IN (SELECT DISTINCT guest FROM samples)")


def size_bytes(connection: sqlite3.Connection) -> int:
    """What is in use of the file."""
    names = ("page_count", "freelist_count", "page_size")
    count, free, page = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((count - free) * page)


def _taken(connection: sqlite3.Connection) -> Iterator[tuple[str, float]]:
    """What each table takes of its part, the one that is furthest over it first."""
    yield "ticks", connection.execute("SELECT COALESCE(SUM(LENGTH(data)), 0) FROM ticks").fetchone()[0] / PARTS["ticks"]
    rows, data = connection.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(data)), 0) FROM changes").fetchone()
    yield "changes", (data + ROW_BYTES["changes"] * rows) / PARTS["changes"]
    rows = connection.execute("SELECT COUNT(*) FROM samples").fetchone()[0]
    yield "samples", ROW_BYTES["samples"] * rows / PARTS["samples"]


def _drop_future(connection: sqlite3.Connection, now: float) -> bool:
    """What a clock that was ahead has left, before what is true goes for it; whether there was any."""
    with connection:
        dropped = sum(
            connection.execute(f"DELETE FROM {table} WHERE at > ?", (now + AHEAD_S,)).rowcount  # noqa: S608 names of ours
            for table in ("ticks", "changes", "hosts", "samples")
        )
    return dropped > 0


def _drop_oldest(connection: sqlite3.Connection, bound: int, now: float) -> bool:
    """Some of what takes most of its part; whether there was any."""
    if _drop_future(connection, now):
        return True
    table, taken = max(_taken(connection), key=lambda one: one[1])
    # A sixteenth of what is over it at a time: to count anew costs a look at all rows.
    count = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608 a name of ours
    some = max(BATCH, int(count * min(0.5, max(0.0, 1 - bound / max(1.0, taken)) / 16)))
    with connection:
        if table == "samples":
            begin, end = connection.execute("SELECT MIN(at), MAX(at) FROM samples").fetchone()
            if begin is None:
                return False
            until = begin + max(SAMPLE_S, (end - begin) / 16)
            dropped = connection.execute("DELETE FROM hosts WHERE at < ?", (until,)).rowcount
            for (guest,) in connection.execute("SELECT id FROM names").fetchall():
                dropped += connection.execute("DELETE FROM samples WHERE guest = ? AND at < ?", (guest, until)).rowcount
            return dropped > 0
        rows = f"SELECT id FROM {table} ORDER BY at LIMIT ?"  # noqa: S608
        return connection.execute(f"DELETE FROM {table} WHERE id IN ({rows})", (some,)).rowcount > 0  # noqa: S608
