"""The thread for calls that block, without libvirt."""

import asyncio
import threading
import time

import pytest

from ballonet.hypervisors.contract import NoAnswerError
from ballonet.hypervisors.libvirt.worker import Worker


async def test_calls_wait_for_each_other() -> None:
    """A command that comes while a look is under way is done after it, and not refused."""
    worker, done = Worker("g"), list[str]()

    def look() -> None:
        time.sleep(0.05)
        done.append("look")

    looks = asyncio.create_task(worker.call(look, 1.0))
    await asyncio.sleep(0.01)
    await worker.call(lambda: done.append("command"), 1.0)
    await looks
    assert done == ["look", "command"]
    worker.close()


async def test_a_call_that_hangs_is_given_up_and_holds_up_nobody() -> None:
    """Until it comes back others fail at once; after it they are done. What a call raises is its caller's."""
    worker, gate = Worker("g"), threading.Event()
    with pytest.raises(NoAnswerError, match="within"):
        await worker.call(gate.wait, 0.05)
    start = time.monotonic()
    with pytest.raises(NoAnswerError, match="has not come back"):
        await worker.call(lambda: 1, 10.0)
    assert time.monotonic() - start < 5
    gate.set()
    await asyncio.sleep(0.1)
    assert await worker.call(lambda: 7, 1.0) == 7
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 // 0, 1.0)
    worker.close()
