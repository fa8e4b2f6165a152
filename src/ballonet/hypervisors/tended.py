"""Tasks in the background that do not die in silence: one that fails says so, rests, and goes on."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

log = logging.getLogger(__name__)

REST_S: Final = (1.0, 2.0, 5.0, 15.0)
"""After the first failure, the second, and so on."""
WELL_S: Final = 60.0
"""A task that ran for this long without failing has got over it."""
AGAIN_S: Final = 3600.0
"""How often the same failure is told: once at first, then once in this time."""


def tended(
    what: str, work: Callable[[], Awaitable[None]], *, is_endless: bool = True, rest_s: tuple[float, ...] = REST_S
) -> asyncio.Task[None]:
    """Begins a task that runs `work` until it is cancelled.

    Whatever `work` raises is told in the log, with its trace and with `what`, and it begins anew after a rest. One that ends by
    itself although it is endless is taken for one that failed.

    Args:
        what: it looks after, for the log.
        work: called anew each time.
        is_endless: whether it must not end by itself; else its end is the task's.
        rest_s: before each new beginning, after the first failure, the second, and so on.
    """
    return asyncio.create_task(_tend(what, work, rest_s, is_endless=is_endless), name=what)


async def _tend(what: str, work: Callable[[], Awaitable[None]], rest_s: tuple[float, ...], *, is_endless: bool) -> None:
    failures, told = 0, dict[str, float]()
    while True:
        began_at = time.monotonic()
        try:
            await work()
            if not is_endless:
                return
            trouble = "it ended by itself"
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
            if began_at - told.get(trouble, -AGAIN_S) >= AGAIN_S:
                log.exception("background task failed; it goes on", extra={"task": what, "trouble": trouble})
                told[trouble] = began_at
        else:
            log.error("background task ended; it begins anew", extra={"task": what, "trouble": trouble})
        failures = 1 if time.monotonic() - began_at > WELL_S else failures + 1
        await asyncio.sleep(rest_s[min(failures, len(rest_s)) - 1])
