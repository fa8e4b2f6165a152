"""What runs in the background does not die in silence, and does not fill the log."""

import asyncio
import logging

import pytest

from ballonet.hypervisors.tended import tended
from ballonet.hypervisors.told import AGAIN_S, Told


@pytest.mark.parametrize("fails", [OSError(107, "ENOTCONN"), RecursionError(), None])
async def test_a_task_that_fails_or_ends_says_so_and_goes_on(fails: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    """Three times, then it works."""
    turns, works = 0, asyncio.Event()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns <= 3:
            if fails is not None:
                raise fails
            return
        works.set()
        await asyncio.Event().wait()

    task = tended("folder", work, rest_s=(0.0,))
    await works.wait()
    assert turns == 4
    told = [one for one in caplog.records if "background task" in one.message]
    assert len(told) == (1 if fails is not None else 3)  # the same failure is told once
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_trouble_is_told_once_an_hour_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """Not 86,400 lines a day."""
    now = 0.0
    told = Told(logging.getLogger("t"), lambda: now)
    for second in range(7300):
        now = float(second)
        told.failed("cannot read the host", OSError("no /proc/meminfo"), has_trace=False)
    told.well("reads the host again")
    told.well("reads the host again")
    assert len(caplog.records) == 1 + int(7299 // AGAIN_S) + 1
