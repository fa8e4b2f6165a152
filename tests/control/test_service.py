"""As a service: what systemd is told, what journald is given, and that the unit and the package are whole."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemons import Daemon, peers, until

ROOT = Path(__file__).parents[2]


def test_systemd_is_told_and_only_the_loop_feeds_the_watchdog(tmp_path: Path) -> None:
    """Ready when it watches, alive with each tick and never without one, stopping at the end."""
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, peers(tmp_path, 2):
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)

        def heard(what: str) -> bool:
            while True:
                try:
                    said.append(systemd.recv(4096).decode())
                except BlockingIOError:
                    return any(what in one for one in said)

        root = tmp_path / "root"
        (root / "proc").mkdir(parents=True)
        for name in ("self", "uptime", "pressure", "meminfo"):
            (root / "proc" / name).symlink_to(f"/proc/{name}")
        daemon = Daemon(tmp_path, root=str(root))
        daemon.start()
        assert daemon.process is not None
        daemon.process.kill()
        daemon.process.wait()
        daemon.spawn(NOTIFY_SOCKET=str(tmp_path / "notify"))
        until(lambda: heard("READY=1"))
        until(lambda: heard("STATUS=2 guests, host"))
        # The API answers on, and the loop turns, but it sees no host: that is not being alive.
        (root / "proc/meminfo").unlink()
        time.sleep(1.5)
        heard("")
        said.clear()
        time.sleep(3)
        assert not heard("WATCHDOG=1")
        daemon.status()
        (root / "proc/meminfo").symlink_to("/proc/meminfo")
        until(lambda: heard("WATCHDOG=1"))
        assert daemon.end() == 0
        assert heard("STOPPING=1")


def test_journald_is_given_priorities(tmp_path: Path) -> None:
    """Where stderr is the stream that systemd names; a file gets plain lines."""
    script = (
        "import os, logging\nstat = os.fstat(2)\nos.environ['JOURNAL_STREAM'] = f'{stat.st_dev}:{stat.st_ino}'\n"
        "from ballonet.daemon.journal import open_journal\nopen_journal()\nlogging.warning('careful')\nlogging.info('fine')\n"
        "logging.error('two\\nlines')\nos.environ['JOURNAL_STREAM'] = '1:1'\nopen_journal()\nlogging.warning('plain')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [line[:4] for line in done.stderr.splitlines()] == ["<4>{", "<6>{", "<3>{", '{"ti']


def test_the_unit_is_one() -> None:
    """By systemd's own word where it is here; by what must be in it anyway."""
    unit = ROOT / "packaging/ballonet.service"
    text = unit.read_text()
    for line in ("Type=notify", "ExecReload=/bin/kill -HUP $MAINPID", "OOMScoreAdjust=-900", "StateDirectory=ballonet"):
        assert line in text
    assert int(re.findall(r"WatchdogSec=([0-9]+)", text)[0]) >= 10
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
        wrong = [line for line in done.stderr.splitlines() if "ballonet.service" in line and "is not executable" not in line]
        assert wrong == []


def test_man_pages_name_every_command(tmp_path: Path) -> None:
    """And every key of the configuration; groff finds nothing to say about them."""
    subprocess.run([sys.executable, ROOT / "tools/man.py", tmp_path], check=True)
    page = (tmp_path / "ballonet.1").read_text()
    for word in ("explain", "hold", "release", "replay", "lab run", "check\\-config", "\\-\\-policy"):
        assert word in page
    assert "history.days" in (tmp_path / "ballonet.toml.5").read_text()
    if groff := shutil.which("groff"):
        for name in ("ballonet.1", "ballonet.toml.5"):
            words = [groff, "-man", "-Tutf8", "-ww", "-z", str(tmp_path / name)]
            assert subprocess.run(words, capture_output=True, text=True, check=True).stderr == ""


def test_the_package_is_whole(tmp_path: Path) -> None:
    """Built from the lock, and the program in it runs by the libraries in it alone."""
    if shutil.which("dpkg-deb") is None or sys.version_info[:2] != (3, 11):
        pytest.skip("a package for Debian 12 is built and tried on Debian with Python 3.11")
    environment = os.environ | {"PATH": f"/usr/bin:/bin:{os.environ['PATH']}"}
    subprocess.run([ROOT / "tools/deb"], check=True, capture_output=True, env=environment)
    package = next((ROOT / "dist").glob("ballonet_*.deb"))
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert {"usr/bin/ballonet", "usr/lib/systemd/system/ballonet.service", "usr/share/man/man1/ballonet.1.gz"} <= names
    assert {"usr/share/ballonet/ballonet.toml", "usr/share/ballonet/alerts.yaml", "usr/share/ballonet/host.json"} <= names
    script = (tmp_path / "usr/bin/ballonet").read_text().replace("/usr/lib/ballonet", f"{tmp_path}/usr/lib/ballonet")
    (tmp_path / "try.py").write_text(script)
    # Python without this project's own environment.
    bare = [getattr(sys, "_base_executable", sys.executable), "-I", tmp_path / "try.py"]
    done = subprocess.run([*bare, "simulate", "steady", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"where": "sim"' in done.stdout
