"""A trouble that lasts, told once, once an hour while it goes on, and when it is over: not with each tick."""

import logging
import time
from collections.abc import Callable
from typing import Final

AGAIN_S: Final = 3600.0


class Told:
    """What was said last of one kind of trouble."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        log: where to say it.
        clock: seconds, rising only.
        """
        self._log, self._clock = log, clock
        self._trouble = ""
        self._at = 0.0

    @property
    def trouble(self) -> str:
        """What lasts; empty = nothing."""
        return self._trouble

    def failed(self, what: str, error: Exception, *, has_trace: bool = True) -> None:
        """Tells it, unless it was told within the hour. An operator's trouble needs no trace, a fault of ours does."""
        trouble, now = f"{type(error).__name__}: {error}" if has_trace else str(error), self._clock()
        if trouble == self._trouble and now - self._at < AGAIN_S:
            return
        self._trouble, self._at = trouble, now
        self._log.error(what, extra={"trouble": trouble}, exc_info=error if has_trace else None)

    def well(self, what: str) -> None:
        """Tells that it is over, if there was any."""
        if self._trouble:
            self._trouble = ""
            self._log.warning(what)
