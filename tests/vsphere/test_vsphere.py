"""The vSphere adapter on govmomi's simulator: what it reads, what it steers, what it puts back, what it says when it cannot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ballonet.hypervisors.contract import GuestGoneError, HypervisorError, RefusedError
from ballonet.hypervisors.vsphere.adapter import VsphereHypervisor
from ballonet.hypervisors.vsphere.session import VsphereSession
from ballonet.model.knobs import Entitlement
from ballonet.model.snapshot import Voice
from ballonet.model.units import GIB, KIB, MIB
from ballonet.testing import check_hypervisor
from daemons import ballonet, holds_soon, until, until_killed
from vsphere.conftest import Server

Start = Callable[..., Server]
FIRST = "DC0_H0_VM0"


def test_what_is_read(start: Start) -> None:
    """Each number in its own unit, in three calls whatever the number of VMs."""
    server = start("-vms", "40", "-memory", "4096", "-host", "65536")
    server.script(
        FIRST, guestMemoryUsage=1500, hostMemoryUsage=2500, balloonedMemory=512, swappedMemory=256, compressedMemory=2048
    )
    session = VsphereSession(server.where, "secret")
    session.calls.clear()
    picture = session.read()
    assert session.calls == {"RetrievePropertiesEx": 2, "QueryPerf": 1}
    assert len(picture.rows) == 40
    assert picture.host.total_bytes == 64 * GIB
    assert 0 < picture.host.available_bytes < 64 * GIB
    row = next(one for one in picture.rows if one.guest.name == FIRST)
    guest = row.guest
    assert guest.ceiling_bytes == 4 * GIB
    assert guest.keep_bytes == 4 * GIB - 512 * MIB - 256 * MIB - 2048 * KIB
    assert guest.resident_bytes == 2500 * MIB
    assert guest.stats is not None
    assert guest.stats.total_bytes == 3584 * MIB
    assert guest.stats.available_bytes == (3584 - 1500) * MIB
    assert guest.voice is Voice.HYPERVISOR
    expected = {"balloon": 512 * MIB, "swapped": 256 * MIB, "compressed": 2 * MIB, "active": 1500 * MIB}
    assert guest.theirs == expected | {"reservation": 0, "shares": 40960}
    assert row.knobs == Entitlement(shares=40960, reservation_bytes=0, level="normal")
    session.close()


async def test_entitlements_are_set_kept_and_put_back(start: Start, tmp_path: Path) -> None:
    """Only what changes is sent; a limit that somebody had stays; `restore` gives back level and all."""
    server = start("-vms", "2")
    hypervisor = VsphereHypervisor(server.where, "secret", tmp_path)
    await hypervisor.open()
    try:
        await holds_soon(lambda: len(hypervisor.guests()) == 2)
        old = hypervisor.knobs()[FIRST]
        await hypervisor.turn(FIRST, Entitlement(shares=5000, reservation_bytes=512 * MIB), 5.0)
        await hypervisor.turn(FIRST, Entitlement(shares=7000, reservation_bytes=512 * MIB), 5.0)
        is_now = server.vms()[FIRST].config.memoryAllocation
        assert (is_now.shares.level, is_now.shares.shares, is_now.reservation, is_now.limit) == ("custom", 7000, 512, -1)
        with pytest.raises(RefusedError, match="is not within"):
            await hypervisor.turn(FIRST, Entitlement(shares=1, reservation_bytes=5 * GIB), 5.0)
        with pytest.raises(GuestGoneError):
            await hypervisor.turn("nobody", old, 5.0)
        with pytest.raises(RefusedError, match="by itself"):
            await hypervisor.set_keep(FIRST, GIB, 5.0)
        assert await hypervisor.restore() == ({FIRST: old}, {})
        was = server.vms()[FIRST].config.memoryAllocation
        assert (was.shares.level, was.shares.shares, was.reservation) == ("normal", 40960, 0)
        assert await hypervisor.restore() == ({}, {})
    finally:
        await hypervisor.close()


async def test_contract(start: Start, tmp_path: Path) -> None:
    """The suite that every adapter must pass, as far as its steering goes."""
    server = start("-vms", "2")
    hypervisor = VsphereHypervisor(server.where, "secret", tmp_path)
    await hypervisor.open()
    try:
        await check_hypervisor(hypervisor, FIRST)
        await hypervisor.close()
        await hypervisor.close()
    finally:
        await hypervisor.close()


async def test_nothing_is_sent_that_cannot_be_put_back(start: Start, tmp_path: Path) -> None:
    """Where the original cannot be written down, or the file of them is damaged."""
    server = start("-vms", "1")
    (tmp_path / "file").write_text("")
    for state, damage in ((tmp_path / "file", ""), (tmp_path / "damaged", "{")):
        if damage:
            state.mkdir()
            (state / "originals.json").write_text(damage)
        hypervisor = VsphereHypervisor(server.where, "secret", state)
        await hypervisor.open()
        try:
            await holds_soon(lambda hypervisor=hypervisor: bool(hypervisor.guests()))  # type: ignore[misc]
            with pytest.raises(RefusedError, match=r"file|cannot be read"):
                await hypervisor.turn(FIRST, Entitlement(shares=1, reservation_bytes=0), 5.0)
        finally:
            await hypervisor.close()
    assert server.vms()[FIRST].config.memoryAllocation.shares.shares == 40960


async def test_limit_forces_a_balloon_and_is_put_back(start: Start, tmp_path: Path) -> None:
    """The simulator's toy balloon shows what a limit does; a limit below the reservation is never sent."""
    server = start("-vms", "1")
    hypervisor = VsphereHypervisor(server.where, "secret", tmp_path)
    await hypervisor.open()
    try:
        await holds_soon(lambda: bool(hypervisor.guests()))
        old = hypervisor.knobs()[FIRST]
        assert isinstance(old, Entitlement)
        await hypervisor.turn(FIRST, replace(old, limit_bytes=2 * GIB), 5.0)
        await holds_soon(lambda: hypervisor.guests()[0].theirs.get("balloon") == 2 * GIB)
        shown = hypervisor.guests()[0].theirs
        assert (shown["limit"], "latency" in shown) == (2 * GIB, True)
        with pytest.raises(RefusedError, match="below the reservation"):
            await hypervisor.turn(FIRST, replace(old, limit_bytes=GIB, reservation_bytes=2 * GIB), 5.0)
        assert await hypervisor.restore() == ({FIRST: old}, {})
        assert server.vms()[FIRST].config.memoryAllocation.limit == -1
    finally:
        await hypervisor.close()


@pytest.mark.parametrize("drs", [False, True])
def test_drs_is_another_controller(start: Start, *, drs: bool) -> None:
    """R15: VMs in a cluster with DRS are watched only, until the operator says otherwise."""
    server = start("-vms", "1", "-cluster")
    session = VsphereSession(replace(server.where, drs=drs), "secret")
    alone = {row.guest.leave_alone for row in session.read().rows}
    session.close()
    assert len(alone) == 1
    assert ("vsphere.drs = true" in alone.pop()) is not drs


@pytest.mark.parametrize(
    ("words", "change", "says"),
    [
        ((), {"password": "wrong"}, "wrong user or password for ballonet; see vsphere.user"),
        ((), {"ca_file": ""}, "not trusted .*vsphere.ca_file"),
        (("-expired",), {}, "not trusted .*expired"),
        ((), {"port": 1}, "cannot be reached .*vsphere.server"),
        ((), {"server": "no-such-host.invalid"}, "cannot be reached .*vsphere.server"),
        ((), {"host": "esx9"}, "vsphere.host may be: DC0_H0"),
        (("-version", "5.1"), {}, "vSphere API 5.1; ballonet needs 6.0"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_remedy(
    start: Start, words: tuple[str, ...], change: dict[str, object], says: str
) -> None:
    """And the password is in none of them."""
    rest = dict(change)
    password = str(rest.pop("password", "secret"))
    where = replace(start("-vms", "1", *words).where, **rest)
    with pytest.raises(HypervisorError, match=says) as caught:
        VsphereSession(where, password)
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    assert "wrong" not in text or change == {"password": "wrong"}


async def test_missing_privilege_is_named(start: Start, tmp_path: Path) -> None:
    """And nothing is changed."""
    server = start("-vms", "1", "-read-only")
    hypervisor = VsphereHypervisor(server.where, "secret", tmp_path)
    await hypervisor.open()
    try:
        await holds_soon(lambda: bool(hypervisor.guests()))
        with pytest.raises(RefusedError, match=r"ballonet lacks the privilege VirtualMachine\.Config\.Resource"):
            await hypervisor.turn(FIRST, Entitlement(shares=5000, reservation_bytes=0), 5.0)
    finally:
        await hypervisor.close()


async def test_server_that_dies_is_told_and_found_again(start: Start, tmp_path: Path) -> None:
    """Commands fail meanwhile, the numbers grow old, and the loop goes on."""
    server = start("-vms", "1")
    hypervisor = VsphereHypervisor(server.where, "secret", tmp_path)
    await hypervisor.open()
    try:
        await holds_soon(lambda: bool(hypervisor.guests()))
        server.process.kill()
        server.process.wait()
        await holds_soon(lambda: (hypervisor.guests()[0].stats_age_s or 0) > 2)
        with pytest.raises(HypervisorError):
            await hypervisor.turn(FIRST, Entitlement(shares=5000, reservation_bytes=0), 5.0)
    finally:
        await hypervisor.close()


CONFIG = """
[vsphere]
server = "{where.server}"
port = {where.port}
user = "{where.user}"
ca_file = "{where.ca_file}"
password_file = "{folder}/password"
[loop]
mode = "act"
[control]
socket = "{folder}/control.sock"
state = "{folder}/state"
[guest.DC0_H0_VM0]
shares = 2000
"""


def test_daemon_follows_need_and_is_undone(start: Start, tmp_path: Path) -> None:
    """Reservations follow use, shares the operator; killed, `ballonet restore` puts all of it back; no password shows."""
    server = start("-vms", "3", "-memory", "4096", "-host", "12288")
    for number, active in enumerate((3000, 1000, 200)):
        server.script(f"DC0_H0_VM{number}", guestMemoryUsage=active, hostMemoryUsage=3500)
    config = tmp_path / "ballonet.toml"
    config.write_text(CONFIG.format(where=server.where, folder=tmp_path))
    (tmp_path / "password").write_text("secret\n")
    refused = ballonet("status", config)
    assert refused.returncode == 2
    assert "chmod 600" in refused.stderr
    (tmp_path / "password").chmod(0o600)
    with until_killed(config, tmp_path / "log") as daemon:
        until(lambda: len(_changed(server)) == 3, 60)
        reserved = {name: one.reservation for name, one in _changed(server).items()}
        assert reserved["DC0_H0_VM0"] > reserved["DC0_H0_VM1"] > reserved["DC0_H0_VM2"] > 0
        assert sum(reserved.values()) <= 12288 / 2
        shares = {name: (one.shares.level, one.shares.shares) for name, one in _changed(server).items()}
        assert shares == {FIRST: ("custom", 81920), "DC0_H0_VM1": ("normal", 40960), "DC0_H0_VM2": ("normal", 40960)}
        server.script(FIRST, guestMemoryUsage=400)
        server.script("DC0_H0_VM2", guestMemoryUsage=3000)
        until(lambda: _changed(server)["DC0_H0_VM2"].reservation > 2 * reserved["DC0_H0_VM2"], 60)
        until(lambda: _changed(server)[FIRST].reservation < reserved[FIRST], 60)
        told = ballonet("explain", config, FIRST).stdout
        assert all(word in told for word in ("its hypervisor's active", "400 MiB", "its hypervisor's reservation", "samples"))
        arguments = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
    done = json.loads(ballonet("restore", config, "--json").stdout)
    assert sorted(done["restored"]) == ["DC0_H0_VM0", "DC0_H0_VM1", "DC0_H0_VM2"]
    assert done["failed"] == {}
    assert _changed(server) == {}
    assert "nothing to put back" in ballonet("restore", config).stdout
    said = (tmp_path / "log").read_bytes() + arguments + (tmp_path / "state/originals.json").read_bytes()
    assert b"secret" not in said
    assert b"Traceback" not in said


def _changed(server: Server) -> dict[str, Any]:
    allocations = {name: vm.config.memoryAllocation for name, vm in server.vms().items()}
    return {name: one for name, one in allocations.items() if one.reservation or one.shares.level != "normal"}
