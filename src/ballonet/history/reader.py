"""Reading history: while the daemon writes it, or after it is gone."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ballonet.control.messages import Change, NoSuchMomentError, Sample
from ballonet.control.tell import sample_of
from ballonet.history.store import unpacked
from ballonet.model.tick import Tick

NEAR_S: Final = 120.0
"""A moment further away from a time is not that time's."""


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Raises NoSuchMomentError where nothing can be read."""
    if not path.exists():
        raise NoSuchMomentError(f"no history at {path}; it is written by `ballonet run`, from its start on")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)
    try:
        yield connection
    except (sqlite3.Error, ValueError) as error:
        raise NoSuchMomentError(f"cannot read {path}: {error}") from error
    finally:
        connection.close()


def tick_at(path: Path, at: float) -> Tick:
    """The last tick before a time, or the first after it. Raises NoSuchMomentError."""
    with _reading(path) as connection:
        row = connection.execute("SELECT at, data FROM ticks WHERE at <= ? ORDER BY at DESC LIMIT 1", (at,)).fetchone()
        row = row or connection.execute("SELECT at, data FROM ticks WHERE at > ? ORDER BY at LIMIT 1", (at,)).fetchone()
        if row is None or abs(row[0] - at) > NEAR_S:
            begin, end = connection.execute("SELECT MIN(at), MAX(at) FROM ticks").fetchone()
            known = f"it has {begin:.0f} to {end:.0f} (seconds since 1970)" if begin else "it is empty"
            raise NoSuchMomentError(f"history has nothing within {NEAR_S:.0f} s of that time; {known}")
        return unpacked(row[1])


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
        rows = connection.execute("SELECT data FROM ticks WHERE at BETWEEN ? AND ? ORDER BY at, id", (since, until))
        for number, (data,) in enumerate(rows):
            if number % every == 0:
                yield unpacked(data)


def samples(path: Path, name: str, since: float, until: float, limit: int) -> list[Sample]:
    """One guest between two times, evenly thinned out to `limit`. Raises NoSuchMomentError."""
    found = (sample_of(tick, name) for tick in ticks(path, since, until, limit))
    return [sample for sample in found if sample is not None]
