"""The agent, on this machine's kernel and on recorded /proc files: what it sends, when, and what it survives."""

import ast
import json
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ballonet.guest import agent, bundle, kernel, words
from ballonet.guest.settings import Settings, SettingsError, read
from ballonet.hypervisors.local.agent import Message

MEMINFO = """MemTotal:        {total} kB
MemFree:          {free} kB
MemAvailable:    {available} kB
Buffers:            1024 kB
Cached:           204800 kB
SwapCached:            0 kB
SwapTotal:        524288 kB
SwapFree:         524288 kB
"""
VMSTAT = "nr_free_pages 1\npgmajfault 7\npswpin 3\npswpout 5\nallocstall_normal 2\nallocstall_movable 4\noom_kill 1\n"
PRESSURE = "some avg10=1.25 avg60=0.50 avg300=0.10 total=12345\nfull avg10=0.50 avg60=0.20 avg300=0.05 total=2345\n"


def write_meminfo(proc: Path, available_mib: int, total_mib: int = 512) -> None:
    text = MEMINFO.format(total=total_mib * 1024, free=1024, available=available_mib * 1024)
    with (proc / "meminfo").open("r+" if (proc / "meminfo").exists() else "w") as file:  # the agent keeps it open
        file.write(text)
        file.truncate()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_text(PRESSURE)
    (tmp_path / "vmstat").write_text(VMSTAT)
    write_meminfo(tmp_path, 300)
    return tmp_path


@pytest.fixture
def talk(proc: Path) -> Iterator[socket.socket]:
    """The host end of a running agent's port."""
    guest, host = socket.socketpair()
    guest.setblocking(False)
    host.settimeout(5)
    one = agent.Agent(guest.fileno(), kernel.Memory(str(proc)), Settings(), proc="/nonexistent")
    thread = threading.Thread(target=one.run)
    thread.start()
    yield host
    one.is_running = False
    thread.join()
    guest.close()
    host.close()


def lines(host: socket.socket) -> Iterator[dict[str, Any]]:
    with host.makefile("rb") as file:
        for line in file:
            yield json.loads(line)


def test_says_what_the_kernel_says(proc: Path) -> None:
    """Every number of recorded files arrives, in bytes, counts and shares; what a kernel lacks is left out."""
    report = kernel.Memory(str(proc)).report()
    assert report["total_bytes"] == 512 << 20
    assert report["available_bytes"] == 300 << 20
    assert report["cache_bytes"] == 200 << 20
    assert report["swap_in_bytes"] == 3 * 4096
    assert report["swap_out_bytes"] == 5 * 4096
    assert (report["major_faults"], report["oom_kills"], report["alloc_stalls"]) == (7, 1, 6)
    assert (report["psi_some_share"], report["psi_full_share"]) == (0.0125, 0.005)
    (proc / "pressure" / "memory").unlink()
    (proc / "vmstat").write_text("nr_free_pages 1\n")
    assert set(kernel.Memory(str(proc)).report()) == {name for name, _ in kernel.MEMINFO}


def test_a_zfs_cache_is_available_down_to_its_minimum(proc: Path) -> None:
    """Linux counts it as used; asked for, it gives all but c_min."""
    folder = proc / "spl/kstat/zfs"
    folder.mkdir(parents=True)
    rows = "".join(f"{name:<32}4    {mib << 20}\n" for name, mib in (("c_min", 32), ("c_max", 400), ("size", 132)))
    (folder / "arcstats").write_text(f"13 1 0x01 96 4608 100 200\n{'name':<32}type data\n{rows}")
    memory = kernel.Memory(str(proc))
    assert memory.available_bytes() == 400 << 20
    assert memory.used_bytes() == 112 << 20
    report = memory.report()
    assert (report["available_bytes"], report["cache_bytes"], report["total_bytes"]) == (400 << 20, 300 << 20, 512 << 20)


def test_this_kernel_is_read() -> None:
    """On the machine that runs the test, total and available are what /proc/meminfo says."""
    report = kernel.Memory().report()
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert report["total_bytes"] == kib * 1024
    assert 0 < report["available_bytes"] <= report["total_bytes"]


def test_a_message_is_one_that_the_host_takes(talk: socket.socket) -> None:
    """The first message decodes as the host decodes it, and a report follows within a second or two."""
    said = lines(talk)
    first = msgspec.convert(next(said), Message)
    assert (first.why, first.sequence, first.available_bytes) == ("hello", 1, 300 << 20)
    assert next(said)["why"] == "report"


def test_speaks_at_once_below_the_line(talk: socket.socket, proc: Path) -> None:
    """When MemAvailable falls under the host's line the agent says `low`, once, and again for a new line."""
    said = lines(talk)
    talk.sendall(b'{"line_bytes":%d}\n' % (290 << 20))
    assert next(said)["why"] == "hello"
    write_meminfo(proc, 280)
    heard = next(one for one in said if one["why"] != "report")
    assert heard["why"] == "low"
    assert heard["available_bytes"] == 280 << 20
    talk.sendall(b'{"line_bytes":%d}\n' % (285 << 20))
    assert next(one for one in said if one["why"] != "report")["why"] == "low"


@pytest.mark.parametrize(("total_mib", "rises"), [(512, True), (412, False)])
def test_a_balloon_that_grows_is_no_rise(talk: socket.socket, proc: Path, total_mib: int, rises: bool) -> None:
    """What a balloon takes of MemAvailable it takes of MemTotal too; a program does not."""
    said = lines(talk)
    talk.sendall(b'{"line_bytes":%d}\n' % (290 << 20))
    assert next(said)["why"] == "hello"
    write_meminfo(proc, 200, total_mib)
    heard = next(one for one in said if one["why"] == "low")
    assert (heard["rising_per_s"] > 0) == rises


@pytest.mark.parametrize(
    "line", [b"", b"nonsense", b'{"line_bytes":-5}', b'{"line_bytes":"a"}', b'{"line_bytes":5', b"\xff" * 5000, b'{"other":5}']
)
def test_what_is_no_command_is_left_alone(line: bytes) -> None:
    """Nothing that a host of another version may send changes the line."""
    assert words.commanded(line) is None


def test_a_command_is_read() -> None:
    """The line, and how much to make free, with white space around it or not."""
    assert words.commanded(b' {"line_bytes":123} \r') == ("line_bytes", 123)
    assert words.commanded(b'{"ready_bytes": 5}') == ("ready_bytes", 5)


def test_survives_a_full_port_and_a_host_that_goes(proc: Path) -> None:
    """Nobody reads: writes fail and the agent goes on; the host end closes: it does not spin."""
    guest, host = socket.socketpair()
    guest.setblocking(False)
    one = agent.Agent(guest.fileno(), kernel.Memory(str(proc)), Settings(), proc="/nonexistent")
    for _ in range(5000):
        one.say("report")
    assert one._sequence == 5000
    host.close()
    one.say("report")
    one._hear(select.POLLIN | select.POLLHUP)
    guest.close()


def test_needs_no_more_than_python_3_9() -> None:
    """Its parts parse as Python 3.9, and import nothing that a small Python lacks, but for ctypes, which it can do without."""
    parts = [path.read_text() for path in bundle.HERE.glob("*.py") if path.name != "bundle.py"]
    imported = {
        name
        for text in parts
        for node in ast.walk(ast.parse(text, feature_version=(3, 9)))
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    small = {"argparse", "ctypes", "gc", "os", "re", "select", "signal", "socket", "stat", "sys", "time", "typing"}
    assert {name for name in imported if not (name or "").startswith("ballonet.guest.")} <= small


def test_one_file_runs_by_itself(tmp_path: Path) -> None:
    """What `make agent` makes is the same each time, and says a report where nothing of ballonet is installed."""
    (tmp_path / "ballonet-agent").write_bytes(bundle.bundle())
    assert bundle.bundle() == bundle.bundle()
    done = subprocess.run([sys.executable, "-I", "-S", tmp_path / "ballonet-agent", "--once"], capture_output=True, check=True)
    assert json.loads(done.stdout)["total_bytes"] > 0


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("jvm = maybe", "line 1: jvm is on or off"),
        ("# fine\njvm_every = 5", "line 2: no setting 'jvm_every'"),
        ("jvm_every_s = -1", "number of 0 or more"),
        ("nonsense", "no setting 'nonsense'"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, trouble: str) -> None:
    """With its file and its line, and what would be right."""
    (tmp_path / "agent.conf").write_text(text)
    with pytest.raises(SettingsError, match=trouble):
        read(str(tmp_path / "agent.conf"))


def test_settings_are_read(tmp_path: Path) -> None:
    """One line switches the care of JVMs off; several commands may be named; no file means the defaults."""
    (tmp_path / "agent.conf").write_text("jvm = off  # ours trims itself\njvm_every_s = 60\ntrim = /bin/a b\ntrim = /bin/c\n")
    found = read(str(tmp_path / "agent.conf"))
    assert (found.jvm, found.jvm_every_s, found.trim) == (False, 60.0, [["/bin/a", "b"], ["/bin/c"]])
    assert vars(read(str(tmp_path / "none"))) == vars(Settings())


def test_the_example_is_a_message() -> None:
    """The reference's example decodes as the host decodes it, and has every number."""
    text = (Path(__file__).parents[2] / "docs/reference/agent.md").read_text()
    example = json.loads(text.split("```json\n")[1].split("```")[0])
    assert set(example) == set(Message.__struct_fields__)
    msgspec.convert(example, Message)
