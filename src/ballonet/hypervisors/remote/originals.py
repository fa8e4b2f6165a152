"""What each guest's knobs were before ballonet came: written down before the first change, so that it can all be put back.

A file of JSON that is replaced as a whole, flushed to the disk before anything is sent: a daemon that is killed at any moment
leaves no change without its original. Its writer has a lock next to it, so that none puts back what another still turns.
"""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from ballonet.hypervisors.contract import RefusedError
from ballonet.model.decode import UndecodableError, decoded
from ballonet.model.knobs import Knobs


class Original(Struct, frozen=True, kw_only=True):
    """One guest's."""

    name: str
    knobs: Knobs


class Originals:
    """The file."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: of the file; made when there is something to keep.
        """
        self._path = path
        self._lock: BinaryIO | None = None
        self.kept: dict[str, Original] = {}
        """By what does not change of a guest."""

    def read(self) -> None:
        """Raises RefusedError when there is a file that cannot be read: what is in it must not be lost."""
        try:
            self.kept = decoded(self._path.read_bytes(), dict[str, Original])
        except FileNotFoundError:
            self.kept = {}
        except (OSError, UndecodableError) as error:
            text = "what guests were set to before; repair it, or put the values back by hand and remove it"
            raise RefusedError(f"{self._path} cannot be read ({error}): it says {text}") from error

    def own(self) -> None:
        """Makes it ours until `release`, as it is then; nothing if it is. Raises RefusedError when another has it."""
        if self._lock is not None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._path.with_suffix(".lock").open("wb")
        except OSError as error:
            raise RefusedError(f"cannot write {self._path}: {error.strerror}; nothing is changed") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.read()
        except BlockingIOError as error:
            lock.close()
            raise RefusedError(f"another ballonet holds {self._path}: stop the daemon first") from error
        except RefusedError:
            lock.close()
            raise
        self._lock = lock

    def release(self) -> None:
        """Others may have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def keep(self, key: str, original: Original) -> None:
        """Writes down what a guest had, if it is not yet. Raises RefusedError when that cannot be: then nothing may be sent."""
        if key not in self.kept:
            self._write(self.kept | {key: original})

    def forget(self, key: str) -> None:
        """It is put back. Raises RefusedError."""
        self._write({one: original for one, original in self.kept.items() if one != key})

    def _write(self, kept: dict[str, Original]) -> None:
        new = self._path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            raise RefusedError(f"cannot write {self._path}: {error.strerror}; nothing is changed") from error
        self.kept = kept
