"""What befalls a daemon on a real host: state is adopted, nothing is over budget, nothing is silent, the loop goes on."""

import contextlib
import ctypes
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ballonet.status.words import Status
from daemons import PROGRAM, Daemon, peers, running, until

KILLS = int(os.environ.get("BALLONET_KILLS", "12"))
"""`BALLONET_KILLS=200` for a long run."""


def over_budget(status: Status) -> bool:
    return status.host.promised_bytes > status.host.guests_bytes


def test_killed_at_random_points_under_load(tmp_path: Path) -> None:
    """Kill -9 again and again while guests rise and fall: each start adopts what it finds, keeps the holds and the mode that were
    ordered, opens its history, which has lost no more than the last second, and promises no more than there is.
    """
    dice = random.Random(5)  # noqa: S311 any will do
    with running(tmp_path, 8) as daemon:
        daemon.cli("hold", "v-7", "--why", "kept")
        lost, begun = [], time.time()
        for number in range(KILLS):
            time.sleep(dice.uniform(0.0, 1.5))
            if number % 4 == 0:  # in the middle of an order
                order = _ordering(daemon, f"{100 + number}MiB")
                time.sleep(dice.uniform(0.0, 0.4))
                daemon.end(signal.SIGKILL)
                order.wait()
            else:
                daemon.end(signal.SIGKILL)
            killed = time.time()
            newest = _newest(tmp_path / "state/history.db", 0.0)
            if newest > begun:  # else it was killed as it came up, and had seen nothing yet
                lost.append(killed - newest)
            begun = killed
            daemon.spawn()
            if number % 3 == 0:
                status = daemon.until_up(8)
                assert not over_budget(status)
                assert "kept" in status.guests[7].leave_alone
        status = daemon.until_up(8)
        assert "kept" in status.guests[7].leave_alone
        until(lambda: daemon.status().host.tick_s > 0)
        assert "Traceback" not in daemon.log
        assert "damaged" not in daemon.log
        with contextlib.closing(sqlite3.connect(tmp_path / "state/history.db")) as history:
            assert history.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert len(lost) >= KILLS / 10
        assert sorted(lost)[int(0.9 * len(lost))] < 2.5, lost


def _ordering(daemon: Daemon, floor: str) -> "subprocess.Popen[bytes]":
    words = [str(PROGRAM), "set", "v-0", "--floor", floor, "-c", str(daemon.config)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _newest(path: Path, otherwise: float) -> float:
    if not path.exists():
        return otherwise
    # Killed before it was made: there is no table.
    with contextlib.closing(sqlite3.connect(path)) as history, contextlib.suppress(sqlite3.OperationalError):
        return history.execute("SELECT MAX(at) FROM ticks").fetchone()[0] or otherwise
    return otherwise


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """A small file system of its own at a folder, where this machine lets one."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "ballonet-test", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass


def test_a_full_disk_costs_history_and_nothing_else(tmp_path: Path) -> None:
    """Told and counted; orders are refused and nothing of them is applied; with room again all goes on by itself."""
    with disk(tmp_path / "state", "size=512k"):
        filler = tmp_path / "state/filler"
        with running(tmp_path) as daemon:
            fill(filler)
            until(lambda: "history not written" in daemon.log)
            fill(filler)  # what its log gave back as it was closed
            told = daemon.cli("set", "v-0", "--floor", "333MiB", code=1)
            assert "nothing is changed" in told
            assert daemon.status().guests[0].floor_bytes != 333 << 20
            at = daemon.status().host.at
            until(lambda: daemon.status().host.at > at + 1)
            filler.unlink()
            until(lambda: "history is written again" in daemon.log)
            daemon.cli("set", "v-0", "--floor", "333MiB")
            until(lambda: daemon.status().guests[0].floor_bytes == 333 << 20)


def test_a_read_only_disk(tmp_path: Path) -> None:
    """The daemon starts and steers; that nothing is kept is said, and an order that cannot be kept is refused."""
    with disk(tmp_path / "state", "size=4m,ro"), running(tmp_path) as daemon:
        until(lambda: "history not written" in daemon.log)
        until(lambda: min(guest.keep_bytes or 0 for guest in daemon.status().guests) < 512 << 20)
        assert "Read-only file system" in daemon.cli("hold", code=1)
        assert not daemon.status().host.hold


@pytest.mark.parametrize("harm", ["half", "gone", "nonsense"])
def test_history_and_orders_that_are_damaged(tmp_path: Path, harm: str) -> None:
    """History is begun anew; orders that cannot be read hold everything, since one of them may have been a hold."""
    with running(tmp_path) as daemon:
        daemon.cli("mode", "advise")
        until((tmp_path / "state/history.db").exists)
        daemon.end(signal.SIGKILL)
        for name in ("history.db", "orders.json"):
            file = tmp_path / "state" / name
            whole = file.read_bytes()
            if harm == "gone":
                file.unlink()
            else:
                file.write_bytes(whole[: len(whole) // 2] if harm == "half" else b"{nonsense" * 1000)
        if harm != "gone":
            for tail in ("-wal", "-shm"):
                (tmp_path / f"state/history.db{tail}").unlink(missing_ok=True)
        daemon.spawn()
        status = daemon.until_up(3)
        if harm == "gone":
            assert status.host.mode.value == "act"
            return
        assert "orders of before cannot be read" in status.host.hold
        assert all("on hold" in guest.leave_alone for guest in status.guests)
        until(lambda: "history was damaged" in daemon.log)
        daemon.cli("release")
        until(lambda: not daemon.status().host.hold)


def test_a_clock_that_jumps_both_ways(tmp_path: Path) -> None:
    """An hour back and an hour on, while it runs: decisions do not depend on it; history and holds go on."""
    faketime = _shifted_clock(tmp_path)
    with peers(tmp_path, 3):
        daemon = Daemon(tmp_path)
        daemon.start()
        assert daemon.process is not None
        daemon.process.kill()
        daemon.process.wait()
        (tmp_path / "shift").write_text("0")
        daemon.spawn(LD_PRELOAD=str(faketime), CLOCK_SHIFT=str(tmp_path / "shift"))
        try:
            daemon.until_up(3)
            for shift in (-3600, 3600, 0):
                (tmp_path / "shift").write_text(str(shift))
                until(lambda shift=shift: abs(daemon.status().host.at - time.time() - shift) < 5)  # type: ignore[misc]
                status = daemon.status()
                assert all(guest.stats_age_s is not None and guest.stats_age_s < 5 for guest in status.guests), status.guests[0]
                assert not over_budget(status)
                until(lambda shift=shift: _newest_is_near(tmp_path, time.time() + shift))  # type: ignore[misc]
            assert "Traceback" not in daemon.log
        finally:
            daemon.process.kill()
            daemon.process.wait()


def _newest_is_near(folder: Path, at: float) -> bool:
    with contextlib.closing(sqlite3.connect(folder / "state/history.db")) as history:
        last = history.execute("SELECT at FROM ticks ORDER BY id DESC LIMIT 1").fetchone()
    return last is not None and abs(last[0] - at) < 5


def _shifted_clock(folder: Path) -> Path:
    """A library that shifts the wall clock of a process by what a file says."""
    source = folder / "clock.c"
    source.write_text(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <time.h>\n"
        "int clock_gettime(clockid_t id, struct timespec *at) {\n"
        "  static int (*real)(clockid_t, struct timespec *);\n"
        '  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");\n'
        "  int done = real(id, at); long shift = 0;\n"
        '  if (id == CLOCK_REALTIME) { FILE *file = fopen(getenv("CLOCK_SHIFT"), "r");\n'
        '    if (file) { if (fscanf(file, "%ld", &shift) != 1) shift = 0; fclose(file); } }\n'
        "  at->tv_sec += shift; return done;\n}\n"
    )
    library = folder / "clock.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, capture_output=True)
        ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler for a clock that jumps: {error}")
    return library


def test_proc_that_cannot_be_read(tmp_path: Path) -> None:
    """Without meminfo nothing is decided, and that is said; with it again all goes on."""
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    for name in ("self", "uptime", "pressure"):
        (root / "proc" / name).symlink_to(f"/proc/{name}")
    meminfo = root / "proc/meminfo"
    meminfo.write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    with peers(tmp_path, 2):
        daemon = Daemon(tmp_path, root=str(root))
        daemon.start()
        try:
            daemon.until_up(2)
            for broken in ("", "MemTotal: lots\n", None):
                if broken is None:
                    meminfo.unlink()
                else:
                    meminfo.write_text(broken)
                before = daemon.log.count("host cannot be read")
                until(lambda before=before: daemon.log.count("host cannot be read") > before)  # type: ignore[misc]
                at = daemon.status().host.at
                time.sleep(1.5)
                assert daemon.status().host.at == at
                meminfo.write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
                until(lambda at=at: daemon.status().host.at > at)  # type: ignore[misc]
            assert "Traceback" not in daemon.log
        finally:
            assert daemon.end() == 0


def test_fifty_guests_at_once(tmp_path: Path) -> None:
    """All are found, none is promised what is not there, and the daemon goes on ticking while they come."""
    with running(tmp_path, 1) as daemon, peers(tmp_path, 50, prefix="many"):
        status = daemon.until_up(51)
        assert len(status.guests) == 51
        assert not over_budget(status)
        assert "Traceback" not in daemon.log


def test_the_control_socket_removed(tmp_path: Path) -> None:
    """By a careless hand, while it runs: ballooning goes on, and within moments there is one again, as narrow as before."""
    with running(tmp_path) as daemon:
        until((tmp_path / "state/history.db").exists)
        socket = tmp_path / "control.sock"
        mode = socket.stat().st_mode
        socket.unlink()
        assert "no daemon answers" in daemon.cli("mode", code=1)
        before = _ticks(tmp_path)
        until(lambda: _ticks(tmp_path) > before)
        until(socket.exists)
        daemon.until_up(3)
        assert socket.stat().st_mode == mode
        assert daemon.log.count("the control socket was removed") == 1
        socket.unlink()
        socket.with_suffix(".lock").unlink()
        until(socket.exists)
        daemon.until_up(3)
        assert daemon.end() == 0
        assert not socket.exists()


def test_qmp_sockets_that_may_no_longer_be_opened(tmp_path: Path) -> None:
    """A guest's socket that goes away: the guest is said to be gone, the others go on."""
    with running(tmp_path) as daemon:
        (tmp_path / "q/v-1.sock").rename(tmp_path / "q/v-1.away")
        until(lambda: [guest.name for guest in daemon.status().guests] == ["v-0", "v-2"])
        assert json.dumps("guest gone") in daemon.log
        (tmp_path / "q/v-1.away").rename(tmp_path / "q/v-1.sock")
        daemon.until_up(3)


def _ticks(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "state/history.db")) as history:
        return int(history.execute("SELECT COUNT(*) FROM ticks").fetchone()[0])


def test_figures_that_are_not_of_now_are_called_old(tmp_path: Path) -> None:
    """The host cannot be read any more: status says how old what it shows is, and exits 1 until that is of now again."""
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    meminfo = root / "proc/meminfo"
    text = "".join(
        f"{name}: {size} kB\n" for name, size in (("MemTotal", 8 << 20), ("MemFree", 4 << 20), ("MemAvailable", 4 << 20))
    )
    meminfo.write_text(text)
    daemon = Daemon(tmp_path, root=str(root))
    with peers(tmp_path, 1):
        daemon.start()
        try:
            daemon.until_up(1)
            assert "s old:" not in daemon.cli("status")
            meminfo.write_text("nonsense")
            until(lambda: time.time() - daemon.status().host.at > 9)
            assert "s old: the daemon has not looked since" in daemon.cli("status", code=1)
            meminfo.write_text(text)
            until(lambda: time.time() - daemon.status().host.at < 2)
            daemon.cli("status")
        finally:
            daemon.end()
