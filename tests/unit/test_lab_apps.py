"""What the clients of the lab's real applications saw, from the words of the tools themselves."""

import importlib.util
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import ballonet.lab
from ballonet.lab.run import _refuse_small
from ballonet.model.settings import SettingsError
from ballonet.report.record import APP_BUCKETS_S, Work
from ballonet.scenarios.scenario import load, scripts

SYSBENCH = """
[ 5s ] thds: 2 tps: 81.93 qps: 81.93 (r/w/o: 81.93/0.00/0.00) lat (ms,95%): 6.55 err/s: 0.00 reconn/s: 0.00
[ 5s ] queue length: 3, concurrency: 1
Latency histogram (values are in milliseconds)
       value  ------------- distribution ------------- count
       0.979 |**                                       7
       4.487 |**************************************** 390
     634.661 |                                         2

SQL statistics:
"""
PGBENCH = "0 199 2241 0 1175850568 995598 61\n1 200 skipped 0 1175850569 608 512345\n0 201 731004 0 1175850569 1608 200\n1 202 24"


@pytest.fixture
def apps() -> ModuleType:
    """The file as a guest has it."""
    path = Path(ballonet.lab.__file__).parent / "image" / "apps.py"
    spec = importlib.util.spec_from_file_location("guest_apps", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_host_and_guest_count_in_the_same_buckets(apps: ModuleType) -> None:
    """The last one is bounded on the host."""
    assert apps.BUCKETS_S[:-1] == APP_BUCKETS_S[:-1]
    assert len(apps.BUCKETS_S) == len(APP_BUCKETS_S)


def test_a_run_of_sysbench_is_counted(apps: ModuleType) -> None:
    """Who was answered after half a second counts as wanted, and not as done; who still waits too."""
    counts = apps.Counts(80)
    assert apps.take_run(SYSBENCH, counts)
    assert (counts.done, counts.wanted) == (397, 402)
    work = Work(counts.done, counts.wanted, latencies=counts.latencies)
    assert work.latency_s(0.5) == 0.005
    assert work.latency_s(0.999) == 1.0


def test_a_run_that_failed_is_none(apps: ModuleType) -> None:
    """Its report has no histogram."""
    counts = apps.Counts(80)
    assert not apps.take_run("FATAL: unable to connect to MySQL server", counts)
    assert counts.wanted == 0


def test_transactions_of_pgbench_are_counted(apps: ModuleType) -> None:
    """One was too late to begin, one took too long; the last line is not whole yet."""
    counts = apps.Counts(60)
    rest = apps.take_transactions(PGBENCH, counts)
    assert (counts.done, counts.wanted, rest) == (1, 3, "1 202 24")
    assert apps.take_transactions(rest + "41 0 1175850569 1609 3\n", counts) == ""
    assert (counts.done, counts.wanted) == (2, 4)


def test_a_client_that_says_nothing_loses_the_work(apps: ModuleType) -> None:
    """A server that hangs is no server that had nothing to do."""
    counts = apps.Counts(100)
    counts.heard -= 60.0 + apps.QUIET_S
    _, done, wanted, _ = counts.line().split()
    assert int(done) == 0
    assert int(wanted) >= 100 * 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Answers the first two requests, as Redis does, hangs up, and answers all of the next connection."""
    path = str(tmp_path / "s")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()

    def serve() -> None:
        for answers in (2, 100):
            one, _ = listening.accept()
            with one:
                for _ in range(answers):
                    if not one.recv(100):
                        return
                    one.sendall(b"$3\r\n")
                    one.sendall(b"abc\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield path
    listening.close()


def test_a_server_that_hangs_up_is_asked_again(apps: ModuleType, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request that it dropped is lost, the others are answered."""
    monkeypatch.setitem(apps.SOCKETS, "redis", server)
    counts = apps.Counts(1000)

    class Enough(Exception):  # noqa: N818 an end, no error
        """The test has seen what it wants."""

    class Voice:
        def speak(self) -> None:
            if counts.wanted >= 20:
                raise Enough

    with pytest.raises(Enough):
        apps.redis(1000, counts, Voice())
    assert counts.wanted == 20
    assert sum(counts.latencies) >= 2
    assert counts.done < counts.wanted, "the dropped one is not done"


def test_a_client_begins_anew_when_it_is_told(apps: ModuleType) -> None:
    """By a line on its standard input: what came before does not count."""
    counts = apps.Counts(1)
    counts.add(0.001, 5)
    told, tell = os.pipe()
    heard, says = os.pipe()
    saved = os.dup(0), os.dup(1)
    try:
        os.dup2(told, 0)
        os.dup2(says, 1)
        voice = apps.Voice(counts)
        voice.speak()
        os.write(tell, b"start\n")
        voice.due = 0.0
        voice.speak()
    finally:
        os.dup2(saved[0], 0)
        os.dup2(saved[1], 1)
    assert select.select([heard], [], [], 0)[0]
    before, after = os.read(heard, 4096).decode().splitlines()
    assert before.split()[:3] == ["app", "5", "5"]
    assert after.split()[:3] == ["app", "0", "0"]


def test_an_application_needs_a_guest_of_its_size() -> None:
    """Its data are of one size: at a larger scale it would not fit, and says so."""
    scenario = load("apps")
    _refuse_small(scenario, scripts(scenario, 32, 1))
    with pytest.raises(SettingsError, match=r"postgresql would have 256 MiB.*--scale"):
        _refuse_small(scenario, scripts(scenario, 64, 1))


def test_an_application_needs_a_rate(tmp_path: Path) -> None:
    """And a rate an application."""
    head = 'name = "a"\nabout = "a"\nduration_s = 1\n[host]\nmemory = "8GiB"\n'
    path = tmp_path / "a.toml"
    path.write_text(
        head + '[[guests]]\nname = "a"\nmemory = "16GiB"\napp = "redis"\n' + '[[guests.phases]]\nat_s = 0\nused = "4GiB"\n'
    )
    with pytest.raises(SettingsError, match=r"guests\[0\]\.app_rate"):
        load(str(path))
