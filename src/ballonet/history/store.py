"""History on disk: SQLite in WAL mode, written by a thread of its own, so that the loop never waits for a disk.

A tick is a row, whole: snapshot and plan, compressed. What is younger than an hour stays as it was seen; a day back, one tick in
ten seconds; before that, one a minute, until the oldest are dropped for age or size. Besides, samples of each guest and the host
are kept for a year, ever more sparsely (tidy.py).

A daemon killed with -9 loses what was not committed: each tick is, as soon as the disk takes it
(https://www.sqlite.org/wal.html; `synchronous=NORMAL` can lose the last ones at a power cut, and never breaks the file).
"""

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ballonet.history.shelf import open_for_writing, packed
from ballonet.history.tidy import SAMPLE_S, TIDY_S, Retention, tidy
from ballonet.model.tick import Tick
from ballonet.status.words import Change

log = logging.getLogger(__name__)

WAITING: Final = 64
"""Ticks that may wait for the disk; more are lost, and counted."""
RETRY_S: Final = 10.0
"""The next try comes this long after a disk refused; ticks are lost meanwhile, and counted."""
JUMP_S: Final = 300.0
"""The clock of the wall has jumped when it went ahead by this more than the one that only rises."""
LONG_S: Final = 86400.0
"""So does one that is so far ahead of the newest row when the file is opened."""
SURE_S: Final = 3600.0
"""Nothing is dropped for its age within this time after a jump."""
LEAST_LOG_BYTES: Final = 16 << 20
LOG_SHARE: Final = 0.25
"""Of the bound: SQLite's log next to the file is no larger. A reader in one long transaction keeps it from being emptied."""


class History:
    """The writer."""

    def __init__(
        self,
        path: Path,
        bounds: Retention,
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
        self._numbers: dict[str, int] = {}
        """By name: a guest's number in the file."""
        self._retry_at = self._tidy_at = self._sampled_at = 0.0
        self._ahead = self._clock() - time.monotonic()
        self._jumped_at = -SURE_S
        self._inode = 0
        """Of the file that is open."""
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
    def trouble(self) -> str:
        """Why nothing is written now; empty = it is."""
        return self._trouble

    @property
    def backlog(self) -> int:
        """Ticks that wait for the disk."""
        return self._queue.qsize()

    def close(self, deadline_s: float = 5.0) -> None:
        """Writes what waits, for at most `deadline_s`."""
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

    def _look_after_file(self) -> None:
        """Raises OSError when what is written would go nowhere, or would have no bound."""
        if self._connection is None:
            return
        try:
            is_ours = self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            is_ours = False
        if not is_ours:
            raise FileNotFoundError("it was removed, or replaced, while it was written; begun anew")
        most = max(LEAST_LOG_BYTES, int(LOG_SHARE * self.bounds.size_bytes))
        beside = self._path.with_name(f"{self._path.name}-wal")
        if not beside.exists():
            raise FileNotFoundError(f"{beside.name} was removed while it was written; what was in it is lost")
        if beside.stat().st_size > most:
            is_busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if is_busy:
                raise BlockingIOError(
                    f"another program reads it in one long transaction, and {beside.name} may not grow on; end that one"
                )

    def _write(self, tick: Tick, changes: Sequence[Change]) -> None:
        self._look_after_file()
        if self._connection is None:
            self._connection, self._numbers = open_for_writing(self._path, self.bounds.size_bytes), {}
            self._inode = self._path.stat().st_ino
            newest = self._connection.execute("SELECT MAX(at) FROM ticks").fetchone()[0]
            if newest is not None and self._clock() - newest > LONG_S:  # it was away for long, or the clock is wrong
                self._jumped_at = time.monotonic()
        with self._connection as connection:
            connection.execute("INSERT INTO ticks (at, data) VALUES (?, ?)", (tick.at, packed(tick)))
            rows = [(one.at, one.guest, msgspec.json.encode(one)) for one in changes]
            connection.executemany("INSERT INTO changes (at, guest, data) VALUES (?, ?, ?)", rows)
            if not 0 <= tick.at - self._sampled_at < SAMPLE_S:
                self._sample(connection, tick)
                self._sampled_at = tick.at

    def _sample(self, connection: sqlite3.Connection, tick: Tick) -> None:
        """A narrow row for each guest, and one for the host."""
        pairs = list(zip(tick.snapshot.guests, tick.plan.guests, strict=True))
        for guest, _ in pairs:
            if guest.name not in self._numbers:
                connection.execute("INSERT OR IGNORE INTO names (name) VALUES (?)", (guest.name,))
                found = connection.execute("SELECT id FROM names WHERE name = ?", (guest.name,)).fetchone()
                self._numbers[guest.name] = found[0]
        connection.executemany(
            "INSERT OR REPLACE INTO samples (guest, at, keeps, holds, used, need, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    self._numbers[guest.name],
                    tick.at,
                    guest.keep_bytes,
                    guest.resident_bytes,
                    one.used_bytes,
                    one.need_bytes,
                    one.reason.value,
                )
                for guest, one in pairs
            ],
        )
        host, plan = tick.snapshot.host, tick.plan
        sums = [
            sum(guest.keep_bytes or 0 for guest, _ in pairs),
            sum(one.used_bytes or 0 for _, one in pairs),
            sum(one.need_bytes or 0 for _, one in pairs),
            sum(one.bytes for one in plan.short),
        ]
        row = (
            tick.at,
            host.total_bytes,
            host.available_bytes,
            plan.memory_bytes,
            plan.promised_bytes,
            plan.reserve.bytes,
            *sums,
            len(pairs),
            plan.host_state,
        )
        connection.execute("INSERT OR REPLACE INTO hosts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _tidy(self, now: float) -> None:
        if now < self._tidy_at or self._connection is None:
            return
        self._tidy_at = now + TIDY_S
        tidy(self._connection, self.bounds, self._clock(), is_sure=self._is_sure(now))
        self._numbers = {}  # those of guests that are long gone may have been given up

    def _is_sure(self, now: float) -> bool:
        """Whether the clock of the wall goes as it should: one that has jumped ahead would make all that there is old at once."""
        ahead = self._clock() - now
        if ahead - self._ahead > JUMP_S:
            self._jumped_at = now
            log.warning(
                "the clock has jumped ahead; history drops nothing for its age for an hour", extra={"by_s": ahead - self._ahead}
            )
        self._ahead = ahead
        return now - self._jumped_at >= SURE_S
