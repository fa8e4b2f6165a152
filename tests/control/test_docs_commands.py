"""Each command in the guide, the concepts and the README is run as it stands."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import PROGRAM, Daemon, until

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/guide.md",
    "docs/lab.md",
    "docs/rooms.md",
    "docs/concepts.md",
    "docs/vsphere.md",
    "docs/reference/control.md",
    "docs/reference/config.md",
)
ELSEWHERE = {
    "ballonet top": "test_top_shows_and_holds",
    "ballonet lab run": "tests/lab/test_leaves_nothing.py and make demo, on real guests",
    "ballonet deflate": "tests/field/test_field_deflate.py, on a host that has the memory",
    "ballonet init": "test_init.py",
    "ballonet room": "tests/field/test_field_rooms.py, on a host that has the memory",
    "ballonet hook": "tests/unit/test_hook.py, below a root of its own",
    "ballonet restore": "tests/vsphere, on a vSphere API",
    "make": "the gates",
    "apt install": "a clean Debian 12 root, by hand",
    "systemctl": "no systemd here",
    "virsh": "tests/domains/test_domains.py sets the same metadata",
    "curl": "test_commands.py asks the same path of the same socket",
}
"""Commands that are run by other tests, or cannot be here: by what they begin with, and where."""
RECORDED_S = 36.0
"""More than `replay` wants."""
PROGRAMS = ("ballonet", "make", "apt", "systemctl", "virsh", "curl", "qm")


def commands() -> Iterator[tuple[str, str]]:
    """Page and command, of indented lines and of `ballonet …` in the text."""
    for page in PAGES:
        text = (ROOT / page).read_text().replace(".venv/bin/", "")
        joined = re.sub(r" \\\n\s+", " ", text)
        for line in re.findall(r"(?m)^    (\S.*)$", joined):
            if line.split()[0] in PROGRAMS:
                yield page, line.split(" #")[0].strip()


def is_elsewhere(command: str) -> bool:
    return any(command.startswith(words) for words in ELSEWHERE)


def recorded_s(daemon: Daemon) -> float:
    """Over how long there are samples: how many says nothing, since a loop that is woken ticks more often."""
    found = [row["at"] for row in json.loads(daemon.tries("history", "web-0", "--samples", "--json") or "[]")]
    return max(found) - min(found) if found else 0.0


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose guests have the names that the pages use, with some history."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "q").mkdir()
    peers = []
    for prefix, count in (("web", 2), ("db", 1)):
        words = [str(PROGRAM.with_name("python")), "-m", "ballonet.lab.scripted", str(folder / "q"), prefix, str(count), "512"]
        peers.append(subprocess.Popen(words))
    daemon = Daemon(folder)
    try:
        until(lambda: len(list((folder / "q").glob("*.sock"))) == 3)
        daemon.start()
        daemon.until_up(3)
        until(lambda: recorded_s(daemon) > RECORDED_S, 120)
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.process.kill()
            daemon.process.wait()
        for peer in peers:
            peer.kill()
            peer.wait()


def test_there_are_commands() -> None:
    """On every page that is for operators, and each that is left out is said where."""
    found = list(commands())
    assert {page for page, _ in found} >= {"README.md", "docs/guide.md"}
    assert len([command for _, command in found if not is_elsewhere(command)]) > 20
    assert [words for words in ELSEWHERE if not any(command.startswith(words) for _, command in found)] == []


def test_each_command_of_the_docs(host: Daemon, tmp_path: Path) -> None:
    """As it stands, in the order of the pages, with BALLONET_CONFIG naming this host's configuration."""
    environment = os.environ | {"BALLONET_CONFIG": str(host.config), "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    for name in ("snapshot.json", "recorded.csv"):
        (tmp_path / name).write_text(example(name))
    for page, command in commands():
        if is_elsewhere(command):
            continue
        words = shlex.split(command)
        if words[-2:-1] == ["-c"]:
            words = words[:-2]
        if words[1] == "explain" and "--at" in words:
            words[words.index("--at") + 1] = "5s"  # ten minutes of history would take ten minutes
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120)
        expected = 1 if "--without" in words else 0
        assert done.returncode == expected, (page, command, done.stdout[-500:], done.stderr[-500:])


def example(name: str) -> str:
    if name == "snapshot.json":
        return (ROOT / "docs/reference/snapshot.md").read_text().split("```json\n")[1].split("```")[0]
    rows = [f"{second},{guest},{second * 10_000_000},1000000" for second in range(60) for guest in ("a", "b")]
    return "\n".join(["time_s,guest,used_bytes,cache_bytes", *rows]) + "\n"
