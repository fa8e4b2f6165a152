"""History says what was done, by whom, and nothing else."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ballonet.control.client import Client
from ballonet.control.routes import HISTORY
from ballonet.daemon.changes import THERE_BYTES
from ballonet.hypervisors.qemu.answers import Nothing
from ballonet.hypervisors.qemu.qmp import QmpSession
from ballonet.status.errors import ControlError
from daemons import Daemon, running, until


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as one:
        yield one


def rows(daemon: Daemon, **like: str) -> list[dict[str, Any]]:
    """Rows of history with these values; none while nobody answers."""
    client = Client(daemon.folder / "control.sock")
    try:
        found = [msgspec.to_builtins(row) for row in client.ask(HISTORY)]
    except ControlError:
        return []
    finally:
        client.close()
    return [row for row in found if all(row.get(key) == value for key, value in like.items())]


def moves(daemon: Daemon, name: str, mib: int) -> None:
    """Somebody else moves a balloon: virsh setmem, pvestatd, MOM."""

    async def ask() -> None:
        session = await QmpSession.open(str(daemon.folder / f"q/{name}.sock"), 10.0)
        await session.call("balloon", Nothing, 10.0, value=mib << 20)
        session.close()

    asyncio.run(ask())


def test_advice_is_not_called_sent(tmp_path: Path) -> None:
    """In mode advise nothing is sent, and nobody reads that it was."""
    with running(tmp_path, mode="advise") as daemon:
        until(lambda: bool(rows(daemon, done="advised")))
        assert not rows(daemon, done="sent")
        assert {row["mode"] for row in rows(daemon, done="advised")} == {"advise"}
        told = daemon.cli("history")
        assert "advised" in told
        assert "sent" not in told


def test_each_command_and_each_hand_from_outside_has_its_row(daemon: Daemon) -> None:
    """A balloon that somebody else moved is told as such, and so is what was sent to put it right, each time."""
    until(lambda: len(rows(daemon, guest="v-0", done="sent")) >= 1)
    for count in (1, 2, 3):

        def is_at_rest() -> bool:
            guest = daemon.status().guests[0]
            # Its use rises and falls, so it may be asked for a little more at each tick: it is there, as the daemon counts it.
            return abs((guest.keep_bytes or 0) - (guest.target_bytes or 0)) <= THERE_BYTES

        until(is_at_rest)
        sent = len(rows(daemon, guest="v-0", done="sent"))
        moves(daemon, "v-0", 505)
        until(lambda count=count: len(rows(daemon, guest="v-0", reason="moved")) >= count)  # type: ignore[misc]
        until(lambda sent=sent: len(rows(daemon, guest="v-0", done="sent")) > sent)  # type: ignore[misc]
    assert "another controller moved its balloon, from" in rows(daemon, reason="moved")[0]["sentence"]
    assert "times in an hour" in daemon.cli("doctor", "--json")
    assert not rows(daemon, guest="v-1", reason="moved")


def test_orders_have_a_row_with_who(daemon: Daemon) -> None:
    """Holds, settings, modes and reloads; who came by the socket is a user, who came over TCP had the token."""
    daemon.cli("hold", "v-1", "--why", "backup")
    daemon.cli("set", "v-1", "--shares", "7", "--floor", "200MiB")
    daemon.cli("release", "v-1")
    daemon.cli("mode", "advise")
    until(lambda: len(rows(daemon, reason="order")) == 4)
    found = rows(daemon, reason="order")
    assert {row["by"] for row in found} == {"root"}
    assert [row["guest"] for row in found] == ["v-1", "v-1", "v-1", ""]
    said = " | ".join(row["sentence"] for row in found)
    assert said == "is put on hold: backup | set floor 200 MiB, shares 7 | is let go | mode advise"
    assert daemon.process is not None
    daemon.process.send_signal(1)
    until(lambda: bool(rows(daemon, reason="reload")))
    assert "mode advise is in force" in rows(daemon, reason="reload")[0]["sentence"]


def test_a_restart_tells_of_no_guest_what_is_not_so(daemon: Daemon) -> None:
    """Nothing is known of guests in its first moments: no row says that they have no driver, or are not known."""
    until(lambda: len(rows(daemon, done="sent")) > 0)
    assert daemon.process is not None
    daemon.process.kill()
    daemon.process.wait()
    at = rows(daemon)[-1]["at"] if rows(daemon) else 0.0
    daemon.spawn()
    daemon.until_up(3)
    until(lambda: len({row["guest"] for row in rows(daemon) if row["at"] > at}) == 3)  # of each there is something to tell
    told = [row for row in rows(daemon) if row["reason"] in {"unknown", "alone"}]
    assert told == []
