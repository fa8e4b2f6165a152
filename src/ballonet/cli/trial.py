"""`ballonet try`: the daemon and all commands on a simulated host, without root, QEMU or a configuration."""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from ballonet.cli.console import Seed, err, for_our_own, out
from ballonet.control.client import Client
from ballonet.control.routes import STATUS
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Mode
from ballonet.model.units import format_size
from ballonet.scenarios.scenario import load
from ballonet.status.errors import ControlError
from ballonet.status.explain import STATES
from ballonet.status.words import Status

UP_S: Final = 30.0
"""A daemon that does not answer by then never will."""
EVERY_S: Final = 5.0
"""Between two lines, where there is no terminal for `top`."""
CONFIG: Final = """# Of `ballonet try`: a simulated host. Nothing of this machine is touched.
[qemu]
sockets = ["{folder}/none"]
[loop]
mode = "{mode}"
[host]
root = "{folder}/root"
[control]
socket = "{folder}/control.sock"
group = ""
state = "{folder}/state"
"""
TASTE: Final = ("status", "explain {guest}", "history", "hold {guest} --for 1m", "doctor")


def trial(
    scenario: Annotated[
        str, typer.Argument(help="A standard scenario (`ballonet lab list`), or a .toml file.")
    ] = "consolidation",
    speed: Annotated[float, typer.Option(help="How much faster than ours its time passes.", min=0.1, max=50)] = 1.0,
    mode: Annotated[Mode, typer.Option(help="observe, advise or act; `ballonet mode` changes it.")] = Mode.ACT,
    seed: Seed = 1,
    top: Annotated[bool, typer.Option("--top/--no-top", help="The live board here; else a line every 5 s.")] = True,
) -> None:
    """Try ballonet on a simulated host: the whole daemon, and every command, without root, QEMU or a configuration.

    It runs until `q`, Ctrl-C or the end of its terminal, and leaves nothing behind. In another terminal all commands work on it,
    as on a real host.
    """
    load(scenario)  # what is wrong with it is said here
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C: nothing stays behind
    with tempfile.TemporaryDirectory(prefix="ballonet-", ignore_cleanup_errors=True) as where:
        folder = Path(where)
        config = folder / "ballonet.toml"
        config.write_text(CONFIG.format(folder=folder, mode=mode.value))
        for name in ("memory", "cpu", "io"):  # or `doctor` would miss them
            one = folder / "root/proc/pressure" / name
            one.parent.mkdir(parents=True, exist_ok=True)
            one.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
        with _running(folder, config, scenario, speed, seed) as client:
            commands = [f"export BALLONET_CONFIG={config}", *(f"ballonet {one}" for one in _taste(client))]
            told = "In another terminal:\n" + "\n".join(f"  {one}" for one in commands)
            if top and sys.stdout.isatty() and sys.stdin.isatty() and _board(client, told):
                return
            pace = "in real time" if speed == 1 else f"{speed:g} times as fast as real time"
            err.print(f"Simulated: {scenario}, {pace}. Ctrl-C ends it.")
            for line in told.splitlines():
                err.print(line, soft_wrap=True)  # to be copied as it is
            _lines(client)


@contextlib.contextmanager
def _running(folder: Path, config: Path, scenario: str, speed: float, seed: int) -> Iterator[Client]:
    """The daemon, up, and ended at the end. Raises SettingsError when it does not come up."""
    words = [sys.executable, "-P", "-m", "ballonet.sim.live", str(config), scenario, str(speed), str(seed)]
    with (folder / "log").open("wb") as log:
        # It ends when its stdin does: whatever becomes of us, none of it goes on.
        daemon = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=log, env=for_our_own(), start_new_session=True)  # noqa: S603 our own program
    client = Client(folder / "control.sock")
    try:
        _wait(daemon, client, folder / "log")
        yield client
    finally:
        client.close()
        daemon.terminate()
        daemon.wait()


def _wait(daemon: "subprocess.Popen[bytes]", client: Client, log: Path) -> None:
    start = time.monotonic()
    while time.monotonic() - start < UP_S and daemon.poll() is None:
        with contextlib.suppress(ControlError):
            if client.ask(STATUS).guests:
                return
        time.sleep(0.1)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise SettingsError(f"the simulated daemon did not come up: {''.join(last) or 'it says nothing'}")


def _taste(client: Client) -> list[str]:
    guest = client.ask(STATUS).guests[0].name
    return [one.format(guest=guest) for one in TASTE]


def _board(client: Client, where: str) -> bool:
    """Shows the live board until it is left; False where it is not installed."""
    try:
        from ballonet.tui.top import Top  # noqa: PLC0415 only where it is installed
    except ImportError:
        return False
    Top(client, f"Simulated. {where}").run()
    return True


def _lines(client: Client) -> None:
    """Prints one every EVERY_S, until the daemon or the operator ends it."""
    told = 0.0
    with contextlib.suppress(KeyboardInterrupt, ControlError):
        for status in client.live():
            is_heard = any(one.used_bytes for one in status.guests)
            if is_heard and time.monotonic() - told >= EVERY_S:
                told = time.monotonic()
                out.print(_line(status))


def _line(status: Status) -> str:
    host, guests = status.host, status.guests
    keeps, uses = sum(one.keep_bytes or 0 for one in guests), sum(one.used_bytes or 0 for one in guests)
    has = sum(one.ceiling_bytes for one in guests)
    short = sum(one.short_bytes > 0 for one in guests)
    sizes = [format_size(size) for size in (has, keeps, uses, host.guests_bytes, host.available_bytes)]
    return (
        f"{len(guests)} guests have {sizes[0]}, keep {sizes[1]} and use {sizes[2]} of {sizes[3]} on the host;"
        f" {sizes[4]} free (host {host.state}: {STATES[host.state]}), {short or 'no'} guests short"
    )
