"""Folders that go with the lab, however the lab goes: at its end, by Ctrl-C, or by a kill -9."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LAST_RITES = 'read _; for _ in 1 2 3 4 5; do sleep 0.2; rm -rf "$1"; [ -z "$2" ] || rmdir "$2"; done'
"""Reading ends when the lab's end of the pipe closes. Several tries: QEMUs that just die still make and hold things."""


@contextlib.contextmanager
def mortal_folder(prefix: str, parent: Path | None = None, cgroup: Path | None = None) -> Iterator[Path]:
    """A new folder, removed at the end of the block. A small process stands by and removes it, and `cgroup` with it,
    should this process be killed before.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    words = ("sh", "-c", _LAST_RITES, "undertaker", str(folder), str(cgroup or ""))
    quiet = subprocess.DEVNULL
    # A session of its own: Ctrl-C is the lab's to handle.
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True) as undertaker:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            undertaker.kill()
