"""One domain: what libvirt says of it, and what is asked of it. Its calls have a thread and a connection of their own: while
one call waits for a QEMU that hangs, libvirt 9.0 hands out replies to others on the same connection up to a second late.

What is measured how:

- all domains at once each second: `virConnectGetAllDomainStats`, which leaves out what hangs (adapter.py);
- one that is watched closely: `virDomainMemoryStats`, whose `actual` is fresh where the bulk's `balloon.current` lags by up
  to a second. Setting the statistics period to 0 and back to 1 has QEMU ask the driver at once;
- what it costs the host: /proc of its process (process.py).

libvirt counts memory in KiB.
"""

import asyncio
import contextlib
import logging
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import libvirt

from ballonet.hypervisors.contract import GuestGoneError, HypervisorError, NoAnswerError, RefusedError
from ballonet.hypervisors.libvirt import settings
from ballonet.hypervisors.libvirt.worker import Worker
from ballonet.hypervisors.local import agent
from ballonet.hypervisors.local.agent import AgentChannel
from ballonet.hypervisors.local.alone import is_booting, why_alone
from ballonet.hypervisors.local.guest import LocalGuest
from ballonet.hypervisors.local.process import Occupied, Process, find_qemu
from ballonet.hypervisors.tended import tended
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Guest, GuestStats, Mechanism, Voice
from ballonet.model.terms import UNSAID

log = logging.getLogger(__name__)

DEADLINE_S: Final = 1.0
ANSWER_S: Final = 0.15
"""How long a guest is given to answer a request for statistics before they are read."""
FACTS_EVERY_S: Final = 2.0
SILENT_S: Final = 3.0
"""After so long without a word it is left alone."""
PINNING: Final = {"pci", "mdev", "hostdev"}
"""Of devices passed through: those by VFIO, for which all of a guest's memory is pinned."""
PINS: Final = (
    ("vhost-vdpa", "devices/interface[@type='vdpa']"),
    ("vhost-vdpa", "devices/disk[@type='vhostvdpa']"),
    ("confidential", "launchSecurity"),
)
"""What else pins it, and where a domain's XML says so (formatdomain.html)."""
VIRTIO_MEM: Final = (
    "it has virtio-mem, of which libvirt counts now one part and now another; leave it alone, or take that device away"
)
KIB: Final = 1024
SIZES: Final = {
    "total_bytes": "available",
    "free_bytes": "unused",
    "available_bytes": "usable",
    "cache_bytes": "disk_caches",
    "swap_in_bytes": "swap_in",
    "swap_out_bytes": "swap_out",
}
"""Ours, and libvirt's name for it (virDomainMemoryStatTags), in KiB."""
_GONE: Final = {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID}
STATES: Final = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "blocked",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutting down",
    libvirt.VIR_DOMAIN_SHUTOFF: "shut off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}
"""In virsh's words, but for one."""
MIGRATING: Final = {libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN}
UNDER_WAY: Final = {libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED}
JOB: Final = "libvirt does something with it that takes its time (a snapshot, a dump, a save); it is moved again after that"
_SILENT: Final = {libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_SYSTEM_ERROR}


class LibvirtGuest(LocalGuest):
    """One active domain."""

    def __init__(self, uri: str, domain: Any, root: Path, news: Callable[[], None], *, listens: bool) -> None:
        """Args:
        uri: of the libvirt that it is a domain of.
        domain: a `libvirt.virDomain` of any connection.
        root: where /proc is found.
        news: to be called when the loop should not wait.
        listens: whether to hear an agent in the guest, where there is a channel for one.
        """
        super().__init__(domain.name(), news)
        self.uuid: str = domain.UUIDString()
        self.terms = UNSAID
        self._tags: tuple[str, ...] = ()
        self.wrong_settings = ""
        """What of them cannot be read; empty = nothing."""
        self._words = ""
        """Of its metadata, that were read last."""
        self._uri = uri
        self._connection: Any = None
        self._domain: Any = None
        """Both used in the worker's thread only."""
        self._root = root
        self._listens = listens
        self._worker = Worker(self.name)
        self._version = ""
        self._reports_free_pages: bool | None = None
        self._ceiling_bytes = 0
        self._keep_bytes: int | None = None
        self._heard_at = time.monotonic()
        self._domain_id: int = domain.ID()
        self._has_balloon = self._is_moving = False
        self._pins: frozenset[str] = frozenset()
        self._unknown_memory = self._job = ""
        self._facts_at = 0.0
        self._run_state = "running"
        self._leave_alone = "libvirt has not told yet what it is made of, and what is set of it; wait, or see `virsh domstats`"

    # What others ask

    def reading(self) -> Guest | None:
        """What is known now; None until libvirt has described it."""
        if not self._ceiling_bytes:
            return None
        now = time.monotonic()
        silent_s = now - self._heard_at
        alone = self._leave_alone
        if silent_s > SILENT_S:
            trouble = self._trouble or "no reason given"
            what = f"libvirt has said nothing of it for {silent_s:.0f} s ({trouble})"
            alone = f"{what}; see `virsh domstats`, systemctl status libvirtd"
        stats, stats_age_s, voice = self._heard(now)
        occupied = self._process.occupied(self._ceiling_bytes) if self._process else Occupied(None)
        return Guest(
            name=self.name,
            ceiling_bytes=self._ceiling_bytes,
            mechanisms=(Mechanism.BALLOON,) if self._has_balloon else (),
            keep_bytes=self._keep_bytes,
            keep_age_s=silent_s,
            resident_bytes=occupied.resident_bytes,
            swapped_bytes=occupied.swapped_bytes,
            huge_bytes=occupied.huge_bytes,
            stats=stats,
            stats_age_s=stats_age_s,
            voice=voice,
            ready_share=self._ready_share,
            can_balloon=not alone,
            is_migrating=self._is_moving,
            is_starting=self._is_starting,
            silence=self._silence,
            leave_alone=alone,
            tags=self._tags,
            uuid=self.uuid,
            hypervisor=self._version,
            reports_free_pages=self._reports_free_pages,
        )

    async def set_keep(self, keep_bytes: int, deadline_s: float) -> None:
        """As the contract says."""
        if not 0 < keep_bytes <= self._ceiling_bytes:
            raise RefusedError(f"{self.name}: {keep_bytes} bytes is not within 1 and its ceiling of {self._ceiling_bytes}")
        kib, live = max(1, keep_bytes // KIB), libvirt.VIR_DOMAIN_AFFECT_LIVE
        await self._call(lambda: self._domain.setMemoryFlags(kib, live), deadline_s)
        self._look_now.set()

    async def _call(self, work: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
        """One call of libvirt's. Raises HypervisorError."""
        try:
            return await self._worker.call(lambda: self._connected(work), deadline_s)
        except libvirt.libvirtError as error:
            code, text = error.get_error_code(), f"{self.name}: {error}"
            if code in _GONE:
                raise GuestGoneError(text) from error
            raise (NoAnswerError if code in _SILENT else RefusedError)(text) from error

    def _connected(self, work: Callable[[], Any]) -> Any:
        """In the worker's thread: over the connection of its own, opened anew when it broke."""
        if self._connection is None:
            self._connection = libvirt.open(self._uri)
            self._domain = self._connection.lookupByUUIDString(self.uuid)
            self._version = _version(self._connection.getType(), self._connection.getVersion())
        try:
            return work()
        except libvirt.libvirtError:
            if not self._connection.isAlive():
                self._connection = None
            raise

    def _hang_up(self) -> None:
        """In the worker's thread."""
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()

    # What is heard of it

    def take_bulk(self, record: Mapping[str, Any]) -> None:
        """Its part of all domains' statistics."""
        self._run_state = STATES.get(record.get("state.state"), "in an unknown state")
        if "balloon.maximum" in record:
            self._ceiling_bytes = record["balloon.maximum"] * KIB
        if self._look.every_s >= 1.0 and "balloon.current" in record:
            balloon = {name.removeprefix("balloon.").replace("-", "_"): value for name, value in record.items()}
            self._take(balloon, balloon["current"], time.monotonic())
        elif "balloon.current" not in record:
            self._trouble = "its QEMU does not answer libvirt"

    def _take(self, found: Mapping[str, int], keep_kib: int, asked_at: float) -> None:
        now = time.monotonic()
        self._heard_at, self._keep_bytes, self._trouble = now, min(keep_kib * KIB, self._ceiling_bytes), ""
        updated = found.get("last_update", 0)
        if updated <= 0:
            return
        sizes = {ours: found[theirs] * KIB for ours, theirs in SIZES.items() if theirs in found}
        stats = GuestStats(**sizes, major_faults=found.get("major_fault"))
        has_come_up = self._has_come_up(updated, asked_at)
        if self._note(stats, updated, asked_at) or has_come_up:
            self._facts_at = 0.0  # there is a driver after all
            self._look_now.set()
        if self._is_urgent():
            self._news()

    def has_changed(self) -> None:
        """An event says that something of it did."""
        self._facts_at = 0.0
        self._look_now.set()

    def begin_anew(self) -> None:
        """An event says that it reboots."""
        self._begin_anew()

    def is_life(self, domain_id: int) -> bool:
        """Whether a domain with this number is this very run of it: the number is another after each start."""
        return domain_id in {self._domain_id, -1}

    # Its own life

    async def run(self) -> None:
        """Looks at it until cancelled."""
        tasks: list[asyncio.Task[None]] = []
        try:
            while True:
                try:
                    await self._look_once()
                except GuestGoneError as error:  # whether it is, events and the list of domains say: then this task is ended
                    self._leave_alone = self._leave_alone or "libvirt says that it is not running"
                    self._facts_at = 0.0
                    self._tell(str(error))
                except HypervisorError as error:
                    self._tell(str(error))
                except Exception:  # whatever libvirt says of one guest, the others are looked after
                    log.exception("guest failed", extra={"guest": self.name})
                if self._agent is not None and not tasks:
                    tasks.append(tended(f"agent of {self.name}", self._agent.run))
                await self._rest()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._worker.close(last=self._hang_up)

    async def _look_once(self) -> None:
        if time.monotonic() - self._facts_at > FACTS_EVERY_S:
            await self._check()
        if self._look.every_s >= 1.0 or not self._has_balloon or self._is_moving or self._job:
            return  # the bulk does
        asked_at = time.monotonic()
        if self._heard(asked_at)[2] in {Voice.BALLOON, Voice.NONE}:
            await self._call(self._ask_at_once)
            await asyncio.sleep(min(ANSWER_S, self._look.every_s / 3))
        found = await self._call(lambda: self._domain.memoryStats())  # noqa: PLW0108 the domain of that moment
        self._take(found, found.get("actual", 0), asked_at)

    def _ask_at_once(self) -> None:
        for period_s in (0, 1):
            self._domain.setMemoryStatsPeriod(period_s, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    async def _check(self) -> None:
        """What rarely changes: its devices, its settings, whether it moves to another host (R13)."""
        self._facts_at, had_balloon = time.monotonic(), self._has_balloon
        described, words, job = await self._call(self._facts)
        self._describe(ET.fromstring(described))  # noqa: S314 libvirt's own
        self._take_settings(words)
        if self._has_balloon and not had_balloon:
            self.has_changed()  # known now to have one: its statistics begin
        self._is_moving, self._job = job in MIGRATING, JOB if job and job not in MIGRATING else ""
        await self._find_process()
        facts = self._process.facts() if self._process else None
        has_driver = self._updated is not None or bool(self._silence)
        self._is_starting = self._reset_at is not None or (self._has_balloon and is_booting(has_driver=has_driver, facts=facts))
        self._leave_alone = self._job or why_alone(
            has_balloon=self._has_balloon,
            has_driver=has_driver,
            is_moving=self._is_moving,
            run_state=self._run_state,
            ceiling_bytes=self._ceiling_bytes,
            facts=facts,
            pins=self._pins,
            is_resetting=self._reset_at is not None,
            unknown_memory=self._unknown_memory,
            is_new=self._is_new,
        )

    async def _find_process(self) -> None:
        """Its process; one that died was that of an earlier life."""
        if self._process is not None and self._process.has_died:
            self._process = None
        if self._process is None:
            try:
                pid = await asyncio.to_thread(find_qemu, self.uuid, self._root)
            except OSError as error:
                self._tell(f"its process cannot be looked for: {error}")
                return
            self._process = Process(pid, self._root) if pid is not None else None

    def _facts(self) -> tuple[str, str, int]:
        """In the worker's thread."""
        domain, live = self._domain, libvirt.VIR_DOMAIN_AFFECT_LIVE
        # First: while a domain migrates, whatever changes it waits for the end of that.
        job = _job(domain)
        if self._has_balloon and not job:
            domain.setMemoryStatsPeriod(1, live)
        try:
            words = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, settings.NAMESPACE, live)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                raise
            words = ""
        return domain.XMLDesc(), words, job

    def _describe(self, xml: ET.Element) -> None:
        devices = xml.find("devices")
        if devices is None:
            return
        balloon = devices.find("memballoon")
        self._has_balloon = balloon is not None and balloon.get("model") != "none"
        self._reports_free_pages = balloon.get("freePageReporting") == "on" if balloon is not None else None
        self._unknown_memory = VIRTIO_MEM if devices.find("memory[@model='virtio-mem']") is not None else ""
        passed = [*devices.iterfind("hostdev"), *devices.iterfind("interface[@type='hostdev']")]
        # A USB device goes through QEMU, which pins nothing for it.
        pins = {"vfio"} if any(device.get("type") in PINNING for device in passed) else set()
        self._pins = frozenset(pins | {pin for pin, path in PINS if xml.find(path) is not None})
        self._ceiling_bytes = self._ceiling_bytes or int(xml.findtext("memory", "0")) * KIB
        path = next(
            (
                source.get("path", "")
                for channel in devices.iterfind("channel[@type='unix']")
                if (target := channel.find("target")) is not None and target.get("name") == agent.PORT
                if (source := channel.find("source")) is not None
            ),
            "",
        )
        if path and self._listens and self._agent is None:
            self._agent = AgentChannel(path, self.name, self._on_message)

    def _take_settings(self, words: str) -> None:
        if words == self._words:
            return
        self._words = words
        self.wrong_settings = ""
        try:
            said = settings.read(words, self.name) if words else settings.DomainSettings()
            self.terms, self._tags = settings.kept(said), tuple(sorted(set(said.tags.split())))
        except SettingsError as error:  # the last good ones stay
            self.wrong_settings = str(error)
            self._tell(str(error))


def _job(domain: Any) -> int:
    """What libvirt does with a domain that takes its time; 0 = nothing. One of which it does not say what is one all the same."""
    if domain.jobInfo()[0] not in UNDER_WAY:
        return 0
    return int(domain.jobStats().get("operation", 0)) or libvirt.VIR_DOMAIN_JOB_OPERATION_UNKNOWN or -1


def _version(kind: str, number: int) -> str:
    """`QEMU 7.2.22`, from libvirt's one number (virConnectGetVersion)."""
    return f"{kind} {number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
