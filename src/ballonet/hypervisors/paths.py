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


def lies_there(path: str) -> bool:
    """Whether a path may be there, be it a broken link: what cannot be looked at now is not known to be gone. It waits for
    nothing: a look at a folder of sockets.
    """
    try:
        return _is_there(path)
    except OSError:
        return True


def text_of(path: str) -> str:
    """A name of the file system as text: bytes that are no UTF-8 as their escapes. Python's own stand-ins for them
    (surrogateescape) go into no JSON.
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def _is_there(path: str) -> bool:
    """Raises OSError when nobody can say (EACCES, EMFILE, ELOOP)."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _step(folder: str, part: str) -> Iterator[str]:
    if not _WILD & set(part):
        path = f"{folder.rstrip('/')}/{part}"
        if _is_there(path):
            yield path
        return
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if fnmatch.fnmatchcase(name, part) and (not name.startswith(".") or part.startswith(".")):
            yield f"{folder.rstrip('/')}/{name}"
