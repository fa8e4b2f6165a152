"""What faces show of a tick."""

import io

import pytest

from ballonet.cli.console import Plain
from ballonet.cli.status import table
from ballonet.decide.step import START, step
from ballonet.hypervisors.hyperv.config import HypervConfig
from ballonet.hypervisors.libvirt.config import LibvirtConfig
from ballonet.hypervisors.local.alone import NOT_HEARD
from ballonet.hypervisors.proxmox.config import ProxmoxConfig
from ballonet.hypervisors.qemu.config import QemuConfig
from ballonet.hypervisors.vsphere.config import VsphereConfig
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, GuestStats, Host, Mode, Snapshot
from ballonet.model.tick import Tick
from ballonet.model.units import GIB
from ballonet.status.metrics import Counters, exposition
from ballonet.status.tell import status_of
from ballonet.status.words import BOUND


def tick(*guests: Guest) -> Tick:
    snapshot = Snapshot(host=Host(total_bytes=32 * GIB, available_bytes=20 * GIB), guests=guests)
    return Tick(at=0, snapshot=snapshot, plan=step(START, snapshot, Limits(), 0.0)[1])


def using(used: int, ceiling: int, given: int | None) -> Guest:
    """One at its ceiling; in GiB."""
    said = GuestStats(total_bytes=ceiling * GIB, available_bytes=(ceiling - used) * GIB)
    size, full = ceiling * GIB, None if given is None else given * GIB
    return Guest(
        name="web", ceiling_bytes=size, keep_bytes=size, resident_bytes=size, stats=said, stats_age_s=0.0, given_bytes=full
    )


@pytest.mark.parametrize(("guest", "is_bound"), [(using(4, 4, 8), True), (using(1, 4, 8), False), (using(4, 4, None), False)])
def test_a_ceiling_that_binds_is_shown_by_every_face(guest: Guest, is_bound: bool) -> None:
    """In the table, narrow and wide, and as a metric."""
    status = status_of(tick(guest), at=0, mode=Mode.ACT)
    assert status.guests[0].is_bound is is_bound
    for is_wide in (True, False):
        file = io.StringIO()
        Plain(file=file, width=160).print(table(status.guests, is_wide=is_wide))
        assert (BOUND in file.getvalue()) is is_bound
    assert f'ballonet_guest_ceiling_binds{{domain="web",uuid=""}} {float(is_bound)}' in exposition(status, Counters()).decode()


def test_not_heard_yet_is_no_guest_that_is_left_alone() -> None:
    """For alerts: each start would fire them."""
    for why, value in ((NOT_HEARD, 0.0), ("no balloon device", 1.0)):
        one = Guest(name="web", ceiling_bytes=GIB, keep_bytes=GIB, leave_alone=why, can_balloon=False)
        told = exposition(status_of(tick(one), at=0, mode=Mode.ACT), Counters()).decode()
        assert f'ballonet_guest_leave_alone{{domain="web",uuid=""}} {value}' in told


def test_whose_guests_a_configuration_means() -> None:
    """By what they are of."""
    assert HypervConfig(server="hv1", user="u").guests_of() == "hv1"
    assert VsphereConfig(server="vc", user="u").guests_of() == "vc"
    assert LibvirtConfig().guests_of() == "qemu:///system"
    assert "Proxmox" in ProxmoxConfig().guests_of()
    assert QemuConfig(sockets=("/a", "/b")).guests_of() == "/a, /b"
