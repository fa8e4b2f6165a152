"""What cannot be ballooned is left alone, and counts at what it occupies. Scripted guests at real QMP sockets, mode act."""

import pytest

from field_host import Field

GIB = 1 << 10


def crowd(field_of: Field, **script: object) -> None:
    """One that is odd and uses 2 of 8 GiB, beside one that wants all that it can get."""
    field_of.host(14 * GIB, own=0)
    field_of.guest("odd", 8 * GIB, **({"use": [(0, 2 * GIB, 1e9)]} | script))
    field_of.guest("riser", 8 * GIB, keep=5 * GIB, use=[(0, 3 * GIB, 1e9), (4, 7 * GIB, 500)])


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ({"files": ["/dev/vhost-vdpa-0"]}, "vDPA"),
        ({"devices": ["child<vhost-vdpa-device-pci>"]}, "vDPA"),
        ({"devices": ["child<vfio-pci>"]}, "VFIO"),
        ({"objects": ["child<sev-guest>"]}, "encrypted"),
        ({"objects": ["child<sev-snp-guest>"]}, "encrypted"),
        ({"objects": ["child<tdx-guest>"]}, "encrypted"),
        ({"objects": ["child<s390-pv-guest>"]}, "encrypted"),
        ({"migration": "postcopy-paused"}, "migrated"),
        ({"migration": "colo"}, "migrated"),
        ({"migration": "cancelling"}, "migrated"),
        ({"run_state": "paused"}, "not running"),
    ],
)
def test_what_inhibits_a_balloon(field_of: Field, script: dict[str, object], why: str) -> None:
    """No command, the reason in words, and the other one has what it needs."""
    crowd(field_of, **script)
    field_of.run()
    field_of.until(lambda: why in field_of.told("odd").leave_alone)
    field_of.until(lambda: field_of.state("riser")["keep"] > 7 * GIB)
    assert field_of.state("odd")["commands"] == 0


def test_a_balloon_that_frees_nothing(field_of: Field) -> None:
    """No list knows why: after the first two takes it is found out, gets back what it gave, and is left alone."""
    field_of.host(14 * GIB, own=0)
    field_of.guest("odd", 8 * GIB, use=[(0, 2 * GIB, 1e9)], cache=6 * GIB, is_inert=True)
    field_of.guest("riser", 8 * GIB, keep=5 * GIB, use=[(0, 3 * GIB, 1e9), (4, 7 * GIB, 500)])
    field_of.run()
    field_of.until(lambda: "the host did not get it" in field_of.told("odd").leave_alone)
    field_of.until(lambda: field_of.state("odd")["keep"] == 8 * GIB)
    commands = field_of.state("odd")["commands"]
    field_of.always(lambda: field_of.state("odd")["commands"] == commands, 5)
    assert field_of.state("odd")["lowest"] > 5 * GIB
    assert "tried again" in " ".join(field_of.explain("odd").changes)


def test_what_is_plugged_in_later_is_seen(field_of: Field) -> None:
    """A DIMM and a device passed through, while it runs: QEMU sends no event for either."""
    crowd(field_of)
    field_of.run()
    field_of.until(lambda: field_of.told("odd").ceiling_bytes == 8 << 30)
    field_of.say("odd", memory_devices=[{"type": "dimm", "data": {"id": "d0", "size": 4 << 30}}])
    field_of.until(lambda: field_of.told("odd").ceiling_bytes == 12 << 30)
    field_of.say("odd", devices=["child<vfio-pci>"])
    field_of.until(lambda: "VFIO" in field_of.told("odd").leave_alone)


def test_several_virtio_mems_are_left_alone(field_of: Field) -> None:
    """With the reason; what they have is counted."""
    data = {"size": 1 << 30, "requested-size": 1 << 30, "max-size": 2 << 30, "block-size": 2 << 20}
    devices = [{"type": "virtio-mem", "data": {"id": f"v{number}"} | data} for number in range(2)]
    crowd(field_of, memory_devices=devices)
    field_of.run()
    field_of.until(lambda: "several virtio-mem" in field_of.told("odd").leave_alone)
    field_of.until(lambda: field_of.told("odd").keep_bytes == 10 << 30)
    assert field_of.state("odd")["commands"] == 0
