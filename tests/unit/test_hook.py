"""The hook that asks for room before a VM starts, as libvirt, Proxmox VE and a unit call it; and `ballonet hook`.

tests/domains/test_room_hook.py has it under a real libvirtd.
"""

import json
import os
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from ballonet.control import room_hook
from ballonet.daemon.config import ControlConfig, RoomConfig
from ballonet.model.units import parse_size
from ballonet.sense import hooks
from daemons import PROGRAM

XML = """<domain type='kvm'><name>web-3</name><uuid>88e3d2a0-0000-4000-8000-000000000003</uuid>
<memory unit='KiB'>16777216</memory><currentMemory unit='KiB'>4194304</currentMemory></domain>"""
ROOM: dict[str, Any] = {"state": "ready", "reason": "room-ready", "sentence": "it can start now", "helps": []}


@dataclass
class Daemon:
    """Answers at a socket what it is told to; hangs where it is told nothing."""

    path: Path
    answer: dict[str, Any] | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    """Before that one."""

    def serve(self) -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.path))
        listening.listen()
        threading.Thread(target=self._serve, args=(listening,), daemon=True).start()

    def _serve(self, listening: socket.socket) -> None:
        while True:
            one, _ = listening.accept()
            text = one.recv(65536).decode()
            head, _, body = text.partition("\r\n\r\n")
            self.asked.append((head.splitlines()[0], json.loads(body) if body else {}))
            if self.answer is None:
                continue
            told = self.answers.pop(0) if self.answers else self.answer
            one.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(told).encode())
            one.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    one = Daemon(tmp_path / "control.sock")
    one.serve()
    return one


def called(folder: Path, *words: str, stdin: str = XML, **keys: object) -> "subprocess.CompletedProcess[str]":
    """As libvirt calls it: a program of its own, by Python alone."""
    done, environment = script(folder, **keys)
    return subprocess.run([*done, *words], input=stdin, capture_output=True, text=True, check=False, timeout=60, env=environment)


def script(folder: Path, **keys: object) -> tuple[list[str], dict[str, str]]:
    """The hook with a configuration of its own: how it is called, in an empty environment."""
    config = folder / "ballonet.toml"
    rest = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    config.write_text(f'[control]\nsocket = "{folder}/control.sock"\n[room]\n{rest}')
    path = folder / "50-ballonet"
    path.write_text(hooks.SOURCE.read_text().replace('"/etc/ballonet/ballonet.toml"', repr(str(config)), 1))
    return [str(PROGRAM.with_name("python")), "-I", "-S", str(path)], {}


def test_its_defaults_are_those_of_the_configuration() -> None:
    """It reads the file by itself."""
    told = structs.asdict(RoomConfig()) | {"socket": ControlConfig().socket}
    assert told == room_hook.DEFAULTS


def test_before_a_start_it_asks_for_all_of_the_memory(tmp_path: Path, daemon: Daemon) -> None:
    """By the domain's UUID, with what QEMU takes; never a byte on stdout, which some operations take for the domain's XML."""
    daemon.answer = ROOM
    done = called(tmp_path, "web-3", "prepare", "begin", "-", hook_wait_s=7, overhead="100MiB")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    line, body = daemon.asked[0]
    assert line == "PUT /v1/rooms/88e3d2a0-0000-4000-8000-000000000003 HTTP/1.0"
    assert body == {"bytes": (16 << 30) + (100 << 20), "least_bytes": 16 << 30, "name": "web-3", "wait_s": 7.0}


def test_after_a_start_that_failed_it_takes_that_back(tmp_path: Path, daemon: Daemon) -> None:
    """`release` follows each `prepare`."""
    daemon.answer = ROOM
    assert called(tmp_path, "web-3", "release", "end", "-").returncode == 0
    assert daemon.asked[0][0].startswith("DELETE /v1/rooms/88e3d2a0-")


@pytest.mark.parametrize(
    "words",
    [
        ("start", "begin"),
        ("started", "begin"),
        ("stopped", "end"),
        ("reconnect", "begin"),
        ("migrate", "begin"),
        ("restore", "begin"),
    ],
)
def test_everything_else_is_let_pass(tmp_path: Path, daemon: Daemon, words: tuple[str, str]) -> None:
    """A `reconnect` that fails would end a running guest; `migrate` and `restore` take stdout for XML."""
    done = called(tmp_path, "web-3", *words, "-", when_down="refuse", when_refused="refuse")
    assert (done.returncode, done.stdout) == (0, "")
    assert not daemon.asked


@pytest.mark.parametrize(
    ("state", "reason", "when_refused", "code"),
    [
        ("refused", "room-watched", "refuse", 0),
        ("refused", "room-runs", "refuse", 0),
        ("refused", "room-short", "start", 0),
        ("refused", "room-short", "refuse", 1),
        ("gathering", "room-gathering", "refuse", 1),
        ("ready", "room-ready", "refuse", 0),
        ("refused", "room-mode", "refuse", 0),
        ("refused", "room-peer", "refuse", 0),
    ],
)
def test_whether_a_vm_without_room_starts_is_the_operators_choice(
    tmp_path: Path, daemon: Daemon, state: str, reason: str, when_refused: str, code: int
) -> None:
    """Who starts it reads why; a host that only watches refuses nothing."""
    daemon.answer = ROOM | {"state": state, "reason": reason, "sentence": "no room for web-3", "helps": ["lower a floor"]}
    done = called(tmp_path, "web-3", "prepare", "begin", "-", when_refused=when_refused)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == ("no room for web-3\n- lower a floor\n" if code else "")


@pytest.mark.parametrize(("when_down", "code"), [("start", 0), ("refuse", 1)])
@pytest.mark.parametrize("how", ["nobody", "hangs", "nonsense"])
def test_without_a_daemon_too(tmp_path: Path, when_down: str, code: int, how: str) -> None:
    """Nobody there, one that hangs, one that speaks nonsense: the hook ends by itself, in its time, as the operator said."""
    if how != "nobody":
        Daemon(tmp_path / "control.sock", answer=None if how == "hangs" else {"error": 5}).serve()
    done = called(tmp_path, "web-3", "prepare", "begin", "-", when_down=when_down, hook_wait_s=0.2)
    assert done.returncode == code
    assert bool(done.stderr) == bool(code)


def test_xml_that_is_none_stops_no_start(tmp_path: Path, daemon: Daemon) -> None:
    """Whatever comes, where the operator has not said otherwise."""
    for text in ("", "<domain>", "<domain><memory unit='parsec'>1</memory></domain>"):
        done = called(tmp_path, "web-3", "prepare", "begin", "-", stdin=text, when_refused="refuse")
        assert (done.returncode, done.stdout) == (0, "")
        assert called(tmp_path, "web-3", "prepare", "begin", "-", stdin=text, when_down="refuse").returncode == 1
    assert not daemon.asked


def test_proxmox_calls_it_with_an_id_and_a_phase(tmp_path: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size and UUID are in the VM's file, and its snapshots' are others'."""
    daemon.answer = ROOM
    (tmp_path / "104.conf").write_text(
        "memory: current=8192\nname: web\nsmbios1: uuid=11111111-2222-4333-8444-555555555555\n[before]\nmemory: 1\n"
    )
    monkeypatch.setattr(room_hook, "PVE", str(tmp_path))
    settings = room_hook.DEFAULTS | {"socket": str(daemon.path)}
    try:
        assert room_hook.of_proxmox("104", "pre-start", settings) == 0
        assert room_hook.of_proxmox("104", "post-start", settings) == 0
        assert room_hook.of_proxmox("104", "post-stop", settings) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    (put, body), (delete, _) = daemon.asked
    assert put.startswith("PUT /v1/rooms/11111111-2222-4333-8444-555555555555 ")
    assert (body["least_bytes"], body["name"]) == (8 << 30, "web")
    assert delete.startswith("DELETE ")


def test_a_unit_names_vm_and_size(tmp_path: Path, daemon: Daemon) -> None:
    """And how long it may wait; a name is a name, whatever is in it."""
    daemon.answer = ROOM
    assert called(tmp_path, "a b/c", "16GiB", "90").returncode == 0
    line, body = daemon.asked[0]
    assert line.startswith("PUT /v1/rooms/a%20b%2Fc ")
    assert (body["least_bytes"], body["wait_s"]) == (16 << 30, 90.0)
    assert called(tmp_path, "web").returncode == 2


def test_it_waits_as_long_as_it_is_told(tmp_path: Path, daemon: Daemon) -> None:
    """One answer comes sooner: it asks again until the time is over, or the room is there."""
    daemon.answers = [ROOM | {"state": "queued", "reason": "room-queued"}] * 3
    daemon.answer = ROOM
    assert called(tmp_path, "web-3", "16GiB", "30").returncode == 0
    assert len(daemon.asked) == 4


def test_a_hook_that_gets_no_xml_ends_by_itself(tmp_path: Path, daemon: Daemon) -> None:
    """Whatever hangs."""
    daemon.answer = ROOM
    done, _ = script(tmp_path, hook_wait_s=0.2)
    with subprocess.Popen([*done, "web-3", "prepare", "begin", "-"], stdin=subprocess.PIPE) as process:
        assert process.wait(60) == 0
    assert not daemon.asked


def test_huge_pages_are_no_ordinary_memory(tmp_path: Path, daemon: Daemon) -> None:
    """They come from a pool of their own: only what QEMU takes is asked for."""
    daemon.answer = ROOM
    text = XML.replace("</domain>", "<memoryBacking><hugepages/></memoryBacking></domain>")
    assert called(tmp_path, "web-3", "prepare", "begin", "-", stdin=text).returncode == 0
    assert daemon.asked[0][1]["bytes"] == 96 << 20


@pytest.mark.parametrize("text", ["512MiB", "1GB", "2 G", "0.5GiB"])
def test_sizes_are_the_daemons(text: str) -> None:
    """In whatever unit."""
    assert room_hook.size_of(text) == parse_size(text)


# The command


def hook(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAM, "hook", *words], capture_output=True, text=True, check=False)


def test_it_is_put_in_place_and_taken_away(tmp_path: Path) -> None:
    """Executable, and said what is to be done."""
    (tmp_path / "etc/libvirt").mkdir(parents=True)
    done = hook("libvirt", "--root", str(tmp_path), "-c", str(tmp_path / "b.toml"))
    path = tmp_path / hooks.LIBVIRT
    assert done.returncode == 0
    assert "systemctl reload libvirtd" in done.stdout
    assert os.access(path, os.X_OK)
    assert f"'{tmp_path}/b.toml'" in path.read_text()
    assert not list(hooks.findings(tmp_path))
    again = hook("libvirt", "--root", str(tmp_path))
    assert "It is in force" in again.stdout
    assert hook("libvirt", "--remove", "--root", str(tmp_path)).returncode == 0
    assert not path.exists()


def test_a_host_without_it_is_told(tmp_path: Path) -> None:
    """And a word that is none."""
    done = hook("proxmox", "--root", str(tmp_path))
    assert (done.returncode, "no /etc/pve here" in done.stderr) == (3, True)
    assert hook("xen").returncode == 2


def test_doctor_sees_one_that_does_nothing(tmp_path: Path) -> None:
    """Not executable, or of another version."""
    path = tmp_path / hooks.PROXMOX
    path.parent.mkdir(parents=True)
    path.write_text(hooks.SOURCE.read_text().replace("5.0", "6.0"))
    path.chmod(0o644)
    told = [one.what for one in hooks.findings(tmp_path)]
    assert len(told) == 2
    assert "cannot be executed" in told[0]
    assert "another version" in told[1]
