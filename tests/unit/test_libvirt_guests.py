"""What a libvirt of today may answer, by a scripted one: a real one cannot be made to answer so on purpose."""

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

libvirt = pytest.importorskip("libvirt")

from ballonet.hypervisors.libvirt import adapter, events  # noqa: E402 only where libvirt is
from ballonet.hypervisors.libvirt.adapter import LibvirtHypervisor  # noqa: E402
from ballonet.hypervisors.local.guest import OLD_ANSWER_S  # noqa: E402
from ballonet.model.plan import Look  # noqa: E402
from ballonet.model.units import GIB, KIB  # noqa: E402
from daemons import holds_soon  # noqa: E402

SIZE_KIB = 8 * GIB // KIB


def failure(code: int) -> Exception:
    error = libvirt.libvirtError("scripted")
    error.err = (code, 10, "scripted", 2, None, None, None, 0, 0)
    return error  # type: ignore[no-any-return]


class Domain:
    def __init__(self, world: "World", name: str, number: int) -> None:
        self._world, self._name, self._number = world, name, number

    def name(self) -> str:
        return self._name

    def UUIDString(self) -> str:  # noqa: N802 as libvirt has it
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self._name))

    def ID(self) -> int:  # noqa: N802
        return self._number

    def XMLDesc(self) -> str:  # noqa: N802
        if self._world.refusals:
            self._world.refusals -= 1
            raise failure(libvirt.VIR_ERR_OPERATION_INVALID)
        self._world.asked += 1
        return f"<domain><memory>{SIZE_KIB}</memory><devices><memballoon model='virtio'/></devices></domain>"

    def setMemoryFlags(self, _kib: int, _flags: int) -> int:  # noqa: N802
        return 0

    def setMemoryStatsPeriod(self, _period: int, _flags: int) -> int:  # noqa: N802
        return 0

    def jobInfo(self) -> list[int]:  # noqa: N802
        return [libvirt.VIR_DOMAIN_JOB_UNBOUNDED if self._world.is_migrating else libvirt.VIR_DOMAIN_JOB_NONE]

    def jobStats(self) -> dict[str, int]:  # noqa: N802
        return {"operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT}

    def metadata(self, *_words: Any) -> str:
        raise failure(libvirt.VIR_ERR_NO_DOMAIN_METADATA)


class World:
    """Its domains, and how it answers."""

    def __init__(self) -> None:
        self.domains: dict[str, Domain] = {}
        self.refusals = self.asked = 0
        self.list_takes_s = 0.0
        self.is_listing = self.is_migrating = False
        self.hears: dict[int, Any] = {}

    def start(self, name: str) -> None:
        self.domains[name] = domain = Domain(self, name, len(self.domains) + 1)
        if hear := self.hears.get(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE):
            hear(None, domain, libvirt.VIR_DOMAIN_EVENT_STARTED, 0, None)

    # As a connection

    def setKeepAlive(self, *_words: int) -> None:  # noqa: N802
        pass

    def isAlive(self) -> bool:  # noqa: N802
        return True

    def close(self) -> None:
        pass

    def getType(self) -> str:  # noqa: N802
        return "QEMU"

    def getVersion(self) -> int:  # noqa: N802
        return 7002000

    def domainEventRegisterAny(self, _domain: Any, event: int, hear: Any, _more: Any) -> None:  # noqa: N802
        self.hears[event] = hear

    def lookupByUUIDString(self, wanted: str) -> Domain:  # noqa: N802
        for domain in self.domains.values():
            if domain.UUIDString() == wanted:
                return domain
        raise failure(libvirt.VIR_ERR_NO_DOMAIN)

    def domainListGetStats(self, domains: list[Domain], _stats: int, _flags: int) -> list[tuple[Domain, dict[str, int]]]:  # noqa: N802
        sizes = dict.fromkeys(("maximum", "current", "available", "usable", "unused"), SIZE_KIB)
        record = {"state.state": libvirt.VIR_DOMAIN_RUNNING, "balloon.last-update": int(time.time())}
        return [(one, record | {f"balloon.{name}": size for name, size in sizes.items()}) for one in domains]

    def listAllDomains(self, _flags: int) -> list[Domain]:  # noqa: N802
        found = list(self.domains.values())  # it looks first, and waits for each domain's lock then
        self.is_listing = True
        time.sleep(self.list_takes_s)
        self.is_listing = False
        return found


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(libvirt, "open", lambda _uri: world)
    monkeypatch.setattr(events, "start", lambda: None)
    monkeypatch.setattr(adapter, "LIST_S", 0.5)
    return world


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[LibvirtHypervisor]:
    hypervisor = LibvirtHypervisor("test", folder, listens=False)
    await hypervisor.open()
    try:
        yield hypervisor
    finally:
        await hypervisor.close()


async def test_one_call_that_is_not_valid_now_ends_no_guest(world: World, tmp_path: Path) -> None:
    """OPERATION_INVALID is said of a domain that is not running, or by one that cannot do a thing just now: it is asked again."""
    world.start("web")
    async with opened(tmp_path) as hypervisor:
        await holds_soon(lambda: bool(hypervisor.guests()) and hypervisor.guests()[0].can_balloon)
        world.refusals = 3
        hypervisor._guests[world.domains["web"].UUIDString()].has_changed()
        await holds_soon(lambda: not world.refusals)
        asked = world.asked
        await holds_soon(lambda: world.asked > asked and hypervisor.guests()[0].can_balloon)


async def test_a_list_that_waited_sends_no_newcomer_away(world: World, tmp_path: Path) -> None:
    """A list of domains may wait for somebody's hook; who came meanwhile is not in it."""
    world.start("web")
    async with opened(tmp_path) as hypervisor:
        await holds_soon(lambda: len(hypervisor.guests()) == 1)
        world.list_takes_s = 2.0
        await holds_soon(lambda: world.is_listing)
        world.start("db")
        await holds_soon(lambda: len(hypervisor.guests()) == 2)
        while world.is_listing:
            assert len(hypervisor.guests()) == 2
            await asyncio.sleep(0.02)
        for _ in range(30):
            assert len(hypervisor.guests()) == 2
            await asyncio.sleep(0.02)


async def test_one_that_is_not_asked_by_itself_is_heard_with_all_others(world: World, tmp_path: Path) -> None:
    """One that migrates is watched closely and not asked: it is not called silent for that."""
    world.start("a")
    hypervisor = LibvirtHypervisor("scripted:///", tmp_path)
    await hypervisor.open()
    try:
        await holds_soon(lambda: bool(hypervisor.guests()))
        world.is_migrating = True
        await holds_soon(lambda: hypervisor.guests()[0].is_migrating)
        hypervisor.watch("a", Look(0.15, 0))
        next(iter(hypervisor._guests.values()))._answered_at -= 60.0
        await holds_soon(lambda: hypervisor.guests()[0].keep_age_s < 3)
    finally:
        await hypervisor.close()


async def test_one_lookup_that_fails_is_done_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a guest's own connection: without its domain it would be good for nothing, for ever."""
    fails, whole = [1], world.lookupByUUIDString

    def lookup(wanted: str) -> Domain:
        if threading.current_thread().name == "ballonet web" and fails:
            fails.pop()
            raise failure(libvirt.VIR_ERR_RPC)
        return whole(wanted)

    monkeypatch.setattr(world, "lookupByUUIDString", lookup)
    world.start("web")
    async with opened(tmp_path) as hypervisor:
        await holds_soon(lambda: bool(hypervisor.guests()) and hypervisor.guests()[0].can_balloon)
        assert not fails


async def test_statistics_are_as_old_as_the_question(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One QEMU that is slow keeps all waiting; what was gathered before a reset is not young when it comes, and ends none."""
    whole, go, waiting = world.domainListGetStats, threading.Event(), threading.Event()
    go.set()

    def stats(domains: list[Domain], kinds: int, flags: int) -> Any:
        found = whole(domains, kinds, flags)
        if not go.is_set():
            waiting.set()
            go.wait(60)
        return found

    monkeypatch.setattr(world, "domainListGetStats", stats)
    world.start("web")
    async with opened(tmp_path) as hypervisor:
        await holds_soon(lambda: bool(hypervisor.guests()) and hypervisor.guests()[0].can_balloon)
        (guest,) = hypervisor._guests.values()
        take, came = guest.take_bulk, list[tuple[bool, float]]()

        def taken(*words: Any) -> None:
            take(*words)
            came.append((guest._reset_at is not None, hypervisor.guests()[0].keep_age_s))

        go.clear()
        await holds_soon(waiting.is_set)
        monkeypatch.setattr(guest, "take_bulk", taken)
        guest.begin_anew()
        await asyncio.sleep(OLD_ANSWER_S + 0.3)
        go.set()
        await holds_soon(lambda: bool(came))
        is_resetting, age_s = came[0]
        assert is_resetting
        assert age_s > OLD_ANSWER_S
        await holds_soon(lambda: guest._reset_at is None)


async def test_a_domain_that_was_started_anew_is_not_the_one_that_a_list_misses(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list was made while it was down, and comes when it is up again."""
    is_slow, listing, made = (threading.Event() for _ in range(3))
    make, give = threading.Event(), threading.Event()

    def slowly(_flags: int) -> list[Domain]:
        if not is_slow.is_set():
            return list(world.domains.values())
        listing.set()
        make.wait(60)
        found = list(world.domains.values())
        made.set()
        give.wait(60)
        return found

    monkeypatch.setattr(world, "listAllDomains", slowly)
    world.start("web")
    world.start("db")
    async with opened(tmp_path) as hypervisor:
        await holds_soon(lambda: len(hypervisor.guests()) == 2)
        is_slow.set()
        await holds_soon(listing.is_set)
        hear, web = world.hears[libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE], world.domains.pop("web")
        hear(None, web, libvirt.VIR_DOMAIN_EVENT_STOPPED, 0, None)
        make.set()
        await holds_soon(made.is_set)
        world.domains["web"] = anew = Domain(world, "web", 9)
        hear(None, anew, libvirt.VIR_DOMAIN_EVENT_STARTED, 0, None)
        await holds_soon(lambda: bool((one := hypervisor._guests.get(anew.UUIDString())) and one.is_life(9)))
        is_slow.clear()
        give.set()
        for _ in range(40):
            assert len(hypervisor._guests) == 2
            await asyncio.sleep(0.02)


async def test_what_its_disks_read_is_known(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together; one without disks, or of a binding that does not know how to ask, is ballooned all the same."""
    world.start("web")
    async with opened(tmp_path) as hypervisor:
        await holds_soon(lambda: bool(hypervisor.guests()) and hypervisor.guests()[0].can_balloon)
        assert hypervisor.guests()[0].disk_reads is None
        counts = {"rd_operations": 7, "rd_bytes": 7 * 4096, "rd_total_times": 70, "wr_operations": 3, "errs": -1}
        monkeypatch.setattr(Domain, "blockStatsFlags", lambda _domain, _path, _flags: counts, raising=False)
        hypervisor._guests[world.domains["web"].UUIDString()]._disk_asked_at = 0.0
        await holds_soon(lambda: hypervisor.guests()[0].disk_reads == 7)
        found = hypervisor.guests()[0]
        assert (found.disk_read_bytes, found.disk_read_ns) == (7 * 4096, 70)

        refused: list[object] = []

        def refuses(*_words: Any) -> None:
            refused.append(None)
            raise failure(libvirt.VIR_ERR_INTERNAL_ERROR)

        monkeypatch.setattr(Domain, "blockStatsFlags", refuses)
        hypervisor._guests[world.domains["web"].UUIDString()]._disk_asked_at = 0.0
        looks = world.asked
        await holds_soon(lambda: bool(refused) and world.asked > looks + 1)  # and it is looked at again after that
        assert hypervisor.guests()[0].can_balloon
