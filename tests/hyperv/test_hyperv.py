"""The hyperv adapter on a loopback WinRM server with a toy of Hyper-V behind it: what it reads, steers, puts back, and says when
it cannot. It never ran on a real Hyper-V host.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from ballonet.hypervisors.contract import GuestGoneError, HypervisorError, NoAnswerError, RefusedError
from ballonet.hypervisors.hyperv.adapter import HypervHypervisor
from ballonet.hypervisors.hyperv.session import HypervSession
from ballonet.model.knobs import Bounds
from ballonet.model.snapshot import Voice
from ballonet.model.units import GIB, MIB
from ballonet.testing import check_hypervisor
from daemons import ballonet, holds_soon, until, until_killed
from hyperv.conftest import Server
from hyperv.toy import ToyHost, ToyVm

Start = Callable[..., Server]


def vms(count: int, **fields: int) -> list[ToyVm]:
    return [ToyVm(f"vm-{number}", **fields) for number in range(count)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("auth", "tls"), [("basic", True), ("negotiate", True), ("ntlm", False), ("negotiate", False)])
def test_what_is_read(start: Start, auth: str, *, tls: bool) -> None:
    """By each way in, in one pipeline; sizes beyond 2 GiB are whole, both ways; nothing crosses in the clear."""
    server = start(ToyHost([ToyVm("a", demand=3 * GIB), ToyVm("off", is_running=False)], memory=256 * GIB), tls=tls, auth=auth)
    session = HypervSession(server.where, "secret")
    server.winrm.seen.clear()
    picture = session.read()
    assert session.calls == {"read": 1}
    assert server.winrm.seen["Command"] == 1
    assert picture.host.total_bytes == 256 * GIB
    row, off = picture.rows
    assert (row.is_running, off.is_running) == (True, False)
    assigned = int(3 * GIB * 1.2) // (2 * MIB) * 2 * MIB
    assert (row.guest.keep_bytes, row.guest.ceiling_bytes, row.guest.voice) == (assigned, 8 * GIB, Voice.HYPERVISOR)
    assert row.guest.stats is not None
    assert row.guest.stats.available_bytes == assigned - 3 * GIB
    assert row.guest.theirs == {
        "demand": 3 * GIB,
        "assigned": assigned,
        "pressure": 83,
        "status": "OK",
        "startup": 2 * GIB,
        "minimum": GIB,
        "maximum": 8 * GIB,
        "buffer": 20,
        "priority": 50,
        "ballooned": 0,
        "hot-added since it started": assigned - 2 * GIB,
    }
    session.turn(row, replace(row.knobs, maximum_bytes=300 * GIB))
    assert server.host.of("a").maximum == 300 * GIB
    session.close()
    assert server.winrm.pools == {}
    assert not any("Envelope" in text or "secret" in text for text in server.winrm.texts)
    assert bool(server.winrm.texts) is not tls


def test_who_cannot_be_ballooned_is_told_apart(start: Start) -> None:
    """Static memory is not Dynamic Memory, a silent driver is neither; counters that may not be read are missing only."""
    host = ToyHost([ToyVm("dynamic"), ToyVm("static", is_dynamic=False), ToyVm("silent", demand=0)], has_counters=False)
    session = HypervSession(start(host).where, "secret")
    rows = {row.guest.name: row.guest for row in session.read().rows}
    session.close()
    assert rows["dynamic"].leave_alone == ""
    assert "ballooned" not in rows["dynamic"].theirs
    assert rows["static"].leave_alone.startswith("static memory")
    assert not rows["static"].can_balloon
    assert "driver does not run" in rows["silent"].leave_alone


async def test_contract(start: Start, tmp_path: Path) -> None:
    """The suite that every adapter must pass, as far as its steering goes; and 500 VMs in one look."""
    server = start(ToyHost(vms(500), memory=4096 * GIB))
    hypervisor = HypervHypervisor(server.where, "secret", tmp_path / "state")
    await hypervisor.open()
    try:
        await check_hypervisor(hypervisor, "vm-7")
        assert len(hypervisor.guests()) == 500
        with pytest.raises(RefusedError, match="by itself"):
            await hypervisor.set_keep("vm-7", GIB, 5.0)
        assert server.host.refused == []
    finally:
        await hypervisor.close()


async def test_the_ratchet_is_put_back_when_it_can(start: Start, tmp_path: Path) -> None:
    """While a VM runs buffer and priority are; its minimum and maximum once it is off."""
    server = start(ToyHost(vms(1)))
    hypervisor = HypervHypervisor(server.where, "secret", tmp_path / "state")
    await hypervisor.open()
    try:
        await holds_soon(lambda: bool(hypervisor.guests()))
        wish = Bounds(minimum_bytes=512 * MIB, maximum_bytes=10 * GIB, buffer_percent=60, priority=80)
        await hypervisor.turn("vm-0", wish, 5.0)
        vm = server.host.of("vm-0")
        done, failed = await hypervisor.restore()
        assert done == {}
        assert "shut it down" in failed["vm-0"]
        assert (vm.minimum, vm.maximum, vm.buffer, vm.priority) == (512 * MIB, 10 * GIB, 20, 50)
        vm.is_running = False
        assert await hypervisor.restore() == (
            {"vm-0": Bounds(minimum_bytes=GIB, maximum_bytes=8 * GIB, buffer_percent=20, priority=50)},
            {},
        )
        assert (vm.minimum, vm.maximum) == (GIB, 8 * GIB)
        assert await hypervisor.restore() == ({}, {})
        assert server.host.refused == []
    finally:
        await hypervisor.close()


async def test_what_was_there_before_is_known_after_a_restart_and_to_one_at_a_time(start: Start, tmp_path: Path) -> None:
    """Or a daemon would take its own values for the operator's; and nobody puts back what another still turns."""
    server = start(ToyHost(vms(2)))
    first, second = (HypervHypervisor(server.where, "secret", tmp_path / "state") for _ in range(2))
    await first.open()
    try:
        await holds_soon(lambda: len(first.guests()) == 2)
        old = first.knobs()["vm-0"]
        assert isinstance(old, Bounds)
        await first.turn("vm-0", replace(old, buffer_percent=60), 5.0)
        with pytest.raises(RefusedError, match="stop the daemon first"):
            await second.restore()
        await first.close()
        await second.open()
        await holds_soon(lambda: len(second.guests()) == 2)
        assert second.originals() == {"vm-0": old}
        assert await second.restore() == ({"vm-0": old}, {})
    finally:
        await first.close()
        await second.close()


async def test_who_has_the_name_of_another(start: Start, tmp_path: Path) -> None:
    """A copy that is off takes no name from the one that runs; of two that run, both are named in full."""
    twin, off = ToyVm("twin"), ToyVm("web", is_running=False)
    server = start(ToyHost([off, ToyVm("web"), twin, ToyVm("twin")]))
    hypervisor = HypervHypervisor(server.where, "secret", tmp_path / "state")
    try:
        await hypervisor.look()
        names = {guest.name for guest in hypervisor.guests()}
        assert len(names) == 3
        assert {"web", f"twin@{twin.id}"} < names
    finally:
        await hypervisor.close()


@pytest.mark.parametrize(
    ("change", "until_days", "says"),
    [
        ({"password": "wrong"}, 1, "ballonet is not let in; .*hyperv.password_file"),
        ({"password": "wrong", "auth": "ntlm", "user": "TOY\\ballonet"}, 1, "not let in"),
        ({"ca_file": ""}, 1, "not trusted .*hyperv.ca_file"),
        ({}, -1, "not trusted .*expired"),
        ({"port": 1}, 1, "cannot be reached .*hyperv.server"),
        ({"server": "no-such-host.invalid"}, 1, "cannot be reached .*hyperv.server"),
    ],
)
def test_who_does_not_get_in_reads_why(start: Start, change: dict[str, object], until_days: int, says: str) -> None:
    """One line with its remedy, and the password is not in it."""
    rest = dict(change)
    password = str(rest.pop("password", "secret"))
    where = replace(start(ToyHost(vms(1)), until_days=until_days).where, **rest)
    with pytest.raises(HypervisorError, match=says) as caught:
        HypervSession(where, password)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"is_admin": False}, "ballonet may not .*Hyper-V Administrators"),
        ({"has_module": False}, "no Hyper-V cmdlets .*Install-WindowsFeature"),
    ],
)
def test_error_records_are_told(start: Start, fields: dict[str, bool], says: str) -> None:
    """Pypsrp calls such a pipeline a success: what it wrote to its errors must be read."""
    host = ToyHost(vms(1))
    for name, value in fields.items():
        setattr(host, name, value)
    session = HypervSession(start(host).where, "secret")
    with pytest.raises(RefusedError, match=says):
        session.read()
    session.close()


def test_what_is_forbidden_is_told_and_who_is_gone_too(start: Start) -> None:
    """By the server's own word, where a check of ours would have been passed by."""
    server = start(ToyHost(vms(1)))
    session = HypervSession(server.where, "secret")
    row = session.read().rows[0]
    assert isinstance(row.knobs, Bounds)
    with pytest.raises(RefusedError, match="vm-0: while it runs"):
        session.turn(row, replace(row.knobs, minimum_bytes=row.knobs.minimum_bytes + 2 * MIB))
    server.host.vms.clear()
    with pytest.raises(GuestGoneError, match="no such VM"):
        session.turn(row, replace(row.knobs, priority=60))
    session.close()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("Command:401", "not let in"),
        ("Command:drop", "cannot be reached|no answer"),
        ("Receive:drop", "cannot be reached|no answer"),
        ("Command:garbage", "not PowerShell remoting"),
        ("Command:5", "may not open Microsoft.PowerShell"),
        ("Command:2150859173", "WinRM fault 2150859173"),
        ("Receive:2150858793", ""),
        ("Receive:slow", ""),
    ],
)
async def test_faults_end_in_a_clear_error_and_a_retry_that_ends(start: Start, tmp_path: Path, fault: str, says: str) -> None:
    """Some are survived in place (no data yet, slow); after the others the next look has a new session."""
    server = start(ToyHost(vms(3)))
    hypervisor = HypervHypervisor(server.where, "secret", tmp_path / "state")
    try:
        await hypervisor.look()
        server.winrm.faults.append(fault)
        if says:
            with pytest.raises(HypervisorError, match=says) as caught:
                await hypervisor.look()
            assert "\n" not in str(caught.value)
            hypervisor._leave()
        assert len((await hypervisor.look()).rows) == 3
        assert server.winrm.faults == []
    finally:
        await hypervisor.close()


async def test_answer_that_comes_too_late_meets_nobody(start: Start, tmp_path: Path) -> None:
    """The thread that still waits for it keeps its session; the next look has another."""
    server = start(ToyHost(vms(2)))
    hypervisor = HypervHypervisor(server.where, "secret", tmp_path / "state")
    try:
        await hypervisor.look()
        old = hypervisor.knobs()["vm-0"]
        assert isinstance(old, Bounds)
        server.winrm.faults.append("Command:slow")
        with pytest.raises(NoAnswerError, match=r"no answer in 0\.5 s"):
            await hypervisor.turn("vm-0", replace(old, priority=60), 0.5)
        assert len((await hypervisor.look()).rows) == 2
        assert server.winrm.seen["Create"] == 2
        await holds_soon(lambda: server.host.of("vm-0").priority == 60)
        assert hypervisor.originals() == {"vm-0": old}
    finally:
        await hypervisor.close()


def test_host_that_hangs_ends_in_an_error(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pypsrp would ask for ever: each answer is that there is nothing yet."""
    monkeypatch.setattr("ballonet.hypervisors.hyperv.session.PIPELINE_S", 0.3)
    server = start(ToyHost(vms(1)))
    session = HypervSession(server.where, "secret")
    server.winrm.faults += ["Receive:2150858793"] * 1000
    with pytest.raises(NoAnswerError, match="the host may hang"):
        session.read()
    server.winrm.faults.clear()
    session.close()


async def test_login_that_was_refused_is_not_tried_again_soon(start: Start, tmp_path: Path) -> None:
    """It would lock the account; what is merely unreachable is tried again after a second."""
    server = start(ToyHost(vms(1)))
    hypervisor = HypervHypervisor(server.where, "wrong", tmp_path / "state")
    await hypervisor.open()
    try:
        await holds_soon(lambda: server.winrm.turned_away == 1)
        await asyncio.sleep(3.5)
        assert server.winrm.turned_away == 1
    finally:
        await hypervisor.close()


async def test_no_session_is_left_behind(start: Start, tmp_path: Path) -> None:
    """Windows gives a user some thirty of them, and keeps each for two hours."""
    server = start(ToyHost(vms(1)))
    hypervisor = HypervHypervisor(server.where, "secret", tmp_path / "state")
    await hypervisor.look()
    server.winrm.faults.append("Command:2150859173")
    with pytest.raises(NoAnswerError):
        await hypervisor.look()
    await hypervisor.look()
    server.winrm.faults.append("Command:slow")
    under_way = asyncio.create_task(hypervisor.look())
    await asyncio.sleep(0.3)
    under_way.cancel()
    await asyncio.gather(under_way, return_exceptions=True)
    await hypervisor.look()
    await hypervisor.close()
    assert server.winrm.seen["Create"] == 3
    await holds_soon(lambda: server.winrm.pools == {})


async def test_server_that_dies_is_told(start: Start, tmp_path: Path) -> None:
    """Commands fail meanwhile, the numbers grow old, and the loop goes on."""
    server = start(ToyHost(vms(1)))
    hypervisor = HypervHypervisor(server.where, "secret", tmp_path / "state")
    await hypervisor.open()
    try:
        await holds_soon(lambda: bool(hypervisor.guests()))
        old = hypervisor.knobs()["vm-0"]
        assert isinstance(old, Bounds)
        server.winrm.faults += ["drop"] * 50
        await holds_soon(lambda: (hypervisor.guests()[0].stats_age_s or 0) > 2)
        with pytest.raises(NoAnswerError):
            await hypervisor.turn("vm-0", replace(old, priority=60), 5.0)
        server.winrm.faults.clear()
        await holds_soon(lambda: (hypervisor.guests()[0].stats_age_s or 9) < 1)
    finally:
        await hypervisor.close()


CONFIG = """
[hyperv]
server = "{where.server}"
port = {where.port}
user = "{where.user}"
auth = "basic"
ca_file = "{where.ca_file}"
password_file = "{folder}/password"
[loop]
mode = "act"
[control]
socket = "{folder}/control.sock"
state = "{folder}/state"
[guest.vm-0]
ceiling = "16GiB"
[guest.vm-1]
shares = 2000
"""


def test_daemon_follows_demand_and_is_undone(start: Start, tmp_path: Path) -> None:
    """100 VMs, a demand that rises and one that falls: buffers follow, a maximum rises, nothing forbidden is sent, and all of it
    is undone after a kill -9, but what the ratchet holds until a VM is off.
    """
    host = ToyHost([*vms(99, demand=GIB), ToyVm("static", is_dynamic=False)], memory=200 * GIB)
    server = start(host)
    config = tmp_path / "ballonet.toml"
    config.write_text(CONFIG.format(where=server.where, folder=tmp_path))
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    with until_killed(config, tmp_path / "log") as daemon:
        until(lambda: host.of("vm-1").priority == 100)
        rises, falls = host.of("vm-0"), host.of("vm-2")
        falls.demand = 6 * GIB
        for step in range(1, 14):
            rises.demand = GIB + step * 512 * MIB
            time.sleep(0.4)
        until(lambda: rises.maximum > 8 * GIB, 40)
        risen = rises.buffer
        falls.demand = GIB
        told = ballonet("explain", config, "vm-0").stdout
        assert all(word in told for word in ("its hypervisor's pressure", "hot-added", "its hypervisor's buffer"))
        beside = ballonet("restore", config)
        assert (beside.returncode, "stop the daemon first" in beside.stderr) == (2, True)
        arguments = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
    assert host.refused == []
    assert rises.maximum <= 16 * GIB
    assert rises.maximum % (128 * MIB) == 0
    assert risen >= 20
    assert all(vm.minimum == GIB for vm in host.vms)
    first = ballonet("restore", config, "--json")
    assert first.returncode == 1
    assert list(json.loads(first.stdout)["failed"]) == ["vm-0"]
    rises.is_running = False
    assert json.loads(ballonet("restore", config, "--json").stdout)["failed"] == {}
    assert {(vm.minimum, vm.maximum, vm.buffer, vm.priority) for vm in host.vms} == {(GIB, 8 * GIB, 20, 50)}
    assert host.refused == []
    said = (tmp_path / "log").read_bytes() + arguments + (tmp_path / "state/originals.json").read_bytes()
    assert b"secret" not in said
    assert b"Traceback" not in said
