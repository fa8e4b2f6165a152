"""The libvirt adapter against a real libvirtd and real guests."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

libvirt = pytest.importorskip("libvirt", reason="no libvirt-python; as root: tools/setup libvirt")

from ballonet.hypervisors.contract import GuestGoneError
from ballonet.hypervisors.libvirt import events
from ballonet.hypervisors.libvirt.adapter import LibvirtHypervisor
from ballonet.hypervisors.libvirt.guest import LibvirtGuest
from ballonet.hypervisors.libvirt.settings import NAMESPACE
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest, Mode, Voice
from ballonet.model.terms import Terms
from ballonet.model.units import GIB, MIB
from ballonet.testing import check_hypervisor
from libvirtd import DOMAIN, Guests, Libvirtd


@contextlib.asynccontextmanager
async def watched(guests: Guests) -> AsyncIterator[LibvirtHypervisor]:
    hypervisor = LibvirtHypervisor(guests.daemon.uri)
    await hypervisor.open()
    try:
        yield hypervisor
    finally:
        await hypervisor.close()


async def until(holds: Callable[[], object], deadline_s: float = 60.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not holds():
            await asyncio.sleep(0.05)


def only(hypervisor: LibvirtHypervisor) -> Guest:
    (guest,) = hypervisor.guests()
    return guest


async def test_a_domain_keeps_the_contract(guests: Guests) -> None:
    """The same suite as for plain QEMU, and what the host measures of its process."""
    guests.start("a")
    async with watched(guests) as hypervisor:
        await check_hypervisor(hypervisor, "a", 60.0)
        guest = only(hypervisor)
        assert guest.resident_bytes is not None
        assert 64 * MIB < guest.resident_bytes < GIB
        assert len(hypervisor.pids()) == 1


async def test_domains_come_change_and_go(guests: Guests) -> None:
    """Started, its settings changed live, paused, destroyed: each is seen."""
    async with watched(guests) as hypervisor:
        await asyncio.sleep(1)
        assert hypervisor.guests() == ()
        xml = guests.start("a")
        await until(hypervisor.guests)
        word = '<guest min="128MiB" guaranteed="256MiB" priority="high" mode="observe"/>'
        xml.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, word, "ballonet", NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        wanted = Terms(floor_bytes=128 * MIB, guaranteed_bytes=256 * MIB, shares=2000, mode=Mode.OBSERVE)
        await until(lambda: hypervisor.terms("a") == wanted)
        xml.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, '<guest min="lots"/>', "ballonet", NAMESPACE, 0)
        await until(lambda: "its metadata are not in force" in " ".join(one.what for one in hypervisor.findings()))
        assert hypervisor.terms("a") == wanted  # what cannot be read changes nothing
        xml.suspend()
        await until(lambda: "not running (paused)" in only(hypervisor).leave_alone)
        xml.resume()
        await until(lambda: "not running" not in only(hypervisor).leave_alone)
        xml.destroy()
        await until(lambda: not hypervisor.guests())
        with pytest.raises(GuestGoneError):
            await hypervisor.set_keep("a", GIB // 4, 1.0)


async def test_libvirtd_is_killed_and_comes_again(guests: Guests) -> None:
    """Guests live on, are left alone meanwhile, and are moved again after it."""
    guests.start("a")
    async with watched(guests) as hypervisor:
        await until(lambda: hypervisor.guests() and only(hypervisor).can_balloon, 60.0)
        guests.daemon.kill()
        await until(lambda: "libvirt has said nothing" in only(hypervisor).leave_alone)
        assert "; see `virsh domstats`" in only(hypervisor).leave_alone
        guests.daemon.start()
        await until(lambda: only(hypervisor).can_balloon)
        await hypervisor.set_keep("a", 400 * MIB, 5.0)
        await until(lambda: abs((only(hypervisor).keep_bytes or 0) - 400 * MIB) <= MIB)


async def test_the_agent_is_heard_over_libvirts_channel(guests: Guests) -> None:
    """Where a domain has a channel for it."""
    guests.start("a")
    async with watched(guests) as hypervisor:
        await until(lambda: hypervisor.guests() and only(hypervisor).stats, 60.0)
        assert only(hypervisor).voice is Voice.BALLOON
        await guests.tell("a", "agent")
        await until(lambda: only(hypervisor).voice is Voice.AGENT)


async def test_close_looks_are_young_and_a_hung_guest_delays_nobody(guests: Guests) -> None:
    """A stopped QEMU takes none of the time of its neighbour, which is watched closely meanwhile."""
    guests.start("a")
    guests.start("b")
    async with watched(guests) as hypervisor:
        await until(lambda: len(hypervisor.guests()) == 2 and all(one.can_balloon for one in hypervisor.guests()), 60.0)
        hypervisor.watch("a", Look(0.2, 0))
        await until(lambda: hypervisor.pids().get("b") is not None)
        pid = hypervisor.pids().get("b")
        assert pid is not None
        guests.daemon.stop(pid)
        await asyncio.sleep(1.0)
        for _ in range(20):
            await asyncio.sleep(0.1)
            one = next(guest for guest in hypervisor.guests() if guest.name == "a")
            assert one.stats_age_s is not None
            assert one.stats_age_s < 1.4
            assert one.keep_age_s < 0.6
        await until(lambda: any(one.leave_alone for one in hypervisor.guests() if one.name == "b"))
        guests.daemon.go_on(pid)
        await until(lambda: all(one.can_balloon for one in hypervisor.guests()))


async def test_a_slow_hook_leaves_nobody_alone(libvirtd_with_a_slow_hook: Libvirtd) -> None:
    """While it waits, calls that list domains hang. Three domains are heard all the time, and one gives meanwhile."""
    events.start()
    connection = libvirt.open(libvirtd_with_a_slow_hook.uri)
    guests = Guests(libvirtd_with_a_slow_hook, connection)
    for name in ("a", "b", "c"):
        guests.start(name)
    async with watched(guests) as hypervisor:
        await until(lambda: len(hypervisor.guests()) == 3 and all(one.can_balloon for one in hypervisor.guests()), 120.0)
        begun = time.monotonic()
        starting = asyncio.create_task(asyncio.to_thread(guests.start, "slow"))

        def known() -> dict[str, Guest]:
            found = {one.name: one for one in hypervisor.guests() if one.name != "slow"}
            assert found.keys() == {"a", "b", "c"}
            assert [one.leave_alone for one in found.values() if one.leave_alone] == []
            return found

        await until(lambda: known() and time.monotonic() - begun > 4.0)  # longer than a silence that is taken for one
        await hypervisor.set_keep("a", 400 * MIB, 30.0)
        await until(lambda: abs((known()["a"].keep_bytes or 0) - 400 * MIB) <= MIB, 120.0)  # it gives while the hook waits
        await until(lambda: known() and time.monotonic() - begun > 10.0)
        assert not starting.done()
        (libvirtd_with_a_slow_hook.folder / "run/go").touch()
        await starting
        await until(lambda: "slow" in {one.name for one in hypervisor.guests()})
    connection.close()


async def test_a_domain_without_a_balloon_is_left_alone(guests: Guests) -> None:
    """And it says why."""
    guests.start("a", balloon="none")
    async with watched(guests) as hypervisor:
        await until(lambda: hypervisor.guests() and "no balloon device" in only(hypervisor).leave_alone)


async def test_the_daemon_steers_domains(guests: Guests, tmp_path: Path) -> None:
    """`ballonet run` takes from a domain down to the floor in its metadata; `status` and `doctor` tell of it; SIGTERM ends it."""
    domain = guests.start("a")
    word = '<guest min="300MiB"/>'
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, word, "ballonet", NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    config = tmp_path / "ballonet.toml"
    # A reserve that no host has: whatever guests can spare is asked for.
    parts = f'[libvirt]\nuri = "{guests.daemon.uri}"\n[host]\nreserve = "64TiB"\n[loop]\nmode = "act"\n'
    config.write_text(f'{parts}[control]\nsocket = "{tmp_path}/control.sock"\nstate = "{tmp_path}"\n')
    program = Path(sys.executable).with_name("ballonet")
    process = await asyncio.create_subprocess_exec(program, "run", "-c", config, stderr=asyncio.subprocess.DEVNULL)
    try:
        await until(lambda: domain.memoryStats()["actual"] <= 301 << 10, 60.0)
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT, '<guest min="300MiB" priority="hgih"/>', "ballonet", NAMESPACE, live
        )

        async def told(command: str) -> str:
            beside = await asyncio.create_subprocess_exec(program, command, "-c", config, stdout=asyncio.subprocess.PIPE)
            return " ".join((await beside.communicate())[0].decode().split())

        while "hgih" not in await told("status"):
            await asyncio.sleep(0.5)
        assert "its metadata are not in force" in await told("doctor")
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, word, "ballonet", NAMESPACE, live)
        await asyncio.sleep(3)
        assert domain.memoryStats()["actual"] >= 299 << 10
        for command in ("status", "doctor"):
            words = (program, command, "-c", config)
            beside = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
            said, _ = await beside.communicate()
            assert beside.returncode == 0
            assert b" a " in said
    finally:
        process.terminate()
        assert await process.wait() == 0


async def test_defined_started_ended_and_undefined(guests: Guests) -> None:
    """A persistent domain is a guest while it runs, and only then."""
    domain = guests.connection.defineXML(DOMAIN.format(name="kept", folder=guests.daemon.folder, balloon="virtio"))
    async with watched(guests) as hypervisor:
        await asyncio.sleep(1)
        assert hypervisor.guests() == ()
        domain.create()
        await until(lambda: hypervisor.guests() and only(hypervisor).can_balloon, 60.0)
        assert only(hypervisor).uuid == domain.UUIDString()
        assert only(hypervisor).hypervisor.startswith("QEMU ")
        domain.destroy()
        await until(lambda: hypervisor.guests() == ())
        domain.undefine()
        await asyncio.sleep(1)
        assert hypervisor.guests() == ()


async def test_migrated_to_another_host(guests: Guests, elsewhere: Libvirtd) -> None:
    """It is left alone while it moves, gone here when it has, and known there with the settings in its metadata."""
    domain = guests.start("a")
    word = '<guest min="300MiB"/>'
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, word, "ballonet", NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    there = libvirt.open(elsewhere.uri)
    async with watched(guests) as hypervisor:
        await until(lambda: hypervisor.guests() and only(hypervisor).can_balloon, 60.0)
        domain.migrateSetMaxSpeed(4)
        where = {libvirt.VIR_MIGRATE_PARAM_URI: "tcp://127.0.0.1", libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: "127.0.0.1"}
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE
        moving = asyncio.create_task(asyncio.to_thread(domain.migrate3, there, where, flags))
        await until(lambda: moving.done() or only(hypervisor).is_migrating)
        assert not moving.done(), moving.exception()
        assert not only(hypervisor).can_balloon
        domain.migrateSetMaxSpeed(10_000)
        await moving
        await until(lambda: hypervisor.guests() == ())
    async with watched(Guests(elsewhere, there)) as hypervisor:
        await until(lambda: hypervisor.guests() and only(hypervisor).can_balloon, 60.0)
        await until(lambda: hypervisor.terms("a") == Terms(floor_bytes=300 << 20))
    there.close()


async def test_a_mute_driver_after_a_reboot_has_come_up() -> None:
    """It answers without statistics, as Windows does without its service: that is said, and it is not starting for ever."""

    class Named:
        """What is asked of a domain before libvirtd is."""

        def name(self) -> str:
            return "mute"

        def UUIDString(self) -> str:  # noqa: N802 libvirt's name
            return "0"

        def ID(self) -> int:  # noqa: N802 libvirt's name
            return 1

    one = LibvirtGuest("qemu:///none", Named(), Path("/nonexistent"), lambda: None, listens=False)
    one._hear({"last_update": 1000}, 1024, time.monotonic())
    assert one._silence
    one.begin_anew()
    assert one._reset_at is not None
    one._reset_at -= 600
    one._hear({"last_update": 1000}, 1024, time.monotonic())
    assert one._reset_at is not None  # that is what it said before
    one._hear({"last_update": 1001}, 1024, time.monotonic())
    assert one._reset_at is None
