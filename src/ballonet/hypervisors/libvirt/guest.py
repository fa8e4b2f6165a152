"""One domain: what libvirt says of it, and what is asked of it. Its calls have a thread and a connection of their own: while
one call waits for a QEMU that hangs, libvirt 9.0 hands out replies to others on the same connection up to a second late.

What is measured how:

- all domains at once each second: `virConnectGetAllDomainStats`, which leaves out what hangs (adapter.py);
- one that is watched closely: `virDomainMemoryStats`, whose `actual` is fresh where the bulk's `balloon.current` lags by up
  to a second. Setting the statistics period to 0 and back to 1 has QEMU ask the driver at once;
- what it costs the host: /proc of its process (`local/process.py`).

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
from msgspec.structs import replace

from ballonet.hypervisors.contract import GuestGoneError, HypervisorError, NoAnswerError, RefusedError
from ballonet.hypervisors.libvirt import settings
from ballonet.hypervisors.libvirt.worker import Worker
from ballonet.hypervisors.local import agent
from ballonet.hypervisors.local.agent import AgentChannel
from ballonet.hypervisors.local.beats import ANSWER_S, Beats
from ballonet.hypervisors.local.guest import DEADLINE_S, REST_S, Disk, LocalGuest, Made, Running
from ballonet.hypervisors.local.process import Process, find_qemu
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import GuestStats, Mechanism, Voice
from ballonet.model.terms import UNSAID
from ballonet.model.units import KIB

log = logging.getLogger(__name__)

FACTS_EVERY_S: Final = 2.0
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
SIZES: Final = {
    "total_bytes": "available",
    "free_bytes": "unused",
    "available_bytes": "usable",
    "cache_bytes": "disk_caches",
    "swap_in_bytes": "swap_in",
    "swap_out_bytes": "swap_out",
}
"""Ours, and libvirt's name for it (virDomainMemoryStatTags), in KiB."""
DISK_COUNTS: Final = ("rd_operations", "rd_bytes", "rd_total_times")
"""Of virDomainBlockStatsFlags: reads, bytes, nanoseconds."""
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

    def __init__(
        self, uri: str, domain: Any, root: Path, news: Callable[[], None], beats: Beats | None = None, *, listens: bool
    ) -> None:
        """Args:
        uri: of the libvirt that it is a domain of.
        domain: a `libvirt.virDomain` of any connection.
        root: where /proc is found.
        news: to be called when the loop should not wait.
        beats: of its adapter.
        listens: whether to hear an agent in the guest, where there is a channel for one.
        """
        super().__init__(domain.name(), news, beats)
        self.uuid = domain.UUIDString()
        self.terms = UNSAID
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
        self._domain_id: int = domain.ID()
        self._run_state = "running"
        self._voices: list[asyncio.Task[None]] = []
        self._leave_alone = "libvirt has not told yet what it is made of, and what is set of it; wait, or see `virsh domstats`"

    def _silent(self, silent_s: float) -> str:
        what = f"libvirt has said nothing of it for {silent_s:.0f} s ({self._trouble or 'no reason given'})"
        return f"{what}; see `virsh domstats`, systemctl status libvirtd"

    async def _move(self, keep_bytes: int, deadline_s: float) -> None:
        kib, live = max(1, keep_bytes // KIB), libvirt.VIR_DOMAIN_AFFECT_LIVE
        await self._call(lambda: self._domain.setMemoryFlags(kib, live), deadline_s)

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
            connection = libvirt.open(self._uri)
            try:
                domain = connection.lookupByUUIDString(self.uuid)
                self.version = _version(connection.getType(), connection.getVersion())
            except libvirt.libvirtError:
                connection.close()
                raise
            self._connection, self._domain = connection, domain  # both, or neither
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

    def take_bulk(self, record: Mapping[str, Any], asked_at: float) -> None:
        """Its part of all domains' statistics, which were asked for at `asked_at`: they may have waited for one that is slow."""
        if self._reset_at is not None and asked_at < self._reset_at:
            return
        self._run_state = STATES.get(record.get("state.state"), "in an unknown state")
        if "balloon.maximum" in record:
            self._made = replace(self._made, ceiling_bytes=record["balloon.maximum"] * KIB)
        if "balloon.current" not in record:
            self._trouble = "its QEMU does not answer libvirt"
        elif not self._is_looked_at:
            balloon = {name.removeprefix("balloon.").replace("-", "_"): value for name, value in record.items()}
            self._hear(balloon, balloon["current"], asked_at)

    def _hear(self, found: Mapping[str, int], keep_kib: int, asked_at: float) -> None:
        self._answered_at, self._trouble = max(self._answered_at, asked_at), ""
        self._keep_bytes = min(keep_kib * KIB, self._made.ceiling_bytes)
        sizes = {ours: found[theirs] * KIB for ours, theirs in SIZES.items() if theirs in found}
        self._take(GuestStats(**sizes, major_faults=found.get("major_fault")), found.get("last_update", 0), asked_at)

    def has_changed(self) -> None:
        """An event says that something of it did."""
        self._facts_at = 0.0
        self._wake.set()
        self._beats.soon(self)

    def begin_anew(self) -> None:
        """An event says that it reboots."""
        self._begin_anew()

    def is_life(self, domain_id: int) -> bool:
        """Whether a domain with this number is this very run of it: the number is another after each start."""
        return domain_id in {self._domain_id, -1}

    # Its own life

    async def run(self) -> None:
        """As any; its thread ends with it."""
        try:
            await super().run()
        finally:
            self._worker.close(last=self._hang_up)

    async def _live(self) -> None:
        self._watch_from_now()
        try:
            while True:
                began_at = time.monotonic()
                try:
                    await self._check()
                except GuestGoneError as error:  # whether it is, events and the list of domains say: then this task is ended
                    self._leave_alone = self._leave_alone or "libvirt says that it is not running"
                    self._facts_at = 0.0
                    self._tell(str(error))
                except HypervisorError as error:
                    self._tell(str(error))
                self._voices = self._voices or self._begin_voices((self._agent,))
                await self._until(max(self._facts_at + FACTS_EVERY_S, began_at + REST_S))
        finally:
            voices, self._voices = self._voices, []
            await self._end(voices)

    def read(self) -> None:
        """As the beats say."""
        if self._is_looked_at:
            self._begin_look()

    @property
    def _is_looked_at(self) -> bool:
        """Whether it is asked by itself; else all domains' statistics do, also for one that migrates or has no balloon."""
        return self._is_close() and self._made.has_balloon and not self._running.is_migrating and not self._running.job

    async def _look_once(self) -> None:
        asked_at = time.monotonic()
        if self._voice in {Voice.BALLOON, Voice.NONE}:
            await self._call(self._ask_at_once)
            await asyncio.sleep(min(ANSWER_S, self._pace_s / 3))
        found = await self._call(lambda: self._domain.memoryStats())  # noqa: PLW0108 the domain of that moment
        self._hear(found, found.get("actual", 0), asked_at)

    def _ask_at_once(self) -> None:
        for period_s in (0, 1):
            self._domain.setMemoryStatsPeriod(period_s, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    async def _check(self) -> None:
        """What rarely changes: its devices, its settings, whether it moves to another host (R13)."""
        self._facts_at, had_balloon = time.monotonic(), self._made.has_balloon
        described, words, job = await self._call(self._facts)
        self._describe(ET.fromstring(described))  # noqa: S314 libvirt's own
        self._take_settings(words)
        await self._read_disk()
        if self._made.has_balloon and not had_balloon:
            self.has_changed()  # known now to have one: its statistics begin
        is_moving = job in MIGRATING
        self._running = Running(state=self._run_state, is_migrating=is_moving, job=JOB if job and not is_moving else "")
        await self._find_process()
        self._judge()

    async def _read_disk(self) -> None:
        """All of its disks together, where it is due; one that has none is ballooned all the same."""
        asked_at = time.monotonic()
        if not self._made.has_balloon or not self._is_disk_due(asked_at):
            return
        try:
            found = await self._call(self._disks)
        except RefusedError:
            return
        if found and DISK_COUNTS[0] in found:  # one without disks reads from elsewhere, and nobody counts that
            self._take_disk(Disk(*(max(0, found.get(name, 0)) for name in DISK_COUNTS)), asked_at)

    def _disks(self) -> dict[str, int] | None:
        """In the worker's thread: all disks at once, by the name of none; None where the binding does not know how."""
        ask = getattr(self._domain, "blockStatsFlags", None)
        return ask("", 0) if ask else None

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
        if self._made.has_balloon and not job:
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
        has_balloon = balloon is not None and balloon.get("model") != "none"
        passed = [*devices.iterfind("hostdev"), *devices.iterfind("interface[@type='hostdev']")]
        # A USB device goes through QEMU, which pins nothing for it.
        pins = {"vfio"} if any(device.get("type") in PINNING for device in passed) else set()
        self._made = Made(
            ceiling_bytes=self._made.ceiling_bytes or int(xml.findtext("memory", "0")) * KIB,
            mechanisms=(Mechanism.BALLOON,) if has_balloon else (),
            pins=frozenset(pins | {pin for pin, path in PINS if xml.find(path) is not None}),
            unknown_memory=VIRTIO_MEM if devices.find("memory[@model='virtio-mem']") is not None else "",
            reports_free_pages=balloon.get("freePageReporting") == "on" if balloon is not None else None,
        )
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
        self.wrong_settings = ""
        try:
            said = settings.read(words, self.name) if words else settings.DomainSettings()
            self.terms, self.tags = settings.kept(said), tuple(sorted(set(said.tags.split())))
        except SettingsError as error:  # the last good ones stay
            self.wrong_settings = str(error)
            self._tell(str(error))
        self._words = words


def _job(domain: Any) -> int:
    """What libvirt does with a domain that takes its time; 0 = nothing. One of which it does not say what is one all the same."""
    if domain.jobInfo()[0] not in UNDER_WAY:
        return 0
    return int(domain.jobStats().get("operation", 0)) or libvirt.VIR_DOMAIN_JOB_OPERATION_UNKNOWN or -1


def _version(kind: str, number: int) -> str:
    """`QEMU 7.2.22`, from libvirt's one number (virConnectGetVersion)."""
    return f"{kind} {number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
