"""`ballonet room` by hand, on a made-up host with scripted guests: asked for, gathered, taken, refused, over (R18)."""

import json
import signal
import subprocess
from typing import Any

import pytest

from daemons import PROGRAM
from field_host import Field

SIZE, USED = 1024, 300
TOTAL = 3400
"""Of the host: three guests of 1 GiB have nearly all of it, and use less than a third."""


def room(field: Field, *words: str, code: int = 0) -> str:
    """What the command prints, with the exit code that is expected of it."""
    config = field.folder / "ballonet.toml"
    done = subprocess.run([PROGRAM, "room", *words, "-c", config], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout or done.stderr


def rooms(field: Field) -> dict[str, dict[str, Any]]:
    """All that there are, by name."""
    return {one["name"]: one for one in json.loads(room(field, "--json"))}


def available(field: Field) -> int:
    return field.total - sum(int(one["resident"]) for one in field.states().values())


@pytest.fixture
def host(field_of: Field) -> Field:
    """A full host that could spare much."""
    field_of.host(TOTAL, own=0)
    for name in ("a", "b", "c"):
        field_of.guest(name, SIZE, use=[(0, USED, 1e9)], cache=SIZE - USED)
    field_of.run()
    field_of.until(lambda: all(one.used_bytes is not None for one in field_of.status().guests))
    return field_of


def test_a_vm_starts_when_its_room_is_there(host: Field) -> None:
    """1 GiB is asked for and gathered; the guest that comes under that name takes it, and nobody runs short."""
    told = room(host, "1GiB", "--for", "d", "--wait", "60s")
    assert "can start now" in told
    assert available(host) >= 1024
    assert rooms(host)["d"]["state"] == "ready"
    host.guest("d", SIZE, use=[(0, 900, 1e9)])
    host.until(lambda: rooms(host)["d"]["state"] == "settled")
    assert host.least_available >= 0
    assert host.told("d").keep_bytes == SIZE << 20, "it is not squeezed right after its start"
    told = subprocess.run(
        [PROGRAM, "history", "--json", "-c", host.folder / "ballonet.toml"], capture_output=True, text=True, check=True
    ).stdout
    reasons = [one["reason"] for one in json.loads(told) if one["guest"] == "d" and one["reason"].startswith("room-")]
    assert reasons[0] == "room-asked"
    assert reasons[-3:] == ["room-ready", "room-taken", "room-settled"]
    assert any(one["reason"] == "room" for one in json.loads(told)), "who gives says what for"


def test_what_cannot_be_had_is_refused_at_once(host: Field) -> None:
    """Nothing is moved for it; it is said who holds what."""
    told = room(host, "3GiB", "--for", "big", code=1)
    assert "no room for big: 3 GiB asked" in told
    assert "which it needs" in told
    assert "shut a guest down" in told
    assert rooms(host)["big"]["state"] == "refused"
    assert all(host.state(name)["keep"] > USED + 100 for name in "abc")


def test_less_is_taken_where_less_will_do(host: Field) -> None:
    """`--at-least`: what can be had, and no less."""
    can = rooms_can(host)
    told = json.loads(room(host, "3GiB", "--for", "big", "--at-least", "512MiB", "--wait", "60s", "--json"))
    assert told["state"] == "ready"
    assert 512 << 20 <= told["granted_bytes"] <= can * 1.1


def rooms_can(host: Field) -> int:
    """What a refused room was told that could be had."""
    room(host, "64GiB", "--for", "never", code=1)
    return int(rooms(host)["never"]["can_bytes"])


def test_asked_twice_it_is_one_room(host: Field) -> None:
    """The key is the VM: a hook that is called again, or one after a command by hand, finds the same."""
    room(host, "800MiB", "--for", "d", "--wait", "60s")
    room(host, "800MiB", "--for", "d", "--wait", "60s")
    assert list(rooms(host)) == ["d"]
    room(host, "--cancel", "d")
    assert rooms(host)["d"]["state"] == "cancelled"
    assert "nothing to take back" in room(host, "--cancel", "d", code=1)


def test_who_waits_queues_and_who_does_not_is_refused(host: Field) -> None:
    """The second cannot be had besides the first: it waits until that is taken back."""
    room(host, "1GiB", "--for", "d", "--wait", "60s")
    assert "no room for e" in room(host, "1500MiB", "--for", "e", code=1)
    assert "waits" in room(host, "1500MiB", "--for", "f", "--wait", "1s", code=4)
    assert rooms(host)["f"]["state"] == "queued"
    room(host, "--cancel", "d")
    host.until(lambda: rooms(host)["f"]["state"] == "ready")


def test_a_room_that_nobody_takes_ends_by_itself(host: Field) -> None:
    """Nothing stays reserved for ever."""
    room(host, "800MiB", "--for", "d", "--wait", "60s", "--expires", "2s")
    host.until(lambda: rooms(host)["d"]["state"] == "expired")
    assert "has not started within" in rooms(host)["d"]["sentence"]


@pytest.mark.parametrize("wait", ["60s", ""], ids=["ready", "gathering"])
def test_a_daemon_that_is_killed_knows_its_rooms(host: Field, wait: str) -> None:
    """Each state but those that are over outlives kill -9."""
    words = ("1GiB", "--for", "d", "--expires", "10m")
    room(host, *words, *(("--wait", wait) if wait else ()), code=0 if wait else 4)
    assert host.daemon is not None
    host.daemon.send_signal(signal.SIGKILL)
    host.daemon.wait()
    host.restart()
    host.until(lambda: rooms(host)["d"]["state"] == "ready")
    host.guest("d", SIZE, use=[(0, 500, 1e9)])
    host.until(lambda: rooms(host)["d"]["state"] == "settled")
    assert host.least_available >= 0


def test_a_guest_in_need_comes_before_a_room(host: Field) -> None:
    """It gets what was gathered, which is told; what does not come back is given up, and waited for."""
    room(host, "1GiB", "--for", "d", "--wait", "60s", "--expires", "10m")
    host.say("a", use=[(0, 950, 60)])
    host.say("b", use=[(0, 950, 60)])
    host.until(lambda: host.state("a")["used"] > 940 and host.state("b")["used"] > 940)
    host.until(lambda: rooms(host)["d"]["reason"] in {"room-again", "room-stalled"})
    host.until(lambda: rooms(host)["d"]["state"] == "queued", 90)
    assert "can be had now" in rooms(host)["d"]["sentence"]
    assert not [one.name for one in host.status().guests if one.short_bytes]


def test_a_vm_that_runs_needs_none(host: Field) -> None:
    """A name that is up already is a mistake."""
    assert "runs already" in room(host, "100MiB", "--for", "a", code=1)


def test_on_a_host_that_only_watches(host: Field) -> None:
    """Nothing is moved, nothing is kept, and it says what there is."""
    subprocess.run([PROGRAM, "mode", "observe", "-c", host.folder / "ballonet.toml"], check=True, capture_output=True)
    told = room(host, "800MiB", "--for", "d", code=3)
    assert "nothing is moved in mode observe" in told
    assert "ballonet mode act" in told


def test_metrics_and_status_tell_of_rooms(host: Field) -> None:
    """By name, UUID and state."""
    room(host, "800MiB", "--for", "d", "--wait", "60s")
    config = host.folder / "ballonet.toml"
    told = subprocess.run([PROGRAM, "status", "-c", config], capture_output=True, text=True, check=True).stdout
    assert "it can start now" in told
    text = host.metrics()
    assert 'ballonet_room_bytes{domain="d",uuid="d",state="ready"} 838860800.0' in text
    assert "ballonet_room_wait_seconds" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("16GiB",), "which VM, and how much"),
        (("--for", "d"), "which VM, and how much"),
        (("much", "--for", "d"), "SIZE: 'much' is not a size"),
        (("16", "--for", "d"), "SIZE: '16' has no unit"),
        (("0B", "--for", "d"), "no size of a VM"),
        (("1GiB", "--for", "d", "--at-least", "2GiB"), "--at-least: 2GiB is more than the 1GiB"),
        (("1GiB", "--for", "d", "--wait", "soon"), "'soon' is no span"),
        (("1GiB", "--for", "d", "--expires", "3d"), "--expires: give at most a day"),
        (("1GiB", "--cancel", "d"), "--cancel takes no SIZE"),
    ],
)
def test_wrong_words_are_told(field_of: Field, words: tuple[str, ...], says: str) -> None:
    """By the option that is wrong, with exit code 2."""
    (field_of.folder / "ballonet.toml").write_text(f'[control]\nsocket = "{field_of.folder}/none.sock"\n')
    assert says in room(field_of, *words, code=2)


def test_without_a_daemon(field_of: Field) -> None:
    """Exit code 3: a hook lets the VM start then."""
    (field_of.folder / "ballonet.toml").write_text(f'[control]\nsocket = "{field_of.folder}/none.sock"\n')
    assert "no daemon answers" in room(field_of, "1GiB", "--for", "d", code=3)
