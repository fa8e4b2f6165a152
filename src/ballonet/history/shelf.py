"""The file of history: SQLite, opened whatever befell it.

Ticks lie there whole and compressed, for `explain --at` and `replay`; changes; and samples, long and narrow, one row a guest and
one for the host each ten seconds, so that a guest's months are read in milliseconds.
"""

import logging
import sqlite3
import time
import zlib
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from ballonet.model.tick import Tick

log = logging.getLogger(__name__)

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ticks (id INTEGER PRIMARY KEY, at REAL NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS ticks_at ON ticks (at);
CREATE TABLE IF NOT EXISTS changes (id INTEGER PRIMARY KEY, at REAL NOT NULL, guest TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS changes_at ON changes (at);
CREATE TABLE IF NOT EXISTS names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS samples (guest INTEGER NOT NULL, at REAL NOT NULL, keeps INTEGER, holds INTEGER, used INTEGER,
    need INTEGER, reason TEXT NOT NULL, PRIMARY KEY (guest, at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hosts (at REAL PRIMARY KEY, total INTEGER, available INTEGER, memory INTEGER, promised INTEGER,
    reserve INTEGER, keeps INTEGER, used INTEGER, need INTEGER, short INTEGER, guests INTEGER, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""
VERSION: Final = 1
"""Tables were added since; a ballonet that does not know them leaves them as they are."""
SQUEEZE: Final = 1
"""Of zlib: the fastest; JSON of guests shrinks to a tenth even so."""
LARGEST_TICK_BYTES: Final = 64 << 20
"""Unpacked: 1,000 guests take 0.6 MiB. A file that came from elsewhere may hold anything."""
KEPT_ASIDE: Final = 2
"""At most this many damaged files are kept, the newest; together no larger than history itself may be."""


def packed(tick: Tick) -> bytes:
    """A tick as a row keeps it."""
    slim = replace(tick, plan=replace(tick.plan, looks={}), snapshot=replace(tick.snapshot, state=None))
    return zlib.compress(msgspec.json.encode(slim), SQUEEZE)


def unpacked(data: bytes) -> Tick:
    """The tick of a row. Raises ValueError when it is none."""
    try:
        opener = zlib.decompressobj()
        text = opener.decompress(data, LARGEST_TICK_BYTES)
        if opener.unconsumed_tail:
            raise ValueError(f"a row that is no tick: it unpacks to more than {LARGEST_TICK_BYTES} bytes")
        return msgspec.json.decode(text, type=Tick)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"a row that is no tick: {error}") from error


def open_for_writing(path: Path, most_bytes: int = 512 << 20) -> sqlite3.Connection:
    """The file, whatever befell it: one that is damaged is put aside, and told. Raises sqlite3.Error, OSError.

    Args:
        path: of the file.
        most_bytes: what damaged files may take together.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    try:
        return _opened(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # the disk's fault, not the file's
            raise
        aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        path.rename(aside)
        for tail in ("-wal", "-shm"):
            path.with_name(path.name + tail).unlink(missing_ok=True)
        _forget_damaged(path, most_bytes)
        log.warning("history was damaged; begun anew", extra={"file": str(path), "kept_as": str(aside), "trouble": str(error)})
        return _opened(path)


def _forget_damaged(path: Path, most_bytes: int) -> None:
    left = most_bytes
    for number, old in enumerate(sorted(path.parent.glob(f"{path.name}.damaged-*"), reverse=True)):
        left -= old.stat().st_size
        if number >= KEPT_ASIDE or left < 0:
            old.unlink(missing_ok=True)


def _opened(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)  # whatever the umask of the process that begins it
    if not path.with_name(f"{path.name}-wal").exists():  # an index of a log that is not there only leads astray
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
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
