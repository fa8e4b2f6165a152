"""One controller for each guest: locks on what a daemon keeps and on whom it steers. Two of them undo each other's work.

A lock is the kernel's (flock(2)): a daemon that dies lets go of it. Guests of QEMU by itself need none: a QMP socket serves one
client at a time.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from pathlib import Path
from typing import Final

from ballonet.daemon.config import Config
from ballonet.model.settings import SettingsError

log = logging.getLogger(__name__)

RUN: Final = Path("/run/ballonet")
"""Root's alone: in a folder that others may write, any of them could keep the daemon from starting."""


class Locks:
    """Those of one process; all are let go at its end, however that comes."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def take(self, config: Config) -> None:
        """On the state, and on whom it steers. Raises SettingsError when another process has one of them."""
        self.take_steered(config)
        self._take(
            Path(config.control.state) / "lock", f"keeps its state in {config.control.state}", "set control.state to another"
        )

    def take_steered(self, config: Config) -> None:
        """On whom it steers alone. Raises SettingsError."""
        if what := config.source.steers(config.around):
            name = hashlib.sha256(what.encode()).hexdigest()[:16]
            self._take(RUN / f"{name}.lock", f"steers {what}", "two would undo each other's work")

    def release(self) -> None:
        """Lets go."""
        for number in self._held:
            os.close(number)
        self._held = []

    def _take(self, path: Path, what: str, remedy: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:  # a read-only disk, or not root: it steers all the same
            log.warning("no lock can be taken there", extra={"path": str(path), "trouble": error.strerror})
            return
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            who = os.read(number, 32).decode(errors="replace").strip() or "of unknown number"
            os.close(number)
            raise SettingsError(f"another ballonet runs (process {who}), and {what}: end that one first; {remedy}") from error
        self._held.append(number)
        with contextlib.suppress(OSError):  # the number of its process is a help, no more
            os.ftruncate(number, 0)
            os.pwrite(number, f"{os.getpid()}\n".encode(), 0)
