"""A real libvirtd with ballonet's hook: a domain starts when its room is there, on a made-up host with scripted guests."""

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

libvirt = pytest.importorskip("libvirt", reason="no libvirt-python; as root: tools/setup libvirt")

from ballonet.sense.hooks import SOURCE
from daemons import PROGRAM
from field_host import Field, made_up
from libvirtd import DOMAIN, Guests, Libvirtd, another_libvirtd

MIB = 1 << 20


@contextlib.contextmanager
def full_host() -> Iterator[Field]:
    """Three guests of 1 GiB have nearly all of 3,400 MiB, and could spare two thirds. The hook runs as nobody, as libvirtd does
    here, and must be let in.
    """
    with tempfile.TemporaryDirectory(prefix="ballonet-field-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with made_up(folder) as field:
            field.host(3400, own=0)
            for guest in ("a", "b", "c"):
                field.guest(guest, 1024, use=[(0, 300, 1e9)], cache=724)
            field.run()
            field.until(lambda: all(one.used_bytes is not None for one in field.status().guests))
            let_in(field)
            yield field


def let_in(field: Field) -> None:
    (field.folder / "control.sock").chmod(0o666)
    (field.folder / "ballonet.toml").chmod(0o644)


def with_room(field: Field, **keys: object) -> None:
    """What the hook reads; the daemon does not care."""
    config = field.folder / "ballonet.toml"
    rest = config.read_text().split("[room]")[0]
    config.write_text(rest + "[room]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))


def rooms(field: Field) -> dict[str, dict[str, Any]]:
    words = [str(PROGRAM), "room", "--json", "-c", str(field.folder / "ballonet.toml")]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return {one["name"]: one for one in json.loads(told)}


@pytest.fixture
def host() -> Iterator[Field]:
    with full_host() as field:
        yield field


@pytest.fixture
def hooked(host: Field) -> Iterator[Libvirtd]:
    script = SOURCE.read_text().replace('"/etc/ballonet/ballonet.toml"', f'"{host.folder}/ballonet.toml"', 1)
    with another_libvirtd(script) as daemon:
        yield daemon


@pytest.fixture
def guests(hooked: Libvirtd) -> Iterator[Guests]:
    connection = libvirt.open(hooked.uri)
    yield Guests(hooked, connection)
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()


def until(holds: Callable[[], object]) -> None:
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < 60, "it does not come to hold"
        time.sleep(0.1)


def test_a_domain_starts_when_its_room_is_there(host: Field, guests: Guests) -> None:
    """512 MiB and what QEMU takes are free when it does; what was kept is free again when it has gone."""
    with_room(host, hook_wait_s=30)
    domain = guests.start("new")
    room = rooms(host)["new"]
    assert room["state"] == "ready"
    assert room["key"] == domain.UUIDString()
    assert room["granted_bytes"] == (512 + 96) * MIB
    free = host.total - sum(one["resident"] for one in host.states().values())
    assert free >= 512 + 96
    domain.destroy()
    until(lambda: rooms(host)["new"]["state"] == "cancelled")


def test_whoever_starts_a_domain_reads_why_there_is_no_room(host: Field, guests: Guests) -> None:
    """Where the operator wants it refused."""
    with_room(host, hook_wait_s=30, when_refused="refuse")
    xml = DOMAIN.format(name="big", folder=guests.daemon.folder, balloon="virtio").replace(">512<", ">4096<")
    with pytest.raises(libvirt.libvirtError, match=r"big waits: it is to have 4 GiB|no room for big"):
        guests.connection.createXML(xml)
    assert rooms(host)["big"]["state"] == "refused"


def test_it_starts_all_the_same_where_the_operator_has_not_said(host: Field, guests: Guests) -> None:
    """Refused or not: a host that was never asked to keep rooms starts its VMs as ever."""
    with_room(host, hook_wait_s=2)
    host.say("a", use=[(0, 1000, 1e9)])
    host.say("b", use=[(0, 1000, 1e9)])
    host.say("c", use=[(0, 1000, 1e9)])
    until(lambda: all(host.state(name)["used"] > 990 for name in "abc"))
    assert guests.start("new").isActive()


@pytest.mark.parametrize("when", ["killed", "never"])
def test_it_starts_without_a_daemon(host: Field, guests: Guests, when: str) -> None:
    """One that was killed with -9, and a socket that is not there."""
    assert host.daemon is not None
    host.daemon.kill()
    host.daemon.wait()
    if when == "never":
        (host.folder / "control.sock").unlink()
    assert guests.start("new").isActive()


def test_a_libvirtd_that_dies_in_the_hook_leaves_no_room_for_ever(host: Field, guests: Guests) -> None:
    """Nobody calls release then: the room ends by itself. Meanwhile whoever lists domains waits no longer than the hook does."""
    with_room(host, hook_wait_s=20)
    for name in "abc":
        host.say(name, use=[(0, 800, 1e9)])
    until(lambda: all(host.state(name)["used"] > 790 for name in "abc"))
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(guests.start, "new")
        until(lambda: "new" in rooms(host))
        guests.daemon.kill()
        with pytest.raises(libvirt.libvirtError):
            starting.result()
    room = rooms(host)["new"]
    assert room["state"] in {"queued", "gathering", "ready"}
    assert room["expires_at"] < time.time() + 200


def test_listing_domains_waits_no_longer_than_the_hook(host: Field, guests: Guests) -> None:
    """It holds the starting domain meanwhile, and with it every list."""
    with_room(host, hook_wait_s=3)
    for name in "abc":
        host.say(name, use=[(0, 900, 1e9)])
    until(lambda: all(host.state(name)["used"] > 890 for name in "abc"))
    with ThreadPoolExecutor() as pool, contextlib.closing(libvirt.open(guests.daemon.uri)) as other:
        starting = pool.submit(guests.start, "new")
        until(lambda: "new" in rooms(host))
        listed = pool.submit(other.listAllDomains)
        assert [one.name() for one in listed.result(60)] in (["new"], [])
        starting.result(60)
