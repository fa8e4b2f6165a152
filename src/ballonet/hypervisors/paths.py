"""Files that match a pattern, where an error is an error: `glob.glob` reads one as "there is nothing"."""

import fnmatch
import os
from collections.abc import Iterator
from pathlib import PurePath
from typing import Final

_WILD: Final = frozenset("*?[")


def matching(pattern: str) -> list[str]:
    """The paths that match an absolute pattern with wildcards in any of its parts, sorted; hidden ones only where they are named.

    Raises:
        OSError: a folder that there is cannot be read (EMFILE, EACCES, ENOTCONN); a part that is not there matches nothing.
    """
    top, *parts = PurePath(pattern).parts
    found = [top]
    for part in parts:
        found = [path for folder in found for path in _step(folder, part)]
    return sorted(found)


def _step(folder: str, part: str) -> Iterator[str]:
    if not _WILD & set(part):
        path = os.path.join(folder, part)
        if os.path.lexists(path):
            yield path
        return
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if fnmatch.fnmatchcase(name, part) and (not name.startswith(".") or part.startswith(".")):
            yield os.path.join(folder, name)
