"""The commands that the daemon answers, as an operator would give them."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.widgets import DataTable, Static

import ballonet
from ballonet.cli import doctor, status
from ballonet.cli.console import Plain
from ballonet.cli.status import table
from ballonet.cli.times import parse_span, parse_time
from ballonet.control.client import Client
from ballonet.control.routes import DOCTOR
from ballonet.model.finding import Finding, Level
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Mode
from ballonet.status.words import GuestStatus
from ballonet.tui.top import Top
from daemons import PROGRAM, Daemon, peers, running, until


def test_status_for_people_and_for_programs(daemon: Daemon) -> None:
    """The guests in a table, and the same in JSON."""
    text = " ".join(daemon.cli("status").split())

    assert all(word in text for word in ("v-0", "v-2", "512 MiB", "Mode act", "has set that 64 TiB stay free"))
    found = json.loads(daemon.cli("status", "--json"))
    assert found["schema"] == "ballonet.status/1"
    assert [guest["name"] for guest in found["guests"]] == ["v-0", "v-1", "v-2"]
    assert found["guests"][0]["uuid"]


def test_explain_names_numbers_and_remedy(daemon: Daemon) -> None:
    """Now, and at a time of the past."""
    told: list[str] = []

    def is_told() -> bool:  # as it stands at that moment: a guest that is asked for memory again has other words
        told.append(daemon.tries("explain", "v-1"))
        return "`ballonet set v-1 --" in told[-1]

    until(is_told)
    assert "What would change it:" in told[-1]
    until(lambda: '"guest":"v-1"' in daemon.tries("explain", "v-1", "--at", "1s", "--json").replace(" ", ""))
    past = json.loads(daemon.cli("explain", "v-1", "--at", "1s", "--json"))
    assert past["is_past"] is True
    assert "history has nothing within" in daemon.cli("explain", "v-1", "--at", "2001-01-01 10:00", code=1)


def test_hold_outlives_a_killed_daemon(tmp_path: Path) -> None:
    """What is on hold stays so after kill -9, and is let go by one command; so does a whole host."""
    with running(tmp_path) as daemon:
        assert "on hold for 30m" in daemon.cli("hold", "v-1", "--for", "30m", "--why", "backup")
        until(lambda: "on hold" in daemon.status().guests[1].leave_alone)
        assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
        daemon.spawn()
        daemon.until_up(3)
        told = daemon.cli("explain", "v-1")
        assert "backup" in told
        assert "ballonet release v-1" in told
        daemon.cli("hold")
        until(lambda: all("on hold" in guest.leave_alone for guest in daemon.status().guests))
        assert "all are on hold still" in daemon.cli("release", "v-1")
        daemon.cli("release")
        until(lambda: not any(guest.leave_alone for guest in daemon.status().guests))


def test_hold_ends_by_itself(daemon: Daemon) -> None:
    """After its time."""
    daemon.cli("hold", "v-2", "--for", "1s")
    until(lambda: not daemon.status().guests[2].leave_alone)
    assert "had ended by itself" in daemon.cli("release", "v-2")
    assert "was not on hold" in daemon.cli("release", "v-2")


def test_set_and_take_back(daemon: Daemon) -> None:
    """A floor counts from the next tick on, `default` is the configuration's again."""
    orders = json.loads(daemon.cli("set", "v-0", "--floor", "300MiB", "--shares", "2000", "--json"))
    uuid = daemon.status().guests[0].uuid
    assert orders["guests"][uuid] == {"floor_bytes": 300 << 20, "shares": 2000}
    assert orders["names"] == {uuid: "v-0"}
    until(lambda: daemon.status().guests[0].floor_bytes == 300 << 20)
    assert "above the ceiling" in daemon.cli("set", "v-0", "--ceiling", "200MiB", code=1)
    daemon.cli("set", "v-0", "--floor", "default", "--shares", "default")
    # What counts may be more: it is not known to have swap (R6). What is set is the file's again.
    until(lambda: re.search(r"100 MiB(,| are) (as )?set", daemon.tries("explain", "v-0")) is not None)


def test_set_says_what_is_in_force_and_what_does_not_go_together(daemon: Daemon) -> None:
    """Before and after; a floor that no guest of that size can have is set, and told."""
    told = daemon.cli("set", "v-0", "--floor", "64GiB", "--guaranteed", "8GiB", "--shares", "7")
    assert "floor 64 GiB (was 100 MiB)" in told
    assert "shares 7 (was 1000)" in told
    assert "its floor of 64 GiB is above the 512 MiB" in " ".join(told.split())
    until(lambda: "its floor of 64 GiB is above" in daemon.tries("doctor", "--json"))
    assert "what is guaranteed to it, 8 GiB" in daemon.cli("doctor", "--json")
    for text in ("256", "1", "0.5"):
        assert "unit" in daemon.cli("set", "v-0", "--floor", text, code=2)
    daemon.cli("set", "v-0", "--floor", "default", "--guaranteed", "default", "--shares", "default")


def test_orders_for_a_guest_that_is_not_up_wait_for_it(tmp_path: Path) -> None:
    """Told so; and in force once it comes."""
    with running(tmp_path, guests=1) as daemon:
        assert "kept for when one comes" in daemon.cli("hold", "late-0", "--why", "patch day")
        assert "kept for when one comes" in daemon.cli("set", "late-0", "--shares", "7")
        with peers(daemon.folder, 1, prefix="late"):
            until(lambda: any(one.name == "late-0" and "patch day" in one.leave_alone for one in daemon.status().guests))
            assert '"shares": 7' in daemon.cli("set", "late-0", "--mode", "observe", "--json")


def test_mode_of_host_and_guest(daemon: Daemon) -> None:
    """Set, shown, and given back; a guest's is never more than the host's."""
    assert "observe, as ordered" in daemon.cli("mode", "observe")
    until(lambda: {guest.mode.value for guest in daemon.status().guests} == {"observe"})
    told = daemon.cli("explain", "v-0")
    assert "could spare" in told
    assert "ballonet mode act" in told
    assert "act, as configured" in daemon.cli("mode", "default")
    daemon.cli("set", "v-0", "--mode", "observe")
    until(lambda: daemon.status().guests[0].mode.value == "observe")
    assert "ballonet set v-0 --mode act" in daemon.cli("explain", "v-0")
    daemon.cli("set", "v-0", "--mode", "default")


def test_history_of_decisions_and_of_a_guest(daemon: Daemon) -> None:
    """What was decided and why; what a guest kept, used and needed."""
    until(lambda: "v-0" in daemon.tries("history"))
    rows = json.loads(daemon.cli("history", "v-0", "--json"))
    assert {row["guest"] for row in rows} == {"v-0"}
    assert all(row["sentence"] for row in rows)
    until(lambda: daemon.tries("history", "v-0", "--samples", "--json").count('"at"') > 2)
    chart = daemon.folder / "v-0.png"
    daemon.cli("history", "v-0", "--plot", str(chart))
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert "of one guest" in daemon.cli("history", "--plot", str(chart), code=2)
    until(lambda: json.loads(daemon.cli("history", "--samples", "--json"))[-1]["guests"] == 3)  # a row each 10 s


def test_replay_of_what_was_seen(daemon: Daemon) -> None:
    """Another policy over the recorded ticks; too little of it is said."""
    until(lambda: daemon.tries("history", "v-0", "--samples", "--json").count('"at"') > 11)
    found = json.loads(daemon.cli("replay", "--policy", "static", "--policy", "adaptive", "--no-simulate", "--json"))
    assert [one["policy"] for one in found["asked"]] == ["static", "adaptive"]
    assert set(found["asked"][0]["guests"]) == {"v-0", "v-1", "v-2"}
    assert "give an earlier --from" in daemon.cli("replay", "--from", "1s", code=2)


@pytest.mark.parametrize("harm", ["[loo\n", "[loop]\nmode = 3\n", "\xff"])
def test_a_broken_configuration_stops_no_panic_button(tmp_path: Path, harm: str) -> None:
    """The daemon runs well with the last good one: it is asked, told so, and doctor says what is wrong."""
    with running(tmp_path, guests=1) as daemon:
        text = daemon.config.read_text()
        daemon.config.write_bytes((text + harm).encode("latin-1"))
        assert "is on hold" in daemon.cli("hold", "--why", "panic")
        until(lambda: "on hold" in daemon.status().guests[0].leave_alone)
        assert "v-0" in daemon.cli("status")
        assert "the configuration is wrong" in json.loads(subprocess_out(daemon, "doctor", "--json"))[0]["what"]
        daemon.cli("release")
    done = subprocess.run([PROGRAM, "status", "-c", tmp_path / "none.toml"], capture_output=True, text=True, check=False)
    assert (done.returncode, "no configuration at" in done.stderr) == (2, True)


def subprocess_out(daemon: Daemon, *words: str) -> str:
    """What a command prints, whatever its exit code."""
    return subprocess.run([PROGRAM, *words, "-c", daemon.config], capture_output=True, text=True, check=False).stdout


def test_mistakes_are_one_line(daemon: Daemon, tmp_path: Path) -> None:
    """With what there is instead; no stack traces."""
    for words, code, says in (
        (("explain", "nobody"), 1, "there are: v-0, v-1, v-2"),
        (("release", "nobody"), 1, "no guest 'nobody'"),
        (("top",), 2, "needs a terminal"),
        (("mode", "perhaps"), 2, "observe, advise, act"),
        (("set", "v-0"), 2, "nothing to set"),
        (("set", "v-0", "--floor", "16 apples"), 2, "unit 'apples'"),
        (("set", "v-0", "--shares", "0"), 2, "1 to 50000"),
        (("history", "nobody"), 1, "nothing in that time of a guest 'nobody'"),
        (("hold", "--for", "soon"), 2, "90s, 10m"),
        (("explain", "v-0", "--at", "noon"), 2, "14:03"),
    ):
        told = daemon.cli(*words, code=code)
        assert says in told.replace("\n", " "), told
        assert "Traceback" not in told
    nobody = Daemon(tmp_path)
    nobody.config.write_text(f'[qemu]\nsockets = ["x"]\n[control]\nsocket = "{tmp_path}/c"\n')
    assert "no daemon answers" in nobody.cli("mode", code=1)


def test_proxies_and_certificates_of_the_environment_are_not_for_the_socket(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's shell may name both; neither comes between a command and the daemon of this host."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/at/all.pem")
    assert "act, as configured" in daemon.cli("mode")


def test_doctor_asks_the_daemon(daemon: Daemon) -> None:
    """Which holds the sockets that a look of its own would need."""
    found = json.loads(daemon.cli("doctor", "--json"))
    assert any(one["where"] == "v-0" and "free page reporting is off" in one["what"] for one in found)


def test_top_for_programs(daemon: Daemon) -> None:
    """A status a line, for as long as it is read."""
    words = [str(PROGRAM), "top", "--json", "-c", str(daemon.config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.terminate()
    assert seen[1]["host"]["at"] > seen[0]["host"]["at"]


async def test_top_shows_and_holds(daemon: Daemon) -> None:
    """The live board: a guest is held by a key, said so, and let go."""
    client = Client(daemon.folder / "control.sock")
    app = Top(client)
    async with app.run_test(size=(140, 30)) as pilot:

        async def until_told(where: str, what: str, *keys: str) -> None:
            for _ in range(600):
                await pilot.press(*keys)
                if what in str(app.query_one(where, Static).render()):
                    return
                await pilot.pause(0.1)
            raise AssertionError(f"{what!r} is not told in {where}")

        await until_told("#host", "mode act")
        for careless in ("h", "question_mark", "f1", "H", "A"):  # nothing is held by one key
            await pilot.press(careless, "escape")
        assert not any(guest.leave_alone for guest in daemon.status().guests)
        await pilot.press("H", "y")
        await until_told("#why", "ballonet release v-0")
        while "alone" not in str(app.query_one(DataTable).get_row("v-0")):
            await pilot.pause(0.1)
        await pilot.press("H", "y")
        await until_told("#why", "v-0 is let go")
        await pilot.press("s")
        await until_told("#why", "`ballonet set ", "e")  # asked at the tick after it was let go
    client.close()


def test_times_as_people_write_them() -> None:
    """Spans, times of day, dates; and what cannot be one."""
    assert [parse_span(text) for text in ("90s", "10m", "2h", "1h30m", "7d")] == [90, 600, 7200, 5400, 604800]
    now = time.mktime((2026, 11, 24, 15, 0, 0, 0, 0, -1))
    assert parse_time("10m", now) == now - 600
    assert parse_time("14:03", now) == now - 57 * 60
    assert parse_time("15:03", now) == now + 3 * 60 - 86400
    assert parse_time("2026-11-24 14:03:05", now) == now - 57 * 60 + 5
    assert parse_time("12345.5", now) == 12345.5
    for text in ("25:00", "tomorrow", "", "5 parsecs"):
        with pytest.raises(SettingsError):
            parse_time(text, now)


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [  # UTC; Berlin's summer of 2026 begins on 29 March at 1:00 and ends on 25 October at 1:00
        ("2026-10-25T12:00", "01:30", "2026-10-24T23:30"),  # still summer then
        ("2026-10-25T12:00", "02:30", "2026-10-25T01:30"),  # twice: the later one
        ("2026-10-25T00:45", "02:30", "2026-10-25T00:30"),  # it has been once
        ("2026-10-25T12:00", "2026-10-25 01:30", "2026-10-24T23:30"),
        ("2026-03-29T12:00", "01:30", "2026-03-29T00:30"),
        ("2026-03-29T12:00", "03:30", "2026-03-29T01:30"),
        ("2026-03-29T20:00", "23:30", "2026-03-28T22:30"),  # yesterday, in winter
    ],
)
def test_times_on_days_on_which_the_clock_changes(now: str, text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hour that the clock of this place showed."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        at = datetime.fromisoformat(f"{now}+00:00").timestamp()
        assert parse_time(text, at) == datetime.fromisoformat(f"{expected}+00:00").timestamp()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_status_fits_a_narrow_terminal() -> None:
    """150 guests on 80 columns: a line each, with one word why; sentences where there is room or they are asked for."""
    sizes = {
        "ceiling_bytes": 16 << 30,
        "keep_bytes": 11 << 30,
        "resident_bytes": 9 << 30,
        "available_bytes": 1,
        "used_bytes": 7 << 30,
    }
    sizes |= {"need_bytes": 8 << 30, "floor_bytes": 1 << 30, "short_bytes": 300 << 20, "target_bytes": 11 << 30}
    words = {"name": "", "uuid": "", "reason": "short", "sentence": "and so on " * 20, "voice": "balloon", "leave_alone": ""}
    more = {"mode": Mode.ACT, "is_command": False, "stats_age_s": 1.0, "mechanisms": ("balloon",), "trouble": ""}
    one = GuestStatus(**sizes, **words, **more)  # type: ignore[arg-type]  # each by its name
    file = io.StringIO()
    console = Plain(file=file, width=80, markup=False)
    console.print(table([replace(one, name=f"a-name-of-some-length-{number}") for number in range(150)], is_wide=False))
    lines = [line for line in file.getvalue().splitlines() if "a-name" in line]
    assert len(lines) == 150
    assert all("short 300 MiB" in line for line in lines)


@pytest.mark.parametrize("width", [40, 59])
def test_status_on_half_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked most, whole: nothing is cut off."""
    file = io.StringIO()
    console = Plain(file=file, width=width, markup=False)
    monkeypatch.setattr(status, "out", console)
    sizes = {
        "ceiling_bytes": 16 << 30,
        "keep_bytes": 11 << 30,
        "resident_bytes": 9 << 30,
        "available_bytes": 1,
        "used_bytes": 7 << 30,
    }
    sizes |= {"need_bytes": 8 << 30, "floor_bytes": 1 << 30, "short_bytes": 0, "target_bytes": 11 << 30}
    words = {"name": "web-0", "uuid": "", "reason": "distress", "sentence": "", "voice": "balloon", "leave_alone": ""}
    more = {"mode": Mode.ACT, "is_command": False, "stats_age_s": 1.0, "mechanisms": ("balloon",), "trouble": ""}
    console.print(status.table([GuestStatus(**sizes, **words, **more)], is_wide=False))  # type: ignore[arg-type]  # each by its name
    assert "…" not in file.getvalue()
    assert all(word in file.getvalue() for word in ("web-0", "11 GiB", "8 GiB", "distress"))


async def test_top_on_a_narrow_terminal_tells_a_hold_once(daemon: Daemon) -> None:
    """40 columns: the host's lines are broken and not cut, names are there, and a hold is said in one word."""
    daemon.cli("hold", "--why", "backup")
    client = Client(daemon.folder / "control.sock")
    app = Top(client)
    try:
        async with app.run_test(size=(40, 30)) as pilot:
            while "ON HOLD" not in (told := str(app.query_one("#host", Static).render())):
                await pilot.pause(0.1)
            assert told.lower().count("on hold") == 1
            assert "(backup)" in told
            while app.query_one("#host", Static).size.height <= len(told.splitlines()):  # until it is broken where it must be
                await pilot.pause(0.1)
            assert app.query_one(DataTable).get_row("v-0")
    finally:
        client.close()
        daemon.cli("release")


def test_what_is_ordered_is_listed(daemon: Daemon) -> None:
    """The mode, holds and what was set; and nothing when all is as configured."""
    assert "nothing is ordered" in daemon.cli("orders")
    daemon.cli("set", "v-2", "--floor", "300MiB", "--shares", "500")
    daemon.cli("hold", "v-1", "--why", "backup")
    until(lambda: "backup" in daemon.cli("orders"))
    told = daemon.cli("orders")
    assert "v-2: floor 300 MiB, shares 500; as configured again: ballonet set v-2 --floor default --shares default" in told
    assert "v-1: on hold (backup); to let it go: ballonet release v-1" in told.splitlines()
    assert json.loads(daemon.cli("orders", "--json"))["guests"]
    daemon.cli("release", "v-1")
    daemon.cli("set", "v-2", "--floor", "default", "--shares", "default")
    assert "v-2" not in daemon.cli("orders")


def test_a_daemon_that_is_gone_leaves_its_orders_to_be_seen(tmp_path: Path) -> None:
    """Status by itself tells that nothing is moved, and what is in force when one runs."""
    with running(tmp_path, guests=2, mode="observe") as daemon:
        daemon.cli("mode", "act")
        daemon.cli("hold", "v-1")
        assert daemon.process is not None
        daemon.process.kill()
        daemon.process.wait()
        told = subprocess.run([PROGRAM, "status", "-c", daemon.config], capture_output=True, text=True, check=False)
        assert "nothing is moved meanwhile; mode act is ordered for when one runs, on hold then: v-1" in told.stderr.replace(
            "\n", " "
        )
        assert "Mode act" in told.stdout


def test_versions_and_help_of_the_program(daemon: Daemon) -> None:
    """As of any: `--version`, and help where nothing is asked."""
    for words in (["--version"], ["version"]):
        assert (
            subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=True).stdout.strip() == ballonet.__version__
        )
    assert "Commands" in subprocess.run([PROGRAM], capture_output=True, text=True, check=True).stdout or "Watch"
    names = names_of(daemon, "v-")
    assert names == ["v-0", "v-1", "v-2"]
    assert names_of(daemon, "w") == []


def names_of(daemon: Daemon, begin: str) -> list[str]:
    """What a shell would complete."""
    words = {"_BALLONET_COMPLETE": "complete_bash", "COMP_WORDS": f"ballonet explain {begin}", "COMP_CWORD": "2"}
    words |= {"BALLONET_CONFIG": str(daemon.config), "_TYPER_COMPLETE_ARGS": f"ballonet explain {begin}"}
    done = subprocess.run([PROGRAM], capture_output=True, text=True, check=False, env=os.environ | words)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("more", "says", "code"),
    [
        ('listen = "127.0.0.1:1"\ntoken_file = "/nowhere"\n', "warning: no client can come over TCP", 0),
        ('listen = "0.0.0.0:1"\n', "not a loopback address", 2),
        ('[vsphere]\nserver = "s"\nuser = "u"\npassword_file = "/nowhere"\n', "vsphere.password_file", 2),
    ],
)
def test_check_config_finds_what_would_not_start(tmp_path: Path, more: str, says: str, code: int) -> None:
    """And what would start without a door."""
    path = tmp_path / "b.toml"
    path.write_text(f"[control]\n{more}" + ("" if "vsphere" in more else '[qemu]\nsockets = ["x"]\n'))
    done = subprocess.run([PROGRAM, "check-config", "-c", path], capture_output=True, text=True, check=False)
    assert (done.returncode, says in done.stderr.replace("\n", " ")) == (code, True), done.stderr


def test_status_of_some_and_in_order(daemon: Daemon) -> None:
    """Filtered and sorted; what is not known is told with what there is."""
    daemon.cli("hold", "v-1", "--why", "backup")
    until(lambda: '"v-1"' in daemon.tries("status", "--only", "alone", "--json"))
    assert "v-0" not in daemon.cli("status", "--only", "alone")
    daemon.cli("release", "v-1")
    needs = [one["need_bytes"] or 0 for one in json.loads(daemon.cli("status", "--sort", "need", "--json"))["guests"]]
    assert needs == sorted(needs, reverse=True)
    assert "there are short, alone" in daemon.cli("status", "--only", "tired", code=2)


@pytest.mark.parametrize("command", ["hold", "release", "history"])
@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_all_guests(daemon: Daemon, command: str, name: str) -> None:
    """A script's variable that is not set."""
    assert "leave it out to mean all guests" in daemon.cli(command, name, code=2)


@pytest.mark.parametrize("words", [["explain"], ["set", "--shares", "5"], ["deflate", "--yes"]])
@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_no_guest(daemon: Daemon, words: list[str], name: str) -> None:
    """Also where one is wanted."""
    command, *rest = words
    assert "Not Found" not in daemon.cli(command, name, *rest, code=2)


@pytest.mark.parametrize("words", [["hold"], ["release"], ["mode", "act"], ["set", "v-0", "--shares", "5"], ["orders"]])
def test_a_configuration_that_is_not_there_leads_to_no_other_daemon(tmp_path: Path, words: list[str]) -> None:
    """What was meant for one host is not ordered of another."""
    gone = tmp_path / "gone.toml"
    done = subprocess.run([PROGRAM, *words, "-c", gone], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no configuration at {gone}" in done.stderr.replace("\n", "")


def test_deflate_for_programs_asks_too(daemon: Daemon) -> None:
    """JSON is a form of the answer, and no yes; a dry run has one."""
    assert "--yes" in daemon.cli("deflate", "v-0", "--json", code=2)
    assert not daemon.status().guests[0].leave_alone
    found = json.loads(daemon.cli("deflate", "v-0", "--dry-run", "--json"))
    assert found["schema"] == "ballonet.deflate-plan/1"
    assert set(found["missing"]) == {"v-0"}
    assert found["sentences"]


@pytest.mark.parametrize("option", ["--headroom", "--cache"])
def test_what_is_set_as_a_portion_is_kept_in_history(tmp_path: Path, option: str) -> None:
    """As a size, and as a share."""
    with running(tmp_path) as daemon:
        for value in ("64MiB", "10%"):
            daemon.cli("set", "v-1", option, value)
            at = daemon.status().host.at
            until(lambda at=at: daemon.status().host.at > at + 1)  # type: ignore[misc]
        assert "history failed" not in daemon.log
        until(lambda: "set" in daemon.tries("history", "v-1"))


def test_orders_of_the_host_are_no_guest_s(tmp_path: Path) -> None:
    """Also where guests have no UUID."""
    with running(tmp_path) as daemon:
        daemon.cli("hold")
        daemon.cli("release")
        until(lambda: "is let go" in daemon.tries("history"))
        rows = json.loads(daemon.cli("history", "--json"))
        assert {row["guest"] for row in rows if row["by"]} == {""}


@pytest.mark.parametrize("name", ["/nonexist/x.png", "x.txt", "x"])
def test_a_chart_that_cannot_be_written_is_said_so(daemon: Daemon, tmp_path: Path, name: str) -> None:
    """In one line, with the file."""
    until(lambda: bool(daemon.tries("history", "v-0", "--samples")))
    told = daemon.cli("history", "v-0", "--plot", str(tmp_path / name), code=1)
    assert Path(name).name in told
    assert "Traceback" not in told


def test_a_full_output_is_said_so(daemon: Daemon) -> None:
    """And no trace."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [PROGRAM, "status", "--json", "-c", daemon.config], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def doctor_of(daemon: Daemon) -> str:
    with contextlib.closing(Client(daemon.folder / "control.sock")) as client:
        return "\n".join(one.what for one in client.ask(DOCTOR))


def test_a_file_that_is_not_in_force_yet_is_told(tmp_path: Path) -> None:
    """Until it is read, or says what it said."""
    with running(tmp_path) as daemon:
        assert "says something else" not in doctor_of(daemon)
        text = daemon.config.read_text()
        daemon.config.write_text(text + '[guest.v-1]\nfloor = "120MiB"\n')
        until(lambda: "says something else than what is in force" in doctor_of(daemon))
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: "says something else" not in doctor_of(daemon))


def test_who_was_not_on_hold_is_not_let_go(tmp_path: Path) -> None:
    """It is said, and nothing is written down."""
    with running(tmp_path) as daemon:
        until(lambda: bool(daemon.tries("history")))
        assert "not on hold" in daemon.cli("release", "v-1")
        assert "is let go" not in daemon.cli("history")


def test_a_mode_that_the_host_s_keeps_out_of_force_is_told(tmp_path: Path) -> None:
    """And not called what it is not."""
    with running(tmp_path) as daemon:
        daemon.cli("mode", "observe")
        told = daemon.cli("set", "v-1", "--mode", "act")
        assert "mode act is ordered and not in force: the host's is observe" in " ".join(told.split())
        assert "mode act (was observe)" not in told


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["hold", "v-0", "--for", "9000d"], "--for 9000d: must be at most 31536000 seconds"),
        (["hold", "v-0", "--for", "0s"], "--for 0s: must be more than 0 seconds"),
        (["deflate", "v-0", "--for", "9000d"], "--for 9000d: must be at most"),
        (["hold", "v-0", "--why", "x" * 300], "--why: must have at most 200 characters"),
        (["set", "v-0", "--floor", "99999999TiB"], "--floor: '99999999TiB' is more than any host has"),
        (["set", "v-0", "--shares", "0"], "--shares: '0': must be at least 1"),
        (["set", "v-0", "--floor", "5"], "--floor: '5' has no unit"),
    ],
)
def test_a_bound_is_told_by_the_option_that_broke_it(daemon: Daemon, words: list[str], place: str) -> None:
    """As wrong usage, whatever the API calls it."""
    assert place in " ".join(daemon.cli(*words, code=2).split())


def test_deflate_says_first_why_nothing_would_be_done(tmp_path: Path) -> None:
    """A host that only watches, a guest on hold, one that is only watched: refused before anything is announced."""
    with running(tmp_path) as daemon:
        daemon.cli("hold", "v-0")
        told = daemon.cli("deflate", "v-0", "--yes", code=1)
        assert "first ballonet release v-0" in told.replace("`", "")
        assert "in all" not in told
        daemon.cli("set", "v-1", "--mode", "observe")
        until(lambda: daemon.status().guests[1].mode is Mode.OBSERVE)
        assert "ballonet set v-1 --mode act" in daemon.cli("deflate", "v-1", "--yes", code=1).replace("\n", " ")
        daemon.cli("mode", "observe")
        assert "in all" not in daemon.cli("deflate", "v-2", "--yes", code=1)
        told = json.loads(daemon.cli("deflate", "v-2", "--dry-run", "--json"))["sentences"][-1]
        assert told.startswith("As it stands, nothing of this is done: mode observe")


def test_doctor_is_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word of what is wrong and of its remedy."""
    finding = Finding(level=Level.WARNING, where="web-1", what="says nothing " * 12, remedy="load its balloon driver " * 6)
    for width in (40, 80):
        written = Plain(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        monkeypatch.setattr(doctor, "out", written)
        doctor.show([finding])
        told = written.file.getvalue()  # type: ignore[attr-defined]
        assert (told.count("nothing"), told.count("driver"), "web-1" in told) == (12, 6, True)
