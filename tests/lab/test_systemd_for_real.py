"""The package and the agent under a running systemd: a Debian 12 made by debootstrap, booted in QEMU from its memory."""

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.image import build_image, cache_folder, cpio
from ballonet.lab.machine import QEMU

CHECK = Path(__file__).with_name("booted") / "check"
HERE = Path(__file__).parents[2]
PARTS = "systemd-sysv,python3,init-system-helpers,procps"
STEPS = ["install", "watchdog", "kill", "reload", "restart-limit", "journal", "agent", "security", "remove", "purge"]
UNIT = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/root/check
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
"""
LEAVE = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man", "proc", "sys", "dev")
DEADLINE_S = 1500.0


def debian() -> Path:
    """A root of Debian 12, kept in the cache; made only when asked for, since that takes minutes and root."""
    root = cache_folder() / "roots" / "booted-bookworm"
    if not (root / "usr/bin/python3").exists():
        if not os.environ.get("BALLONET_BOOTED"):
            pytest.skip("no root of Debian in the cache; BALLONET_BOOTED=1 makes one, as root with debootstrap")
        shutil.rmtree(root, ignore_errors=True)
        words = ["debootstrap", "--variant=minbase", f"--include={PARTS}", "bookworm", str(root), *mirror()]
        subprocess.run(words, check=True, timeout=900)
    return root


def mirror() -> list[str]:
    """Where this system's packages come from."""
    lists = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    words = " ".join(one.read_text() for one in lists if one.is_file()).split()
    return [word for word in words if word.rstrip("/").endswith("/debian")][:1]


def files(root: Path, deb: Path) -> Iterator[tuple[str, int, bytes]]:
    """Its files, and ours: name, mode, content."""
    for folder, folders, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        if str(inside) in LEAVE:
            folders.clear()
            names.clear()
        if str(inside) != ".":
            yield str(inside), stat.S_IFDIR | stat.S_IMODE(os.lstat(folder).st_mode), b""
        for name in [*names, *(one for one in folders if (Path(folder) / one).is_symlink())]:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                yield str(inside / name), mode, str(path.readlink()).encode()
            elif stat.S_ISREG(mode):
                yield str(inside / name), mode, path.read_bytes()
    yield "init", stat.S_IFLNK | 0o777, b"/lib/systemd/systemd"
    yield "root/check", stat.S_IFREG | 0o755, CHECK.read_bytes()
    yield "root/ballonet.deb", stat.S_IFREG | 0o644, deb.read_bytes()
    yield "etc/systemd/system/check.service", stat.S_IFREG | 0o644, UNIT.encode()
    yield "etc/systemd/system/multi-user.target.wants/check.service", stat.S_IFLNK | 0o777, b"../check.service"
    yield "etc/systemd/system/serial-getty@ttyS0.service", stat.S_IFLNK | 0o777, b"/dev/null"


def built() -> Path:
    """The package of this tree."""
    subprocess.run(["make", "-s", "deb"], cwd=HERE, check=True, capture_output=True, timeout=600)
    return next((HERE / "dist").glob("ballonet_*.deb"))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What came of each step: lines of `check`."""
    folder = tmp_path_factory.mktemp("booted")
    try:
        kernel = build_image().kernel
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    (folder / "root.cpio").write_bytes(b"".join(cpio(files(debian(), built()))))
    words = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-accel", "tcg", "-m", "2G", "-smp", "2"]
    words += [
        "-kernel",
        str(kernel),
        "-initrd",
        str(folder / "root.cpio"),
        "-append",
        "console=ttyS0 quiet",
    ]
    words += ["-serial", f"file:{folder}/console", "-serial", f"file:{folder}/told", "-serial", f"file:{folder}/agent"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    end = time.monotonic() + DEADLINE_S
    try:
        while process.poll() is None and time.monotonic() < end and "\nend" not in read(folder / "told"):
            time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    lines = read(folder / "told").splitlines()
    assert lines[-1:] == ["end"], (lines, read(folder / "console")[-3000:])
    return [*lines, *(f"agent says {line}" for line in read(folder / "agent").splitlines()[:20])]


def read(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""


@pytest.mark.parametrize("step", STEPS)
def test_under_systemd(told: list[str], step: str) -> None:
    """Installed, watched, killed, reloaded, tried for ever, heard in the journal, its agent beside it, removed, purged."""
    assert f"{step} ok" in told, told


def test_units_are_tight(told: list[str]) -> None:
    """By `systemd-analyze security`: 0 is nothing exposed, 10 everything."""
    figures = {line.split()[1]: float(line.split()[2]) for line in told if line.startswith("exposure")}
    assert figures["ballonet.service"] <= 3.0
    assert figures["ballonet-agent.service"] <= 3.0


def test_the_agent_speaks_under_its_unit(told: list[str]) -> None:
    """Reports of a second each, with its priority, its locked memory and what it hears of the kernel, or it would say so."""
    assert sum('"why":"report"' in line for line in told) >= 3
