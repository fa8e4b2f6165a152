"""What a guest occupies: nobody is squeezed for what is not so. Scripted guests at real QMP sockets, the daemon in mode act."""

import pytest

from field_host import Field


@pytest.mark.parametrize("mode", ["observe", "advise"])
def test_cold_memory_in_the_hosts_swap_is_no_claim(field_of: Field, mode: str) -> None:
    """32 GiB; a VM that is not moved has 2 resident and 14 cold in the host's swap. Four others use 5 of 8, and keep that."""
    field_of.host(32 << 10, own=1024)
    field_of.guest("cold", 16 << 10, use=[(0, 2048, 1e9)], resident=2048, swapped=14 << 10)
    for number in range(4):
        field_of.guest(f"vm-{number}", 8192, use=[(0, 5120, 1e9)])
    field_of.run(more=f'[guest.cold]\nmode = "{mode}"\n')
    field_of.always(lambda: all(field_of.state(f"vm-{number}")["lowest"] > 5120 for number in range(4)), 10)
    assert sum(field_of.state(f"vm-{number}")["paged_out"] for number in range(4)) == 0


def test_who_is_only_advised_is_nobodys_donor(field_of: Field) -> None:
    """One in mode advise has 14 GiB to spare, one in act 7; what a third one needs comes from the second."""
    field_of.host(32 << 10, own=1024)
    field_of.guest("advised", 16 << 10, use=[(0, 2048, 1e9)], cache=14 << 10)
    field_of.guest("giver", 16 << 10, keep=10 << 10, use=[(0, 2048, 1e9)], cache=7 << 10)
    field_of.guest("riser", 16 << 10, keep=5120, use=[(0, 4096, 1e9), (4, 8192, 800)])
    field_of.run(more='[guest.advised]\nmode = "advise"\n')
    field_of.until(lambda: field_of.state("riser")["used"] >= 8191)
    field_of.until(lambda: field_of.state("riser")["keep"] > 8192)
    assert field_of.state("advised")["commands"] == 0
    assert "only watched (mode advise)" in field_of.told("advised").sentence


@pytest.mark.parametrize("resident", [150, 0])  # 0: huge pages of a memfd, all of its RAM
def test_a_guest_in_huge_pages_costs_the_others_nothing(field_of: Field, resident: int) -> None:
    """16 GiB of 32 are a pool that is all one VM's. A riser gets 5 GiB and its margin at once, its neighbour is left in peace."""
    field_of.host(32 << 10, own=(16 << 10) + 600, meminfo="HugePages_Total: 8192\nHugepagesize: 2048 kB\nHugetlb: 16777216 kB\n")
    field_of.guest("huge", 16 << 10, use=[(0, 16 << 10, 1e9)], resident=resident, huge=16 << 10)
    for name, use in (("riser", [(0, 2048, 1e9), (8, 5120, 1024)]), ("calm", [(0, 2048, 1e9)])):
        field_of.guest(name, 8192, keep=5120, use=use)
    field_of.run()
    field_of.until(lambda: field_of.state("riser")["used"] >= 5119)
    field_of.until(lambda: field_of.state("riser")["keep"] > 5120 + 64)
    field_of.always(lambda: field_of.state("riser")["keep"] > 5120 and not field_of.status().guests[0].short_bytes, 3)
    assert field_of.state("riser")["paged_out"] == field_of.state("calm")["paged_out"] == 0
    assert field_of.state("calm")["lowest"] > 2048 + 64
    status = field_of.status().host
    assert status.total_bytes == 16 << 30
    assert status.promised_bytes <= status.guests_bytes
    assert "huge pages" in field_of.told("huge").leave_alone


def test_what_the_host_has_paged_out_is_in_use(field_of: Field) -> None:
    """A guest uses 6 of 8 GiB, 4 of which lie in the host's swap; another one wants memory. It never goes below 6."""
    field_of.host(13 << 10, own=512)
    field_of.guest("swapped", 8192, use=[(0, 6144, 1e9)], resident=2150, swapped=4096)
    field_of.guest("riser", 8192, use=[(0, 2048, 1e9), (5, 6800, 800)], keep=4096)
    field_of.run()
    field_of.until(lambda: field_of.state("riser")["used"] >= 6799)
    field_of.always(lambda: field_of.state("swapped")["lowest"] >= 6144, 6)
    assert field_of.told("swapped").used_bytes is not None
    assert (field_of.told("swapped").used_bytes or 0) > 6000 << 20


def test_who_has_nothing_available_gives_nothing(field_of: Field) -> None:
    """A guest of 16 GiB with an untouched pool of huge pages inside, 3 GiB in use: nothing is taken while the host has plenty."""
    field_of.host(28 << 10, own=512)
    field_of.guest("pool", 16 << 10, use=[(0, 3000, 1e9)], inside=13384)
    field_of.guest("other", 8192, use=[(0, 2048, 1e9), (4, 5000, 800)], keep=4096)
    field_of.run()
    field_of.until(lambda: field_of.state("other")["used"] >= 4999)
    field_of.always(lambda: field_of.state("pool")["lowest"] == 16 << 10, 5)
    assert field_of.state("other")["paged_out"] == 0


def test_memory_that_no_count_shows_is_left_alone(field_of: Field) -> None:
    """A TDX guest's memory (guest_memfd): it counts the same on both sides of the sum, and nobody else pays for it."""
    field_of.host(96 << 10, own=52 << 10)
    field_of.guest("tdx", 64 << 10, use=[(0, 50 << 10, 1e9)], resident=300, files=["anon_inode:[kvm-gmem]"])
    field_of.guest("vm", 8192, use=[(0, 3000, 1e9)])
    field_of.run()
    field_of.always(lambda: field_of.state("tdx")["commands"] == 0 and field_of.state("vm")["lowest"] > 3000, 4)
    assert "guest_memfd" in field_of.told("tdx").leave_alone
    status = field_of.status().host
    assert status.promised_bytes <= status.guests_bytes
