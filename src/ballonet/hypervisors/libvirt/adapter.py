"""Every running domain of one libvirt; each is looked after by a task and a thread of its own (guest.py).

Reconnects when libvirtd restarts: QEMUs outlive it, and so do our guests, which are left alone meanwhile.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import libvirt

from ballonet.hypervisors.contract import Capabilities, HypervisorError, KeptSettings, Steering
from ballonet.hypervisors.herd import Herd
from ballonet.hypervisors.libvirt import events
from ballonet.hypervisors.libvirt.guest import LibvirtGuest
from ballonet.hypervisors.libvirt.worker import Worker
from ballonet.model.snapshot import Mechanism

log = logging.getLogger(__name__)

BULK_S: Final = 1.0
OPEN_S: Final = 10.0
RETRY_S: Final = 1.0
ALIVE_S, ALIVE_COUNT = 5, 3
"""Keep-alives: a libvirtd that is silent for 15 s is given up."""
STATS: Final = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_BALLOON
ACTIVE: Final = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
EVENTS: Final = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
)


class LibvirtHypervisor(Herd[LibvirtGuest]):
    """Every running domain of one libvirt. Guests come and go by themselves."""

    def __init__(self, uri: str = "qemu:///system", root: Path = Path("/"), *, listens: bool = True) -> None:
        """Args:
        uri: of the libvirt on this host, as `virsh -c` takes it.
        root: where /proc is found.
        listens: whether to hear agents in the guests.
        """
        super().__init__()
        self._uri = uri
        self._root = root
        self._listens = listens
        self._worker = Worker(uri)
        self._look_now = asyncio.Event()
        self._connection: Any = None
        self._life: asyncio.Task[None] | None = None
        self._trouble = ""

    @property
    def capabilities(self) -> Capabilities:
        """It steers a target, by balloons."""
        return Capabilities(name="libvirt", steering=Steering.TARGET, mechanisms=frozenset({Mechanism.BALLOON}))

    async def open(self) -> None:
        """Starts to connect and watch."""
        events.start()
        self._life = asyncio.create_task(self._live())

    async def close(self) -> None:
        """Ends the connection; guests stay as they are."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        for uuid in list(self._guests):
            await self._forget(uuid)
        await self._disconnect()
        self._worker.close()

    def settings(self, name: str) -> KeptSettings | None:
        """What the domain's metadata say."""
        guest = self._named(name)
        return guest.settings if guest else None

    # Its own life

    async def _live(self) -> None:
        while True:
            try:
                await self._call(self._connect, OPEN_S)
                log.info("connected", extra={"libvirt": self._uri})
                self._trouble = ""
                await self._listen()
            except HypervisorError as error:
                if str(error) != self._trouble:
                    log.warning("libvirt cannot be reached; tried again", extra={"libvirt": self._uri, "trouble": str(error)})
                self._trouble = str(error)
            await self._disconnect()
            await asyncio.sleep(RETRY_S)

    async def _call(self, work: Callable[[], Any], deadline_s: float) -> Any:
        try:
            return await self._worker.call(work, deadline_s)
        except libvirt.libvirtError as error:
            raise HypervisorError(f"{self._uri}: {error}") from error

    def _connect(self) -> None:
        """In the worker's thread."""
        loop = self._life.get_loop() if self._life else asyncio.get_running_loop()
        self._connection = connection = libvirt.open(self._uri)
        with contextlib.suppress(libvirt.libvirtError):  # not over a local driver without a daemon
            connection.setKeepAlive(ALIVE_S, ALIVE_COUNT)
        for event in EVENTS:
            connection.domainEventRegisterAny(
                None, event, lambda _connection, domain, *_: _soon(loop, self._on_event, domain.UUIDString()), None
            )

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(HypervisorError):
                await self._call(connection.close, OPEN_S)

    def _on_event(self, uuid: str) -> None:
        if (guest := self._guests.get(uuid)) is not None:
            guest.has_changed()
        self._look_now.set()

    async def _listen(self) -> None:
        """One look at all domains after the other, while the connection holds. Raises HypervisorError when it does not."""
        while True:
            start = time.monotonic()
            found = {
                domain.UUIDString(): (domain, record)
                for domain, record in await self._call(lambda: self._connection.getAllDomainStats(STATS, ACTIVE), OPEN_S)
            }
            for uuid, (domain, record) in found.items():
                if uuid not in self._guests or self._tasks[uuid].done():
                    await self._meet(uuid, domain)
                self._guests[uuid].take_bulk(record)
            for uuid in self._guests.keys() - found.keys():
                await self._forget(uuid)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.05, BULK_S - (time.monotonic() - start))):
                    await self._look_now.wait()
            self._look_now.clear()

    async def _meet(self, uuid: str, domain: Any) -> None:
        if uuid in self._guests:
            await self._forget(uuid)
        self._guests[uuid] = guest = LibvirtGuest(self._uri, domain, self._root, self._news.set, listens=self._listens)
        self._tasks[uuid] = asyncio.create_task(guest.run())
        self._news.set()

    async def _forget(self, uuid: str) -> None:
        guest, task = self._guests.pop(uuid), self._tasks.pop(uuid)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        log.info("guest gone", extra={"guest": guest.name})
        self._news.set()


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[[str], None], uuid: str) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(work, uuid)
