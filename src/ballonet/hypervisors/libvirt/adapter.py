"""Every running domain of one libvirt; each is looked after by a task and a thread of its own (guest.py).

Reconnects when libvirtd restarts: QEMUs outlive it, and so do our guests, which are left alone meanwhile.

While anybody's hook runs (https://libvirt.org/hooks.html), libvirtd holds the lock of the domain that starts, and every call that
lists domains waits for it, with NOWAIT too; calls that name other domains do not. So the statistics are asked of those that are
known, newcomers are told by events, and the list of all is a matter of its own, whose silence says nothing of anybody.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import libvirt

from ballonet.hypervisors.contract import Capabilities, HypervisorError
from ballonet.hypervisors.libvirt import events
from ballonet.hypervisors.libvirt.guest import LibvirtGuest
from ballonet.hypervisors.libvirt.worker import Worker
from ballonet.hypervisors.local.adapter import LocalAdapter
from ballonet.hypervisors.tended import tended
from ballonet.model.finding import Finding, Level, fault
from ballonet.model.knobs import Steering
from ballonet.model.snapshot import Mechanism
from ballonet.model.terms import UNSAID, Terms

log = logging.getLogger(__name__)

BULK_S: Final = 1.0
LIST_S: Final = 5.0
"""How often all domains are listed, for what an event may have missed."""
LIST_DEADLINE_S: Final = 3600.0
"""For one list: hooks have no time limit, and nothing waits for it."""
OPEN_S: Final = 10.0
RETRY_S: Final = 1.0
ALIVE_S, ALIVE_COUNT = 5, 3
"""Keep-alives: a libvirtd that is silent for 15 s is given up."""
STATS: Final = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_BALLOON
ACTIVE: Final = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
EVENTS: Final = {
    "lifecycle": libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    "reboot": libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
    "balloon": libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE,
    "metadata": libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
    "added": libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    "removed": libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    "job": libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
}
STARTED: Final = {libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_RESUMED}
_INACTIVE: Final = -1
"""The number of a domain that does not run."""
GONE: Final = {libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_CRASHED}


class LibvirtHypervisor(LocalAdapter[LibvirtGuest]):
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
        self._lister = Worker(f"{uri}, all domains")
        self._domains: dict[str, Any] = {}
        """Of the open connection, by UUID: those whose statistics are asked for."""
        self._arrivals: list[tuple[str, Any]] = []
        """Domains that events told of and that are not met yet."""
        self._departures: set[str] = set()
        self._listed: set[str] = set()
        """UUIDs of which the list tells, and nobody else did."""
        self._look_now, self._list_now = asyncio.Event(), asyncio.Event()
        self._connection: Any = None
        self._listing: Any = None
        """Connection of the list's thread."""
        self._life: list[asyncio.Task[None]] = []
        self._trouble = ""

    @property
    def capabilities(self) -> Capabilities:
        """It steers a target, by balloons."""
        return Capabilities(name="libvirt", steering=Steering.TARGET, mechanisms=frozenset({Mechanism.BALLOON}))

    async def open(self) -> None:
        """Starts to connect and watch."""
        events.start()
        self._life = [tended("libvirt", self._live), tended("libvirt's list", self._list_all)]

    async def close(self) -> None:
        """Ends the connection; guests stay as they are."""
        for task in self._life:
            task.cancel()
        await asyncio.gather(*self._life, return_exceptions=True)
        for uuid in list(self._guests):
            await self._forget(uuid)
        await self._disconnect()
        self._worker.close()
        self._lister.close(last=self._hang_up)

    def findings(self) -> list[Finding]:
        """As the contract says: libvirt itself, and metadata of ours that say what cannot be."""
        found = []
        if self._trouble:
            remedy = "systemctl start libvirtd (or virtqemud.socket); `libvirt.uri` names another"
            found.append(fault(f"libvirt cannot be reached: {self._trouble}", remedy))
        for guest in self._guests.values():
            if guest.wrong_settings:
                what = f"its metadata are not in force, the last good ones are: {guest.wrong_settings}"
                remedy = "mend them by virsh metadata; docs/reference/config.md has their form"
                found.append(Finding(level=Level.WARNING, where=guest.name, what=what, remedy=remedy))
        return found

    def terms(self, name: str) -> Terms:
        """What the domain's metadata say."""
        guest = self._named(name)
        return guest.terms if guest else UNSAID

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
        loop = self._life[0].get_loop()
        self._connection = connection = libvirt.open(self._uri)
        with contextlib.suppress(libvirt.libvirtError):  # not over a local driver without a daemon
            connection.setKeepAlive(ALIVE_S, ALIVE_COUNT)
        for kind, event in EVENTS.items():
            connection.domainEventRegisterAny(None, event, partial(self._hear, loop, kind), None)

    def _hear(self, loop: asyncio.AbstractEventLoop, kind: str, _connection: Any, domain: Any, *words: Any) -> None:
        """In the thread of events. The domain's methods that ask libvirtd are for others: only its names are looked at here."""
        uuid, what = domain.UUIDString(), words[0] if kind == "lifecycle" else None
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(self._on_event, kind, uuid, domain, what)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(HypervisorError):
                await self._call(connection.close, OPEN_S)

    def _on_event(self, kind: str, uuid: str, domain: Any, what: int | None) -> None:
        guest = self._guests.get(uuid)
        if what in GONE:
            self._departures.add(uuid)
        elif what in STARTED:
            self._arrivals.append((uuid, domain))
        elif guest is not None and kind == "reboot":
            guest.begin_anew()
        if guest is not None:
            guest.has_changed()
        self._look_now.set()

    async def _listen(self) -> None:
        """One look at all known domains after the other, while the connection holds. Raises HypervisorError when it does not."""
        self._domains = await self._call(partial(self._known_again, tuple(self._guests)), OPEN_S)
        self._list_now.set()
        while True:
            start = time.monotonic()
            await self._come_and_go()
            known = list(self._domains.values())
            asked_at = time.monotonic()
            for domain, record in await self._call(partial(self._bulk, known), OPEN_S) if known else ():
                uuid = domain.UUIDString()
                if uuid in self._guests and not self._guests[uuid].is_life(domain.ID()):
                    await self._meet(uuid, domain)
                if uuid in self._guests:
                    self._guests[uuid].take_bulk(record, asked_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.05, BULK_S - (time.monotonic() - start))):
                    await self._look_now.wait()
            self._look_now.clear()

    def _bulk(self, known: list[Any]) -> Any:
        """In the worker's thread. A domain that has gone meanwhile is left out."""
        return self._connection.domainListGetStats(known, STATS, ACTIVE)

    def _known_again(self, uuids: tuple[str, ...]) -> dict[str, Any]:
        """In the worker's thread: those known before, by the new connection; by name, since lists may wait for a hook."""
        found = {}
        for uuid in uuids:
            with contextlib.suppress(libvirt.libvirtError):
                found[uuid] = self._connection.lookupByUUIDString(uuid)
        return found

    async def _come_and_go(self) -> None:
        """What events and the list told."""
        arrivals, self._arrivals = self._arrivals, []
        departures, self._departures = self._departures, set()
        if listed := tuple(self._listed):
            self._listed = set()
            found = await self._call(partial(self._known_again, listed), OPEN_S)
            arrivals += [(uuid, domain) for uuid, domain in found.items() if domain.ID() != _INACTIVE]  # gone again since
        for uuid in departures & self._guests.keys():
            await self._forget(uuid)
        for uuid, domain in arrivals:
            is_known = uuid in self._guests and not self._tasks[uuid].done()
            if not is_known or not self._guests[uuid].is_life(domain.ID()):
                await self._meet(uuid, domain)
            self._domains[uuid] = domain

    async def _list_all(self) -> None:
        """Lists all domains, in a thread and by a connection of its own: it may wait as long as an operator's hook takes."""
        while True:
            before = dict(self._guests)
            try:
                found = await self._lister.call(self._active, LIST_DEADLINE_S)
            except (HypervisorError, libvirt.libvirtError) as error:  # nobody can say who is there: all stay
                log.debug("domains cannot be listed", extra={"libvirt": self._uri, "trouble": str(error)})
            else:
                # It may be as old as the wait was long: a domain that was started anew meanwhile is not the one that is missing.
                self._departures |= {uuid for uuid in before.keys() - found if self._guests.get(uuid) is before[uuid]}
                self._listed |= found - self._guests.keys()
                self._look_now.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LIST_S):
                    await self._list_now.wait()
            self._list_now.clear()

    def _active(self) -> set[str]:
        """In the list's thread: their UUIDs."""
        if self._listing is None:
            self._listing = libvirt.open(self._uri)
        try:
            return {one.UUIDString() for one in self._listing.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)}
        except libvirt.libvirtError:
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        """In the list's thread."""
        if self._listing is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._listing.close()
        self._listing = None

    async def _meet(self, uuid: str, domain: Any) -> None:
        if uuid in self._guests:
            await self._forget(uuid)
        guest = LibvirtGuest(self._uri, domain, self._root, self._news.set, self._beats, listens=self._listens)
        self._guests[uuid], self._domains[uuid] = guest, domain
        self._tasks[uuid] = tended(f"guest {guest.name}", guest.run, is_endless=False)
        self._news.set()

    async def _forget(self, uuid: str) -> None:
        guest, task = self._guests.pop(uuid), self._tasks.pop(uuid)
        self._domains.pop(uuid, None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        log.info("guest gone", extra={"guest": guest.name})
        self._news.set()
