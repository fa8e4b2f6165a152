"""Disks that guests of the lab mount: made once, and kept under the checksum of what they are made of."""

import hashlib
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.image import cache_folder
from ballonet.lab.mortal import mortal_folder


def cached_disk(kind: str, recipe: Iterable[bytes], build: Callable[[Path], Path]) -> Path:
    """The disk's image, from the cache or built now.

    Args:
        kind: what its file's name begins with.
        recipe: all that it is made of; another one makes another disk.
        build: makes it in a folder of its own, which is gone afterwards, and gives its path there.
    """
    disk = cache_folder() / f"{kind}-{hashlib.sha256(b'|'.join(recipe)).hexdigest()[:16]}.ext4"
    if not disk.exists():
        disk.parent.mkdir(parents=True, exist_ok=True)
        with mortal_folder("building-", disk.parent) as work:
            build(work).rename(disk)
    return disk


def run(*words: str) -> None:
    """A tool that makes a part of one. Raises LabUnavailableError with what it said."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabUnavailableError(f"`{words[0]}` failed: {(done.stderr or done.stdout).strip()[-300:]}")
