"""What Proxmox VE's files say of a VM."""

from pathlib import Path

import pytest

from ballonet.hypervisors.proxmox.adapter import ProxmoxHypervisor
from ballonet.hypervisors.proxmox.vm import VmConfig, read_vm
from ballonet.model.terms import Terms

GIB = 1 << 30
CONF = """#web server, balloon: 1
balloon: 2048
boot: order=scsi0
memory: 8192
name: web
shares: 0
tags: prod;ballonet_prio_high

[before-upgrade]
memory: 4096
shares: 5000
"""


def test_a_vm_is_read() -> None:
    """The part before the snapshots; minimum and priority are settings."""
    vm = read_vm("101", CONF)
    assert vm == VmConfig(vmid="101", memory_mib=8192, balloon_mib=2048, shares=0, tags=frozenset({"prod", "ballonet_prio_high"}))
    assert vm.terms == Terms(floor_bytes=2 * GIB, shares=2000)
    assert vm.why_alone == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("memory: 4096\nballoon: 1024\n", "qm set 7 --shares 0"),  # shares default to 1000
        ("memory: current=4096\nballoon: 1024\nshares: 50\n", "pvestatd balloons it"),
        ("memory: 4096\nballoon: 1024\nshares: 0\n", ""),
        ("memory: 4096\nballoon: 4096\n", ""),  # a minimum of all: pvestatd has nothing to do
        ("memory: 4096\n", ""),
        ("memory: 4096\nballoon: 0\n", ""),  # no balloon device: QEMU says so itself
        ("memory: 4096\nshares: 0\ntags: a,ballonet_off b\n", "ballonet_off"),
        ("nonsense\nmemory: lots\nballoon: -5\n", ""),
    ],
)
def test_whose_balloon_it_is(text: str, says: str) -> None:
    """Pvestatd's VMs are left alone, with the command that hands them over."""
    why = read_vm("7", text).why_alone
    assert says in why
    assert bool(why) == bool(says)


def test_one_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    """A link to nowhere among the files."""
    folder = tmp_path / "etc/pve/qemu-server"
    folder.mkdir(parents=True)
    for vmid in ("100", "102"):
        (folder / f"{vmid}.conf").write_text("memory: 4096\n")
    (folder / "101.conf").symlink_to("/nowhere")
    assert set(ProxmoxHypervisor(tmp_path)._read_all()) == {"100", "102"}


@pytest.mark.parametrize("number", ["9" * 5000, "\u0664\u0660\u0669\u0666", "\u00b2", "-1", "1e9", "0x10"])
def test_a_number_that_is_none_is_not_there(number: str) -> None:
    """Nothing that somebody wrote into one file ends the look at all of them."""
    assert read_vm("100", f"memory: 4096\nshares: {number}\n").shares == 1000
