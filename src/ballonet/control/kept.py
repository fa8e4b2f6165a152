"""What an operator has said, in a file: all or nothing, whatever dies or fills up meanwhile."""

import contextlib
import os
from pathlib import Path
from typing import Generic, TypeVar

from ballonet.model.decode import UndecodableError, decoded, encode
from ballonet.status.errors import ControlError

T = TypeVar("T")


class Kept(Generic[T]):
    """One file with one value."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        """Args:
        path: of the file; made when there is something to keep.
        kind: of the value; what it is without arguments is what a file that is not there says.
        """
        self._path, self._kind = path, kind

    def load(self) -> tuple[T, str]:
        """The value, and what was wrong with the file, which is put aside then."""
        try:
            return decoded(self._path.read_bytes(), self._kind), ""
        except FileNotFoundError:
            return self._kind(), ""
        except (OSError, UndecodableError) as error:
            trouble = f"{self._path}: {error}"
            with contextlib.suppress(OSError):
                self._path.rename(self._path.with_suffix(".damaged"))
            return self._kind(), trouble

    def peek(self) -> T:
        """The value, for commands that only show it; none where the file cannot be read."""
        try:
            return decoded(self._path.read_bytes(), self._kind)
        except (OSError, UndecodableError):
            return self._kind()

    def save(self, value: T) -> None:
        """All or nothing: a daemon that dies, or a disk that is full, leaves the old one. Raises ControlError."""
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            with open(new, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(encode(value))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            raise ControlError(f"cannot write {self._path}: {error.strerror}; nothing is changed") from error
