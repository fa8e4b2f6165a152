"""Who gives when it does not fit, and what is taken when it is missing. Scripted guests at real QMP sockets, mode act."""

import pytest

from field_host import Field


def test_a_leak_gives_what_is_not_its_part(field_of: Field) -> None:
    """80 GiB, five equal guests: one leaks to 63, four rise from 8 to 12. Four get 12 and page nothing; the leak is named."""
    gib = 1 << 10
    field_of.host(80 * gib, own=0)
    field_of.guest("leak", 64 * gib, keep=16 * gib, use=[(0, 8 * gib, 1e9), (2, 63 * gib, 1.5 * gib)])
    for number in range(4):
        field_of.guest(f"vm-{number}", 16 * gib, keep=12 * gib, use=[(0, 8 * gib, 1e9), (44 + number, 12 * gib, 100)])
    field_of.run()
    vms = [f"vm-{number}" for number in range(4)]
    field_of.until(lambda: all(field_of.state(vm)["used"] >= 12 * gib - 1 for vm in vms), 120)
    field_of.until(lambda: all(field_of.state(vm)["keep"] > 12 * gib for vm in vms))
    assert [field_of.state(vm)["paged_in"] for vm in vms] == [0, 0, 0, 0]
    field_of.until(lambda: field_of.told("leak").reason == "leak")
    assert "grows without end" in field_of.explain("leak").sentence
    assert all("--shares" not in change for change in field_of.explain("leak").changes)
    assert not [one.name for one in field_of.status().guests if one.short_bytes]


def test_who_shows_swap_in_for_ever_keeps_its_part_and_no_more(field_of: Field) -> None:
    """Ten equal guests of 1 GiB on 5: one claims to page for ever, one needs 900 MiB. Both end within 5 % of each other."""
    field_of.host(5 << 10, own=0)
    field_of.guest("hostile", 1024, keep=500, use=[(0, 400, 1e9), (2, 1000, 200)], claims_swap_in=10.0, cache=0)
    for number in range(8):
        field_of.guest(f"calm-{number}", 1024, keep=500, use=[(0, 400, 1e9)])
    field_of.guest("victim", 1024, keep=500, use=[(0, 400, 1e9), (20, 900, 100)])
    field_of.run()
    field_of.until(lambda: field_of.state("victim")["used"] >= 899, 90)

    def is_even() -> bool:
        hostile, victim = field_of.state("hostile")["keep"], field_of.state("victim")["keep"]
        return bool(abs(hostile - victim) < 0.05 * (hostile + victim) / 2 or victim > 920)

    field_of.until(is_even)
    field_of.always(is_even, 5)


@pytest.mark.parametrize("script", [{"has_driver": False}, {"says": "nothing"}, {"moves": 0}], ids=["mute", "silent", "wedged"])
def test_nobody_pages_for_what_nobody_uses(field_of: Field, script: dict[str, object]) -> None:
    """64 GiB, four guests of 16 use 8; three VMs of 16 occupy 1 each, and have no driver, one that says nothing, or a balloon
    that does not move. Nobody is squeezed; one may still rise.
    """
    gib = 1 << 10
    field_of.host(64 * gib, own=0)
    for number in range(4):
        rise = [(8, 11 * gib, 800)] if number == 0 else []
        field_of.guest(f"vm-{number}", 16 * gib, use=[(0, 8 * gib, 1e9), *rise])
    for number in range(3):
        field_of.guest(f"mute-{number}", 16 * gib, use=[(0, gib, 1e9)], **script)
    field_of.run()
    field_of.until(lambda: field_of.state("vm-0")["used"] >= 11 * gib - 1)
    field_of.until(lambda: field_of.state("vm-0")["keep"] > 11 * gib)
    field_of.always(lambda: all(field_of.state(f"vm-{n}")["lowest"] >= 8 * gib for n in range(4)), 5)
    assert sum(field_of.state(f"vm-{number}")["paged_out"] for number in range(4)) == 0
    status = field_of.status().host
    assert status.promised_bytes <= status.guests_bytes


def test_as_much_is_taken_as_is_missing(field_of: Field) -> None:
    """The host's own use rises by 24 of 64 GiB and falls again: four warm guests give what is missing, and keep the rest."""
    gib = 1 << 10
    field_of.host(64 * gib, own=gib)
    for number in range(4):
        field_of.guest(f"vm-{number}", 16 * gib, keep=15 * gib, use=[(0, 5 * gib, 1e9)], cache=9 * gib)
    field_of.run()
    for step in range(24):
        field_of.own = (1 + step + 1) * gib
        field_of.until(lambda: True)
        field_of.always(lambda: True, 0.2)
    field_of.until(lambda: field_of.least_available < 2 * gib and not field_of.status().host.is_alarming, 90)
    missing = 25 * gib + 4 * 15 * gib - 64 * gib
    kept = [field_of.state(f"vm-{number}")["lowest"] for number in range(4)]
    taken = 4 * 15 * gib - sum(kept)
    assert missing <= taken < 1.15 * missing + 2 * gib


def test_a_reserve_is_pursued_as_far_as_it_goes(field_of: Field) -> None:
    """9,200 MiB on 16 GiB, of which guests can spare a little less: it goes as far as it can, and says how far that is."""
    field_of.host(16 << 10, own=0)
    for number in range(3):
        field_of.guest(f"vm-{number}", 4096, keep=3500, use=[(0, 1000, 1e9)], cache=2400)
    field_of.run(reserve=13200)
    field_of.until(lambda: "no more than" in field_of.status().host.sentence)
    field_of.until(lambda: sum(field_of.state(f"vm-{n}")["keep"] for n in range(3)) < 3 * 1320)
    assert min(field_of.state(f"vm-{n}")["lowest"] for n in range(3)) > 1000


def test_a_reserve_that_can_be_had_is_had(field_of: Field) -> None:
    """Within a fortieth of what was set."""
    field_of.host(16 << 10, own=0)
    for number in range(3):
        field_of.guest(f"vm-{number}", 4096, keep=3500, use=[(0, 1000, 1e9)], cache=2400)
    field_of.run(reserve=9200)
    field_of.until(lambda: sum(field_of.state(f"vm-{n}")["keep"] for n in range(3)) <= (16 << 10) - 9200 + 230)
