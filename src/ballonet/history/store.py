"""History on disk: SQLite in WAL mode, written by a thread of its own, so that the loop never waits for a disk.

A row is one tick, whole: snapshot and plan, compressed. What is younger than an hour stays as it was seen; a day back, one
tick in ten seconds; before that, one a minute, until the oldest are dropped for age or size. Decisions that changed something
are kept beside them until they are as old.

A daemon killed with -9 loses what was not committed: each tick is, as soon as the disk takes it
(https://www.sqlite.org/wal.html; `synchronous=NORMAL` can lose the last ones at a power cut, and never breaks the file).
"""

import contextlib
import logging
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ballonet.control.messages import Change
from ballonet.model.tick import Tick

log = logging.getLogger(__name__)

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ticks (id INTEGER PRIMARY KEY, at REAL NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS ticks_at ON ticks (at);
CREATE TABLE IF NOT EXISTS changes (id INTEGER PRIMARY KEY, at REAL NOT NULL, guest TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS changes_at ON changes (at);
"""
VERSION: Final = 1
WAITING: Final = 64
"""Ticks that may wait for the disk; more are lost, and counted."""
TIDY_S: Final = 60.0
RETRY_S: Final = 10.0
"""After a disk refused, so long until the next try; ticks are lost meanwhile, and counted."""
THIN: Final = ((3600.0, 10.0), (86400.0, 60.0))
"""Older than the first, one tick in the second is kept; seconds."""
SQUEEZE: Final = 1
"""Of zlib: the fastest; JSON of guests shrinks to a tenth even so."""
BATCH: Final = 500
"""Rows that are dropped at a time when the file is too large."""


class Bounds(Struct, frozen=True, kw_only=True):
    """How much is kept."""

    size_bytes: int = 512 << 20
    age_s: float = 30 * 86400.0


class History:
    """The writer."""

    def __init__(
        self,
        path: Path,
        bounds: Bounds,
        on_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Starts its thread; trouble with the disk is told in the log, and never reaches the loop.

        Args:
        path: of the file; made where there is none.
        bounds: of it.
        on_lost: told of each tick that could not be kept, in any thread.
        clock: seconds since 1970.
        """
        self._path, self.bounds, self._on_lost, self._clock = path, bounds, on_lost, clock
        self._queue: queue.Queue[tuple[Tick, Sequence[Change]] | None] = queue.Queue(WAITING)
        self._connection: sqlite3.Connection | None = None
        self._retry_at = 0.0
        self._tidy_at = 0.0
        self._trouble = ""
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    def note(self, tick: Tick, changes: Sequence[Change]) -> None:
        """Keeps a tick, whose `at` is of the wall clock. Never waits."""
        try:
            self._queue.put_nowait((tick, changes))
        except queue.Full:
            self._lost("the disk is too slow")

    @property
    def backlog(self) -> int:
        """Ticks that wait for the disk."""
        return self._queue.qsize()

    def close(self, deadline_s: float = 5.0) -> None:
        """Writes what waits, for so long at the most."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=deadline_s)
            self._thread.join(deadline_s)

    # In its own thread

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            now = time.monotonic()
            if now < self._retry_at:
                self._on_lost()
                continue
            try:
                self._write(*item)
                self._tidy(now)
            except Exception as error:
                if not isinstance(
                    error, sqlite3.Error | OSError
                ):  # a fault of ours: told with its trace, and the next tick is tried
                    log.exception("history failed")
                self._retry_at = now + RETRY_S
                self._drop_connection()
                self._lost(str(error))
            else:
                if self._trouble:
                    log.info("history is written again")
                self._trouble = ""
        self._drop_connection()

    def _lost(self, why: str) -> None:
        self._on_lost()
        if why != self._trouble:
            log.warning("history not written", extra={"file": str(self._path), "trouble": why})
        self._trouble = why

    def _write(self, tick: Tick, changes: Sequence[Change]) -> None:
        if self._connection is None:
            self._connection = open_for_writing(self._path)
        with self._connection as connection:
            connection.execute("INSERT INTO ticks (at, data) VALUES (?, ?)", (tick.at, packed(tick)))
            rows = [(one.at, one.guest, msgspec.json.encode(one)) for one in changes]
            connection.executemany("INSERT INTO changes (at, guest, data) VALUES (?, ?, ?)", rows)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _tidy(self, now: float) -> None:
        if now < self._tidy_at or self._connection is None:
            return
        self._tidy_at = now + TIDY_S
        tidy(self._connection, self.bounds, self._clock())


def packed(tick: Tick) -> bytes:
    """A tick as a row keeps it."""
    slim = replace(tick, plan=replace(tick.plan, looks={}), snapshot=replace(tick.snapshot, state=None))
    return zlib.compress(msgspec.json.encode(slim), SQUEEZE)


def unpacked(data: bytes) -> Tick:
    """The tick of a row. Raises ValueError when it is none."""
    try:
        return msgspec.json.decode(zlib.decompress(data), type=Tick)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"a row that is no tick: {error}") from error


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The file, whatever befell it: one that is damaged is put aside, and told. Raises sqlite3.Error, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _opened(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # the disk's fault, not the file's
            raise
        aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        path.rename(aside)
        for tail in ("-wal", "-shm"):
            path.with_name(path.name + tail).unlink(missing_ok=True)
        log.warning("history was damaged; begun anew", extra={"file": str(path), "kept_as": str(aside), "trouble": str(error)})
        return _opened(path)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
    try:
        if not _checked_version(connection):
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _checked_version(connection: sqlite3.Connection) -> int:
    """0 = the file is new. Raises sqlite3.DatabaseError when it cannot be used."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise sqlite3.DatabaseError(f"written by a newer ballonet (version {version})")
    if (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(found)
    return version


def tidy(connection: sqlite3.Connection, bounds: Bounds, now: float) -> None:
    """Thins out, drops what is too old, then the oldest while the file is too large.

    Args:
        connection: of the file.
        bounds: of it.
        now: seconds since 1970. Rows from after it stay: a clock that went back makes nothing old.
    """
    with connection:
        for older_s, every_s in THIN:
            connection.execute(
                "DELETE FROM ticks WHERE at < ? AND at >= ? AND id NOT IN "
                "(SELECT MIN(id) FROM ticks WHERE at < ? AND at >= ? GROUP BY CAST(at / ? AS INTEGER))",
                (*(now - older_s, now - older_s * 24 - TIDY_S) * 2, every_s),
            )
        for table in ("ticks", "changes"):
            connection.execute(f"DELETE FROM {table} WHERE at < ?", (now - bounds.age_s,))  # noqa: S608 two names of ours
    while size_bytes(connection) > bounds.size_bytes and _drop_oldest(connection):
        pass
    connection.executescript("PRAGMA incremental_vacuum")  # `execute` would give back one page
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def size_bytes(connection: sqlite3.Connection) -> int:
    """What is in use of the file."""
    names = ("page_count", "freelist_count", "page_size")
    count, free, page = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((count - free) * page)


def _drop_oldest(connection: sqlite3.Connection) -> bool:
    with connection:
        dropped = connection.execute(
            "DELETE FROM ticks WHERE id IN (SELECT id FROM ticks ORDER BY at LIMIT ?)", (BATCH,)
        ).rowcount
        oldest = connection.execute("SELECT MIN(at) FROM ticks").fetchone()[0]
        dropped += connection.execute("DELETE FROM changes WHERE ? IS NULL OR at < ?", (oldest, oldest)).rowcount
    return dropped > 0
