"""What keeps guests away is found by `doctor`, with its remedy and exit code: with a daemon and without one."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from daemons import PROGRAM, Daemon, running, until

LIBVIRT = """
[libvirt]
uri = "qemu+unix:///system?socket={folder}/none"
agents = false
[host]
root = "/"
[control]
socket = "{folder}/control.sock"
state = "{folder}/state"
"""


def found(config: Path) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run([PROGRAM, "doctor", "--json", "-c", config], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stdout)


def test_no_socket_at_all(tmp_path: Path) -> None:
    """A pattern that nothing matches: with a daemon and without, in the same words; gone once there is a guest."""
    daemon = Daemon(tmp_path)
    (tmp_path / "q").mkdir()
    daemon.start()
    try:
        until((tmp_path / "control.sock").exists)
        until(lambda: any("no QMP socket lies at" in one["what"] for one in found(daemon.config)[1]))
    finally:
        daemon.end()
    code, alone = found(daemon.config)
    assert any("no QMP socket lies at" in one["what"] and "-qmp unix:" in one["remedy"] for one in alone)
    assert code == any(one["level"] == "fault" for one in alone)


def test_guests_that_are_there_are_no_finding(tmp_path: Path) -> None:
    """Nothing is said of sockets then."""
    with running(tmp_path, guests=1) as daemon:
        assert not any("no QMP socket" in one["what"] for one in found(daemon.config)[1])


def test_libvirt_that_does_not_run(tmp_path: Path) -> None:
    """A fault with its remedy, and exit 1: with a daemon and without."""
    pytest.importorskip("libvirt")
    daemon = Daemon(tmp_path)
    daemon.config.write_text(LIBVIRT.format(folder=tmp_path))
    code, alone = found(daemon.config)
    fault = next(one for one in alone if "libvirt cannot be reached" in one["what"])
    assert (code, fault["level"], fault["where"]) == (1, "fault", "host")
    assert "systemctl start libvirtd" in fault["remedy"]
    daemon.spawn()
    try:
        until((tmp_path / "control.sock").exists)
        until(lambda: any("libvirt cannot be reached" in one["what"] for one in found(daemon.config)[1]))
    finally:
        daemon.end()
