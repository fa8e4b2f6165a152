"""The doors of the control API, and who stands before them without a token: nothing of the loop's can be taken there."""

import contextlib
import logging
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ballonet.control.bounded import MOST_CONNECTIONS, MOST_TEXTS, Seldom
from daemons import TOKEN, Daemon, free_port, peers, running, until

STRANGERS = 1200


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path, listen=f"127.0.0.1:{free_port()}") as one:
        yield one


def answers(daemon: Daemon, token: str = TOKEN) -> int:
    """What a right request gets over TCP; 0 = no answer."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://{daemon.listen}/v1/status", headers={"Authorization": f"Bearer {token}"}).status_code
    return 0


def open_files(daemon: Daemon) -> int:
    assert daemon.process is not None
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


@contextlib.contextmanager
def strangers(daemon: Daemon, count: int, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections of somebody who knows no token and does not ask."""
    host, _, port = daemon.listen.rpartition(":")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 500)), hard))
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            one.sendall(says)
            found.append(one)
        yield found
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("says", [b"", b"GET /v1/status HTTP/1.1\r\nHost: a\r\nX-Slow: "])
def test_strangers_blind_nobody(daemon: Daemon, says: bytes) -> None:
    """1,200 connections that never ask: ticks go on, both doors answer, few descriptors are held, and little is said of it."""
    before = daemon.status().host.at
    lines = len(daemon.log.splitlines())
    with strangers(daemon, STRANGERS, says):
        assert open_files(daemon) < STRANGERS / 2  # some are on their way out
        until(lambda: open_files(daemon) < 2 * MOST_CONNECTIONS + 60)
        until(lambda: daemon.status().host.at > before + 3)
        until(lambda: answers(daemon) == 200)
        assert len(daemon.status().guests) == 3
        assert len(daemon.log.splitlines()) - lines < 50
    assert "cannot be read" not in daemon.log


@pytest.mark.parametrize("says", [b"", b"GET /v1/status HTTP/1.1\r\nHost: a\r\n"])
def test_who_does_not_ask_is_let_go(daemon: Daemon, says: bytes) -> None:
    """A connection that sends no whole request is closed, by the daemon."""
    with strangers(daemon, 1, says) as (one,), contextlib.suppress(ConnectionResetError):
        assert one.recv(1) == b""


def test_a_body_that_does_not_come_is_not_waited_for(daemon: Daemon) -> None:
    """Though the token is right."""
    head = f"PUT /v1/hold HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 20\r\n\r\n{{"
    with strangers(daemon, 1, head.encode()) as (one,):
        told = b""
        while b"the body has not come" not in told:
            told += (more := one.recv(4096))
            assert more


def test_nonsense_is_told_once(daemon: Daemon) -> None:
    """Whoever sends it does not decide how much is logged."""
    for _ in range(200):
        with strangers(daemon, 1, b"\x16\x03\x01 nonsense\r\n\r\n") as (one,), contextlib.suppress(OSError):
            one.recv(1)
    assert daemon.log.count("Invalid HTTP request") == 1


def test_a_rotated_token_is_in_force(daemon: Daemon) -> None:
    """Without a restart or a reload; and none at all lets nobody in, which doctor says."""
    token = daemon.folder / "token"
    token.write_text("f" * 32)
    until(lambda: answers(daemon, "f" * 32) == 200)
    assert answers(daemon) == 401
    assert "token read anew" in daemon.log
    for spoil, says in (
        (lambda: token.chmod(0o644), "others may read"),
        (lambda: token.write_text("short"), "less than 16"),
        (token.unlink, "cannot read"),
    ):
        token.chmod(0o600)
        spoil()
        until(lambda: answers(daemon, "f" * 32) == 401)
        until(lambda says=says: says in daemon.cli("doctor", "--json"))  # type: ignore[misc]
    token.write_text(TOKEN)
    token.chmod(0o600)
    until(lambda: answers(daemon) == 200)


def test_a_taken_port_keeps_nobody_from_ballooning(tmp_path: Path) -> None:
    """The daemon runs, doctor says what is missing, and the port is had once it is free."""
    with socket.socket() as taken, peers(tmp_path, 1):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = Daemon(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        one.start()
        try:
            one.until_up()
            assert "cannot listen" in one.cli("doctor", "--json")
            taken.close()
            until(lambda: answers(one) == 200)
            assert "no API over TCP" not in one.cli("doctor", "--json")
        finally:
            one.end(signal.SIGKILL)


def test_a_reload_ends_no_daemon_that_starts(tmp_path: Path) -> None:
    """SIGHUP is ignored from the first moment that Python runs ours, until it is answered."""
    with peers(tmp_path, 1):
        one = Daemon(tmp_path)
        one.start()
        assert one.process is not None
        try:
            status = Path(f"/proc/{one.process.pid}/status")
            until(lambda: bool(re.search(r"SigIgn:\s*[0-9a-f]*[13579bdf]$", status.read_text(), re.MULTILINE)))
            while "started" not in one.log:
                one.process.send_signal(signal.SIGHUP)
                time.sleep(0.01)
            one.until_up()
            one.process.send_signal(signal.SIGHUP)
            until(lambda: "reloaded" in one.log)
        finally:
            one.end(signal.SIGKILL)


def test_what_is_told_seldom_is_not_remembered_without_end() -> None:
    """Each text once in a while; texts that are new each time take no memory."""
    seldom = Seldom()
    told = [seldom.filter(logging.makeLogRecord({"msg": text})) for text in ("a", "a", "b", "a")]
    assert told == [True, False, True, False]
    assert all(seldom.filter(logging.makeLogRecord({"msg": f"peer {number}"})) for number in range(10_000))
    assert len(seldom._told) <= MOST_TEXTS
