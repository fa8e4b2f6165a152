"""One look at guests by ourselves, where no daemon runs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from ballonet.daemon.config import Config
from ballonet.decide.step import START, step
from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.local.alone import NOT_HEARD
from ballonet.model.finding import Finding
from ballonet.model.snapshot import Voice
from ballonet.model.terms import GuestSettings
from ballonet.model.tick import Tick
from ballonet.sense.host import host_sense
from ballonet.sense.observer import Observer

LOOK_S: Final = 2.5
"""How long to listen: agents and balloon drivers speak once a second."""
LONGEST_LOOK_S: Final = 10.0
"""The same while one is met that has not been heard yet: on a slow host that takes longer."""


async def look(config: Config) -> tuple[Tick, list[Finding]]:
    """One picture of a configuration's guests, once all have spoken, after LOOK_S at the latest; and what keeps guests away.

    Raises SenseError.
    """
    async with opened(config) as hypervisor:
        start = time.monotonic()
        is_new = False
        while time.monotonic() - start < (LONGEST_LOOK_S if is_new else LOOK_S):
            await asyncio.sleep(0.1)
            guests = hypervisor.guests()
            is_new = any(guest.leave_alone == NOT_HEARD for guest in guests)
            if guests and all(guest.voice is Voice.AGENT for guest in guests):
                break
        eye = Observer(
            host_sense(hypervisor, Path(config.host.root)),
            hypervisor,
            lambda guest: GuestSettings(
                config.settings(guest.name, hypervisor.terms(guest.name), uuid=guest.uuid, tags=guest.tags)
            ),
        )
        snapshot, found = eye.look(), hypervisor.findings()
    _, plan = step(START, snapshot, config.limits(), time.monotonic(), config.loop.policy)
    return Tick(at=time.time(), snapshot=snapshot, plan=plan), found


@contextlib.asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Hypervisor]:
    """The hypervisor of a configuration, for a command that is done with it soon."""
    hypervisor = config.source.hypervisor(config.around)
    await hypervisor.open()
    try:
        yield hypervisor
    finally:
        await hypervisor.close()
