"""`ballonet init`, as an operator types it."""

import json
import stat
import subprocess
from pathlib import Path

from daemons import PROGRAM


def init(*words: str | Path, code: int = 0) -> str:
    done = subprocess.run([PROGRAM, "init", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def test_a_first_configuration(tmp_path: Path) -> None:
    """Says what is there and what to do next; an old one is never lost."""
    config, root = tmp_path / "new/ballonet.toml", tmp_path / "root"
    (root / "proc/77").mkdir(parents=True)
    (root / "proc/77/cmdline").write_bytes(b"qemu-system-x86_64\0-qmp\0unix:/vm/web.qmp,server=on\0")
    assert "/vm/web.qmp" in init("-c", config, "--root", root, "--dry-run")
    assert not config.exists()
    told = init("-c", config, "--root", root)
    assert "found QMP sockets of 1 QEMU processes: /vm/web.qmp" in told
    assert f"ballonet run -c {config}" in told
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert "is there already: nothing is changed" in init("-c", config, code=2)
    config.write_text("# mine\n")
    assert json.loads(init("-c", config, "--root", root, "--force", "--json"))["sockets"] == ["/vm/web.qmp"]
    assert (tmp_path / "new/ballonet.toml.old").read_text() == "# mine\n"
    done = subprocess.run([PROGRAM, "check-config", "-c", config], capture_output=True, text=True, check=True)
    assert "good. Mode observe" in done.stdout


def test_without_a_configuration_it_is_said_what_to_do(tmp_path: Path) -> None:
    """By every command that wants one."""
    for command in ("status", "doctor", "check-config", "run", "restore"):
        done = subprocess.run([PROGRAM, command, "-c", tmp_path / "none.toml"], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "`ballonet init` writes one" in done.stderr, (command, done.stderr)
