"""The API itself: who gets in, what it says of itself, and that nothing sent to it breaks it."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis.core.result import Ok

from ballonet.control.routes import LIVE
from daemons import TOKEN, Daemon, peers

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def over_tcp(daemon: Daemon, token: str = TOKEN) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=f"http://{daemon.listen}", headers=headers)


def test_nothing_without_the_token(daemon: Daemon) -> None:
    """Over TCP every path asks for it, those that do not exist too."""
    for path in ("/v1/status", "/v1/openapi.json", "/metrics", LIVE, "/nowhere"):
        for token in ("", "wrong", TOKEN[:-1], TOKEN + "0"):
            with over_tcp(daemon, token) as http:
                answer = http.get(path)
                assert answer.status_code == 401, path
                assert answer.json()["error"].startswith("no token")
    with over_tcp(daemon) as http:
        assert http.get("/v1/status").status_code == 200
        assert http.get("/nowhere").status_code == 404
        assert http.post("/v1/status").status_code == 405


def test_the_socket_is_for_root_and_a_group(daemon: Daemon) -> None:
    """Nobody else may connect, and is told whom to ask."""
    mode = (daemon.folder / "control.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert mode & 0o007 == 0
    if os.geteuid() != 0:
        pytest.skip("only root can try as somebody else")
    # Through an open descriptor, so that only the socket's own mode stands in the way.
    script = (
        "import os, socket, sys\nfd = os.open(sys.argv[1], os.O_PATH)\nos.setgroups([])\n"
        "os.setgid(65534)\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\ntry:\n"
        "    s.connect(f'/proc/self/fd/{fd}')\nexcept PermissionError:\n    sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, daemon.folder / "control.sock"], check=False).returncode == 7


def test_live_stream(daemon: Daemon) -> None:
    """A status a second, as server-sent events."""
    with over_tcp(daemon) as http, http.stream("GET", LIVE) as answer:
        lines = answer.iter_lines()
        seen = [next(line for line in lines if line) for _ in range(2)]
    assert all(line.startswith('data: {"schema":"ballonet.status/1"') for line in seen)


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("PUT", "/v1/mode", b"{", "not JSON"),
        ("PUT", "/v1/mode", b'{"mode": "perhaps"}', "at `mode`"),
        ("PUT", "/v1/mode", b'{"mode": ' + b"[" * 30_000, "not JSON"),
        ("PUT", "/v1/hold", b'{"fors": 3}', "do you mean `for_s`"),
        ("PUT", "/v1/hold", b'{"for_s": -1}', "for_s"),
        ("PATCH", "/v1/guests/v-0", b'{"shares": 0}', "shares"),
        ("PATCH", "/v1/guests/v-0", b'{"floor_bytes": 1e30}', "floor_bytes"),
        ("PATCH", "/v1/guests/v-0", b"x" * 100_000, "larger than"),
        ("GET", "/v1/history?limit=0", None, "limit"),
        ("GET", "/v1/history?since=nan", None, "since"),
        ("GET", "/v1/history?colour=red", None, "no parameter 'colour'"),
        ("GET", "/v1/history?limit=1&limit=2", None, "twice"),
    ],
)
def test_wrong_requests_name_the_place(daemon: Daemon, method: str, path: str, body: bytes | None, says: str) -> None:
    """And change nothing."""
    with over_tcp(daemon) as http:
        before = http.get("/v1/orders").json()
        answer = http.request(method, path, content=body)
        assert answer.status_code == 400, answer.text
        assert says in answer.json()["error"]
        assert http.get("/v1/orders").json() == before


def test_fuzzed_from_its_own_openapi(daemon: Daemon) -> None:
    """Whatever the schema allows, and what it does not: no 5xx, and every answer is as it describes."""
    schema = schemathesis.openapi.from_url(f"http://{daemon.listen}/v1/openapi.json", headers=AUTHORIZED).exclude(path=LIVE)
    operations = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    assert len(operations) > 10
    for operation in operations:
        for kind in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that takes nothing
                _fuzz(operation.as_strategy(generation_mode=kind))


def _fuzz(cases: SearchStrategy[Any]) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=cases)
    def answers(case: Any) -> None:
        case.call_and_validate(headers=AUTHORIZED)

    answers()


def test_second_daemon_is_refused(daemon: Daemon) -> None:
    """Two on one host would undo each other's work."""
    told = daemon.cli("run", code=2)
    assert "another ballonet runs" in told


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("0.0.0.0:9717", "not a loopback address"),
        ("localhost", "no address and port"),
        ("127.0.0.1:99999", "no port"),
        ("127.0.0.1:-1", "no port"),
    ],
)
def test_doors_that_are_not_safe_are_not_opened(tmp_path: Path, listen: str, says: str) -> None:
    """Before anything is served, with the key."""
    one = Daemon(tmp_path, listen=listen)
    one.start()
    assert one.process is not None
    one.process.kill()
    one.process.wait()
    told = one.cli("run", code=2)
    assert says in told
    assert "control.listen" in told


def test_what_stands_in_the_socket_s_place_is_not_removed(tmp_path: Path) -> None:
    """A file of somebody's is told, not overwritten; a socket that a dead daemon left is taken over."""
    one = Daemon(tmp_path)
    (tmp_path / "control.sock").write_text("mine")
    one.start()
    assert one.process is not None
    assert one.process.wait(10) == 2
    assert (tmp_path / "control.sock").read_text() == "mine"
    assert "cannot listen" in one.log
    (tmp_path / "control.sock").unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control.sock"))
    with peers(tmp_path, 1):
        one.spawn()
        one.until_up()
        assert one.end() == 0
    assert not (tmp_path / "control.sock").exists()
