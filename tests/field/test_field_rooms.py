"""`ballonet room` by hand, on a made-up host with scripted guests: asked for, gathered, taken, refused, over (R18)."""

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from daemons import PROGRAM
from field_host import Field, made_up

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


def history(field: Field) -> list[dict[str, Any]]:
    words = [str(PROGRAM), "history", "--json", "-c", str(field.folder / "ballonet.toml")]
    found: list[dict[str, Any]] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return found


def available(field: Field) -> int:
    return field.total - sum(int(one["resident"]) for one in field.states().values())


def filled(field: Field) -> Field:
    """A full host that could spare much."""
    field.host(TOTAL, own=0)
    for name in ("a", "b", "c"):
        field.guest(name, SIZE, use=[(0, USED, 1e9)], cache=SIZE - USED)
    field.run()
    field.until(lambda: all(one.used_bytes is not None for one in field.status().guests))
    return field


@pytest.fixture
def host(field_of: Field) -> Field:
    """One for a test that changes it."""
    return filled(field_of)


@pytest.fixture(scope="module")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with made_up(tmp_path_factory.mktemp("rooms")) as field:
        yield filled(field)


@pytest.fixture
def shared(one_for_all: Field) -> Iterator[Field]:
    """One for tests that take back what they asked for."""
    yield one_for_all
    for name, one in rooms(one_for_all).items():
        if one["state"] in {"asked", "queued", "gathering", "ready"}:
            room(one_for_all, "--cancel", name)


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
    host.until(lambda: "room-settled" in [one["reason"] for one in history(host)])
    reasons = [one["reason"] for one in history(host) if one["guest"] == "d" and one["reason"].startswith("room-")]
    assert reasons[0] == "room-asked"
    assert reasons[-3:] == ["room-ready", "room-taken", "room-settled"]
    assert any(one["reason"] == "room" for one in history(host)), "who gives says what for"


def test_what_cannot_be_had_is_refused_at_once(shared: Field) -> None:
    """Nothing is moved for it; it is said who holds what."""
    told = room(shared, "3GiB", "--for", "big", code=1)
    assert "no room for big: 3 GiB asked" in told
    assert "which it needs" in told
    assert "shut a guest down" in told
    assert rooms(shared)["big"]["state"] == "refused"
    assert all(shared.state(name)["keep"] > USED + 100 for name in "abc")


def test_less_is_taken_where_less_will_do(shared: Field) -> None:
    """`--at-least`: what can be had, and no less."""
    can = rooms_can(shared)
    told = json.loads(room(shared, "3GiB", "--for", "big", "--at-least", "512MiB", "--wait", "60s", "--json"))
    assert told["state"] == "ready"
    assert 512 << 20 <= told["granted_bytes"] <= can * 1.1


def rooms_can(host: Field) -> int:
    """What a refused room was told that could be had."""
    room(host, "64GiB", "--for", "never", code=1)
    return int(rooms(host)["never"]["can_bytes"])


def test_asked_twice_it_is_one_room(shared: Field) -> None:
    """The key is the VM: a hook that is called again, or one after a command by hand, finds the same."""
    room(shared, "800MiB", "--for", "d", "--wait", "60s")
    room(shared, "800MiB", "--for", "d", "--wait", "60s")
    assert [one["name"] for one in rooms(shared).values() if one["state"] == "ready"] == ["d"]
    room(shared, "--cancel", "d")
    assert rooms(shared)["d"]["state"] == "cancelled"
    assert "nothing to take back" in room(shared, "--cancel", "d", code=1)


def test_who_waits_queues_and_who_does_not_is_refused(shared: Field) -> None:
    """The second cannot be had besides the first: it waits until that is taken back."""
    room(shared, "1GiB", "--for", "d", "--wait", "60s")
    assert "no room for e" in room(shared, "1500MiB", "--for", "e", code=1)
    assert "waits" in room(shared, "1500MiB", "--for", "f", "--wait", "1s", code=4)
    assert rooms(shared)["f"]["state"] == "queued"
    room(shared, "--cancel", "d")
    shared.until(lambda: rooms(shared)["f"]["state"] == "ready")


def test_a_room_that_nobody_takes_ends_by_itself(shared: Field) -> None:
    """Nothing stays reserved for ever."""
    room(shared, "800MiB", "--for", "d", "--wait", "60s", "--expires", "2s")
    shared.until(lambda: rooms(shared)["d"]["state"] == "expired")
    assert "has not started within" in rooms(shared)["d"]["sentence"]


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
    """It gets what was gathered, which is told."""
    room(host, "1GiB", "--for", "d", "--wait", "60s", "--expires", "10m")
    host.say("a", use=[(0, 950, 60)])
    host.say("b", use=[(0, 950, 60)])
    host.until(lambda: host.state("a")["used"] > 940 and host.state("b")["used"] > 940)
    host.until(lambda: rooms(host)["d"]["reason"] in {"room-again", "room-stalled"})
    assert not [one.name for one in host.status().guests if one.short_bytes]


def test_a_vm_that_runs_needs_none(shared: Field) -> None:
    """A name that is up already is a mistake."""
    assert "runs already" in room(shared, "100MiB", "--for", "a", code=1)


def test_on_a_host_that_only_watches(host: Field) -> None:
    """Nothing is moved, nothing is kept, and it says what there is."""
    subprocess.run([PROGRAM, "mode", "observe", "-c", host.folder / "ballonet.toml"], check=True, capture_output=True)
    told = room(host, "800MiB", "--for", "d", code=3)
    assert "nothing is moved in mode observe" in told
    assert "ballonet mode act" in told


def test_metrics_and_status_tell_of_rooms(shared: Field) -> None:
    """By name, UUID and state."""
    room(shared, "800MiB", "--for", "d", "--wait", "60s")
    config = shared.folder / "ballonet.toml"
    told = subprocess.run([PROGRAM, "status", "-c", config], capture_output=True, text=True, check=True).stdout
    assert "it can start now" in told
    text = shared.metrics()
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
