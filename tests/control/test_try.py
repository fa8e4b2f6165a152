"""`ballonet try`: a whole daemon on a simulated host, for whoever has nothing but the program."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from daemons import PROGRAM, until


@contextlib.contextmanager
def trying(folder: Path, *words: str, rights: bool = True) -> Iterator[Path]:
    """One that runs; gives its configuration. Nothing is left of it at the end."""
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    told = folder / "told"
    environment = os.environ | {"TMPDIR": str(temporary), "HOME": "/nonexistent"}
    with told.open("wb") as out:
        stripped = [] if rights else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
        process = subprocess.Popen([*stripped, PROGRAM, "try", *words], stdout=out, stderr=out, env=environment)
    try:
        until(lambda: "BALLONET_CONFIG=" in told.read_text() or process.poll() is not None)
        found = re.search(r"BALLONET_CONFIG=(\S+)", told.read_text())
        assert found, told.read_text()
        yield Path(found[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, told.read_text()
        assert list(temporary.iterdir()) == []
    finally:
        process.kill()
        process.wait()


def ask(config: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run([PROGRAM, *words, "-c", config], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout


def test_all_commands_work_on_it(tmp_path: Path) -> None:
    """Ten guests that peak in turn, twenty times as fast as real time: watched, asked why, ordered, given their memory back."""
    with trying(tmp_path, "--speed", "20") as config:
        until(lambda: '"needs"' in ask(config, "history", "--json"))  # a riser was given what it needed
        status = json.loads(ask(config, "status", "--json"))
        assert len(status["guests"]) == 10
        assert all(guest["voice"] == "balloon" for guest in status["guests"])
        assert "What would change it" in ask(config, "explain", "vm-3")
        assert "floor 6 GiB (was 4 GiB)" in ask(config, "set", "vm-3", "--floor", "6GiB")
        ask(config, "hold", "vm-1", "--for", "10m")
        until(lambda: "on hold" in ask(config, "explain", "vm-1"))
        ask(config, "release")
        assert "vm-0" in {one["where"] for one in json.loads(ask(config, "doctor", "--json"))}
        ask(config, "mode", "observe")
        assert "observe, as ordered" in ask(config, "mode")
        ask(config, "mode", "act")


def test_killed_it_leaves_no_daemon(tmp_path: Path) -> None:
    """With -9, when nothing of it can tidy up."""
    told = tmp_path / "told"
    with told.open("wb") as out:
        process = subprocess.Popen(
            [PROGRAM, "try", "--no-top"], stdout=out, stderr=out, env=os.environ | {"TMPDIR": str(tmp_path)}
        )
    until(lambda: "BALLONET_CONFIG=" in told.read_text())
    config = next(tmp_path.glob("ballonet-*/ballonet.toml"))
    process.kill()
    process.wait()
    until(lambda: ask_code(config) != 0)
    done = subprocess.run([PROGRAM, "status", "-c", config], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done
    assert "that of `ballonet try` ends with it" in " ".join(done.stderr.split())


def ask_code(config: Path) -> int:
    words = [str(PROGRAM), "top", "--json", "-c", str(config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        has_line = bool(process.stdout.readline())
        process.kill()
    return int(not has_line)


def test_it_needs_no_rights(tmp_path: Path) -> None:
    """Of root none is left, where it is root that tests; nor a home, nor a configuration."""
    with trying(tmp_path, "spike", rights=os.geteuid() != 0) as config:
        assert json.loads(ask(config, "status", "--json"))["host"]["mode"] == "act"


def test_a_scenario_that_there_is_not(tmp_path: Path) -> None:
    """Said before anything starts."""
    done = subprocess.run(
        [PROGRAM, "try", "no-such"], capture_output=True, text=True, check=False, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 2
    assert "consolidation" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_is_the_live_board(tmp_path: Path) -> None:
    """With what to type elsewhere; `q` ends all of it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TMPDIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
        os.execv(PROGRAM, [str(PROGRAM), "try", "--speed", "5"])  # noqa: S606 a terminal of its own
    shown = b""
    while b"vm-9" not in shown:
        shown += os.read(terminal, 65536)
    assert b"BALLONET_CONFIG" in shown
    os.write(terminal, b"q")
    with contextlib.suppress(OSError):  # it has closed its terminal
        while os.read(terminal, 65536):
            pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert list(tmp_path.iterdir()) == []
