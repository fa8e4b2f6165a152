"""What is odd about one guest, or the host's files, is no other guest's loss. Scripted guests at real QMP sockets, mode act."""

import json
import sqlite3
from typing import Any

import pytest

from field_host import Field

GIB = 1 << 10
HUGE = 10**400
"""No float holds it, and no decoder refuses it."""
STATS = dict.fromkeys(
    (f"stat-{name}" for name in ("total-memory", "free-memory", "available-memory", "disk-caches", "swap-in", "swap-out")), HUGE
)
ODD: dict[str, dict[str, Any]] = {
    "huge-base": {"query-memory-size-summary": {"base-memory": HUGE}},
    "negative-base": {"query-memory-size-summary": {"base-memory": -1}},
    "base-in-words": {"query-memory-size-summary": {"base-memory": "8 GiB"}},
    "huge-actual": {"query-balloon": {"actual": HUGE}},
    "half-actual": {"query-balloon": {"actual": 1.5}},
    "true-actual": {"query-balloon": {"actual": True}},
    "huge-dimm": {"query-memory-devices": [{"type": "dimm", "data": {"size": HUGE}}]},
    "no-devices": {"query-memory-devices": {"type": "dimm"}},
    "huge-stats": {"guest-stats": {"last-update": 1, "stats": STATS}},
    "huge-update": {"guest-stats": {"last-update": HUGE, "stats": {}}},
    "no-status": {"query-status": {}},
    "odd-version": {"query-version": {"qemu": 7}},
}


def beside(field_of: Field) -> None:
    """Two that are as they should be: one can give, one comes to need more."""
    field_of.guest("giver", 8 * GIB, use=[(0, 2 * GIB, 1e9)])
    field_of.guest("riser", 8 * GIB, keep=4 * GIB, use=[(0, 3 * GIB, 1e9), (4, 7 * GIB, 500)])


def is_well(field_of: Field) -> None:
    """The riser has what it needs, everybody who asks is answered, history is written, and no tick has failed."""
    field_of.until(lambda: field_of.state("riser")["keep"] > 7 * GIB)
    assert field_of.told("giver").used_bytes

    def is_written() -> bool:
        with sqlite3.connect(field_of.folder / "state-of-daemon/history.db") as history:
            return bool(history.execute("SELECT COUNT(*) FROM ticks").fetchone()[0] > 3)

    field_of.until(is_written)
    lines = [json.loads(line) for line in (field_of.folder / "log").read_text().splitlines()]
    assert not [line for line in lines if "tick failed" in line["event"] or "not written" in line["event"]]


def test_odd_answers_of_one_guest(field_of: Field) -> None:
    """Of each form there is: its own loss alone, told once each."""
    field_of.host(13 * GIB + len(ODD) * GIB)
    beside(field_of)
    for name, answers in ODD.items():
        field_of.guest(name, GIB, use=[(0, GIB // 2, 1e9)], answers=answers)
    field_of.run(seen=0)
    field_of.until(lambda: {"giver", "riser"} <= {one.name for one in field_of.status().guests})
    is_well(field_of)
    text = (field_of.folder / "log").read_text()
    assert all(text.count(f'"guest": "{name}"') < 12 for name in ODD)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("self/mountinfo", b"50 30 8:17 / /media/caf\xe9 rw - ext4 /dev/sdb1 rw\n"),
        ("self/cgroup", b"0::/caf\xe9.slice\n"),
        ("pressure/memory", b"caf\xe9 avg10=x\n"),
        ("swaps", b"Filename Type\n/caf\xe9 file 1 0 -2\n"),
        ("spl/kstat/zfs/arcstats", b"1\nname type data\ncaf\xe9 4 1\n"),
    ],
)
def test_host_files_with_bytes_that_are_no_text(field_of: Field, path: str, line: bytes) -> None:
    """Names of mounts and groups are bytes."""
    file = field_of.folder / "root/proc" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(line)
    field_of.host(13 * GIB)
    beside(field_of)
    field_of.run()
    is_well(field_of)


def test_names_with_bytes_that_are_no_text(field_of: Field) -> None:
    """Of a socket, where QEMU has no other name, and of a group around some guests."""
    field_of.host(14 * GIB, groups={"/caf\udce9.slice": 6 * GIB})
    beside(field_of)
    field_of.guest("odd", GIB, use=[(0, GIB // 2, 1e9)], socket="caf\\xe9", says_name=False, group="/caf\\xe9.slice")
    field_of.run()
    is_well(field_of)
    assert "caf\\xe9" in {one.name for one in field_of.status().guests}


def test_one_guest_with_two_sockets_is_one_guest(field_of: Field) -> None:
    """It is counted once, and steered by one."""
    field_of.host(14 * GIB)
    beside(field_of)
    (field_of.folder / "q/twin.sock").symlink_to(field_of.folder / "q/giver.sock")
    field_of.run(seen=2)
    is_well(field_of)
    assert len(field_of.status().guests) == 2
    assert "another QMP socket" in (field_of.folder / "log").read_text()


def test_a_late_answer_is_asked_for_again(field_of: Field) -> None:
    """Whether memory is encrypted: what was not answered in time is not a no."""
    field_of.host(13 * GIB)
    beside(field_of)
    field_of.guest("secret", 4 * GIB, use=[(0, GIB, 1e9)], objects=["child<sev-snp-guest>"], late={"/objects": 1.5})
    field_of.run(seen=3)
    field_of.until(lambda: "encrypted" in field_of.told("secret").leave_alone)
    is_well(field_of)
    assert field_of.state("secret")["commands"] == 0


def test_a_disk_image_may_be_called_anything(field_of: Field) -> None:
    """What pins memory are devices, not names."""
    field_of.host(13 * GIB)
    beside(field_of)
    names = ["/var/lib/images/vfio-test.img", "/srv/kvm-gmem.qcow2", "/backup/dev/sev.img", "/x/vhost-vdpa"]
    field_of.guest("plain", 4 * GIB, use=[(0, GIB, 1e9)], files=names)
    field_of.run()
    is_well(field_of)
    assert not field_of.told("plain").leave_alone
