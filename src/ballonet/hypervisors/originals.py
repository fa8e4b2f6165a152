"""What each guest's knobs were before ballonet came: written down before the first change, so that it can all be put back.

A file of JSON that is replaced as a whole, flushed to the disk before anything is sent: a daemon that is killed at any moment
leaves no change without its original.
"""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from ballonet.hypervisors.contract import RefusedError
from ballonet.model.knobs import Knobs


class Original(Struct, frozen=True, kw_only=True):
    """One guest's."""

    name: str
    knobs: Knobs


class Originals:
    """The file."""

    def __init__(self, path: Path) -> None:
        """Raises RefusedError when there is a file that cannot be read: what is in it must not be lost.

        Args:
        path: of the file; made when there is something to keep.
        """
        self._path = path
        try:
            self.kept = msgspec.json.decode(path.read_bytes(), type=dict[str, Original])
            """By what does not change of a guest: its UUID."""
        except FileNotFoundError:
            self.kept = {}
        except (OSError, msgspec.DecodeError) as error:
            text = "what guests were set to before; repair it, or put the values back by hand and remove it"
            raise RefusedError(f"{path} cannot be read ({error}): it says {text}") from error

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
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as file:
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            raise RefusedError(f"cannot write {self._path}: {error.strerror}; nothing is changed") from error
        self.kept = kept
