"""`ballonet run`: from a configuration to a loop that runs until a signal ends it. Guests stay as they are."""

import asyncio
import contextlib
import logging
import signal
from pathlib import Path

from ballonet.daemon.config import Config
from ballonet.daemon.journal import Journal, open_journal
from ballonet.daemon.loop import Loop
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.model.limits import Limits
from ballonet.sense.host import ProcHost
from ballonet.sense.picture import Eye

log = logging.getLogger(__name__)


def adapter(config: Config) -> QemuHypervisor:
    """The hypervisor that a configuration names; not opened yet."""
    return QemuHypervisor(config.qemu.sockets, Path(config.host.root), listens=config.qemu.agents)


async def run(config: Config) -> None:
    """Runs until SIGTERM or SIGINT."""
    open_journal()
    root = Path(config.host.root)
    hypervisor = adapter(config)
    limits = Limits(reserve_bytes=config.host.reserve, interval_s=config.loop.interval_s)
    eye = Eye(ProcHost(root), hypervisor, config.settings)
    loop = Loop(eye, hypervisor, limits, policy=config.loop.policy, on_tick=Journal().tell)
    log.info("started", extra={"mode": config.loop.mode.value, "policy": config.loop.policy})
    task = asyncio.create_task(loop.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await hypervisor.open()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        await hypervisor.close()
        log.info("stopped; guests stay as they are")
