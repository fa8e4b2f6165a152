"""The loop: ends when it is told to, whatever happens at that moment."""

import asyncio

import pytest

from ballonet.daemon.loop import Loop
from ballonet.hypervisors.fake import FakeGuest, FakeHypervisor
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Host
from ballonet.model.terms import GuestSettings
from ballonet.model.units import GIB
from ballonet.sense.host import Around
from ballonet.sense.observer import Observer


class FixedHost:
    def read(self, pids: object, resident: object) -> Around:
        return Around(Host(total_bytes=4 * GIB, available_bytes=2 * GIB), {})


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_while_there_is_news(turns: int) -> None:
    """A cancellation that meets news is not forgotten: the daemon would not end on SIGTERM."""
    hypervisor = FakeHypervisor([FakeGuest("a")])
    task = asyncio.create_task(Loop(Observer(FixedHost(), hypervisor, lambda _name: GuestSettings()), hypervisor, Limits()).run())
    await asyncio.sleep(0.1)  # past the least time between two ticks, waiting for news
    hypervisor.news.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=60)
    assert task.done()
