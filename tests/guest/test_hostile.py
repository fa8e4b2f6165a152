"""What any user of a guest may do to its agent, which is root's: run something that is called a JVM, and answer what he likes."""

import os
import select
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ballonet.guest import jvm as jvms
from ballonet.guest.care import Care
from ballonet.guest.jvm import MOST_BYTES, AsOwner, Jvm, heap
from ballonet.guest.ready import Ready
from ballonet.guest.settings import Settings
from ballonet.guest.words import commanded

USER = 12345
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """That any user may enter: pytest's own are root's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def jvm_of(folder: Path, uid: int = USER) -> Jvm:
    """A made-up process of a user's, with a /tmp of its own."""
    home = folder / "77"
    (home / "root/tmp").mkdir(parents=True)
    (home / "status").write_text("NSpid:\t77\n")
    (home / "stat").write_text("77 (java) S " + "0 " * 20)
    for path in (home, home / "root", home / "root/tmp"):
        os.chown(path, uid, uid)
    return Jvm(77, str(folder))


@pytest.mark.parametrize(
    "answer",
    [
        b"total 1K, " * 100_000,
        b"total 1K, used " + b"9" * 5000 + b"K\n",
        b"garbage-first heap   total " + b"9" * 12 + b"K, used 1K\n" * 400_000,
        b"used " * 200_000,
        b"\xff" * (1 << 20),
        b"(" * (1 << 20),
    ],
)
def test_no_answer_takes_long_or_ends_it(answer: bytes) -> None:
    """Whatever its size, it is looked at line by line, and no number is larger than a heap can be."""
    start = time.process_time()
    found = heap(answer)
    assert time.process_time() - start < 5.0  # quadratic, these take a quarter of an hour
    assert found is None or 0 <= found.used <= MOST_BYTES


@root_only
def test_root_does_not_reach_what_the_user_cannot(open_folder: Path) -> None:
    """Neither a socket of root's behind a link, nor a folder that only root may write."""
    jvm = jvm_of(open_folder)
    secret = open_folder / "secret.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(secret))
        secret.chmod(0o600)
        server.listen()
        link = open_folder / "77/root/tmp/.java_pid77"
        link.symlink_to(secret)
        os.chown(link, USER, USER, follow_symlinks=False)
        with pytest.raises(OSError, match="no socket of its own"):
            jvm.socket_path()
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(PermissionError):
            jvm.connect(client, str(link))
    (open_folder / "77/root/tmp").chmod(0o700)
    os.chown(open_folder / "77/root/tmp", 0, 0)
    with pytest.raises(PermissionError):
        jvm.summon()
    assert os.geteuid() == 0


@root_only
def test_a_process_that_is_a_jvm_no_more_is_not_signalled(open_folder: Path) -> None:
    """Its number may be another's by now; nothing is left behind."""
    jvm = jvm_of(open_folder)
    with pytest.raises(OSError, match=r"no more|No such process"):
        jvm.summon()
    assert list((open_folder / "77/root/tmp").iterdir()) == []


@root_only
def test_as_its_owner_is_root_again_after() -> None:
    """Whatever happens within."""
    before = os.getgroups()

    def fails() -> None:
        with AsOwner(USER, USER):
            assert (os.geteuid(), os.getegid(), os.getgroups()) == (USER, USER, [USER])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, before)


def test_no_conversation_ends_the_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever is raised in one, that JVM is asked no more, and the agent goes on."""
    settings = Settings()
    monkeypatch.setattr(jvms, "is_jvm", lambda *_words: True)
    care = Care(settings, select.poll(), str(tmp_path))

    class Broken:
        pid, is_mute, busy_at, done_at, looked_at, left_bytes = 1, False, 0.0, 0.0, -1e9, 0
        heap = jvms.Heap(0, 0)

        def __getattr__(self, name: str) -> Any:
            raise ValueError(name)

    care._scan_at = 1e18
    broken: Any = Broken()
    care.jvms = {1: broken}
    care.step(time.monotonic())
    care.step(time.monotonic())
    assert not care.is_busy


@pytest.mark.parametrize("line", [b'{"line_bytes":' + b"9" * 5050 + b"}", b'{"ready_bytes":' + b" " * 5000 + b"1}"])
def test_a_number_from_the_host_without_end_is_none(line: bytes) -> None:
    """Python refuses the longest ones."""
    assert commanded(line) is None


class Memory:
    def free_bytes(self) -> int:
        return 0


def test_a_trim_command_is_bounded(tmp_path: Path) -> None:
    """It has no protection of the agent's, is ended with the request, and is not run at each of them."""
    log = tmp_path / "log"
    settings = Settings()
    settings.reclaim = settings.jvm = False
    script = f"cat /proc/self/oom_score_adj >> {log}; sleep 1000"
    settings.trim = [["/bin/sh", "-c", script]]
    memory: Any = Memory()
    ready = Ready(memory, Care(settings, select.poll()), settings, str(tmp_path))
    for _ in range(3):
        begun = time.monotonic()
        ready.begin(1 << 30, begun)
        while ready.step(time.monotonic()) is None:
            time.sleep(0.01)
            if log.exists() and log.read_text():
                ready._until = 0.0  # the request's time is over
    deadline = time.monotonic() + 60
    while ready._child is not None and time.monotonic() < deadline:
        ready._reap()
        time.sleep(0.01)
    assert ready._child is None
    assert log.read_text().split() == ["0"]
