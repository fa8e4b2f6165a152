"""A daemon as a process of its own, over peers that answer by a script at real QMP sockets."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ballonet.control.client import Client
from ballonet.control.routes import STATUS
from ballonet.status.errors import ControlError
from ballonet.status.words import Status

PROGRAM = Path(sys.executable).with_name("ballonet")
TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 of a test
# A reserve that no host has: whatever guests can spare is asked for, so that there is something to see.
CONFIG = """
[host]
reserve = "64TiB"
root = "{root}"
[loop]
mode = "{mode}"
[qemu]
sockets = ["{folder}/q/*.sock"]
agents = false
[control]
socket = "{folder}/control.sock"
state = "{folder}/state"
listen = "{listen}"
token_file = "{folder}/token"
[guest.default]
floor = "100MiB"
"""


def ballonet(command: str, config: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command, as an operator types it."""
    return subprocess.run([PROGRAM, command, *words, "-c", config], capture_output=True, text=True, check=False)


@contextlib.contextmanager
def until_killed(config: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A daemon that is killed with -9 at the end."""
    with log.open("wb") as file:
        daemon = subprocess.Popen([sys.executable, "-m", "ballonet.daemon", str(config)], stderr=file)
    try:
        yield daemon
    finally:
        daemon.kill()
        daemon.wait()


async def holds_soon(holds: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Waits in an event loop. Raises TimeoutError."""
    async with asyncio.timeout(deadline_s):
        while not holds():
            await asyncio.sleep(0.05)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def peers(folder: Path, count: int, size_mib: int = 512, prefix: str = "v") -> Iterator[None]:
    """So many scripted guests at `folder`/q, named v-0 and so on."""
    (folder / "q").mkdir(exist_ok=True)
    words = [sys.executable, "-m", "ballonet.lab.scripted", str(folder / "q"), prefix, str(count), str(size_mib)]
    process = subprocess.Popen(words)
    try:
        until(lambda: all((folder / "q" / f"{quote(prefix, safe='')}-{number}.sock").exists() for number in range(count)))
        yield
    finally:
        process.kill()
        process.wait()


def until(holds: Callable[[], bool], deadline_s: float = 60.0) -> None:
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < deadline_s, "it does not come to hold"
        time.sleep(0.05)


@dataclass
class Daemon:
    """One that runs, and can be started again."""

    folder: Path
    mode: str = "act"
    listen: str = ""
    root: str = "/"
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "ballonet.toml"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "token").chmod(0o600)
        self.config.write_text(CONFIG.format(mode=self.mode, folder=self.folder, listen=self.listen, root=self.root))
        self.spawn()

    def spawn(self, **environment: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, "run", "-c", self.config], stderr=log, env=os.environ | environment)

    def until_up(self, guests: int = 1) -> Status:
        found: list[Status] = []

        def is_up() -> bool:
            with contextlib.suppress(ControlError):
                found.append(self.status())
                return len(found[-1].guests) >= guests and all(one.used_bytes is not None for one in found[-1].guests)
            return False

        until(is_up)
        return found[-1]

    def status(self) -> Status:
        client = Client(self.folder / "control.sock")
        try:
            return client.ask(STATUS)
        finally:
            client.close()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def tries(self, *words: str) -> str:
        """What a command prints; nothing while it cannot: to wait for."""
        done = subprocess.run([PROGRAM, *words, "-c", self.config], capture_output=True, text=True, check=False, timeout=60)
        return done.stdout if done.returncode == 0 else ""

    def cli(self, *words: str, code: int = 0) -> str:
        """What a command prints, with the exit code that is expected of it."""
        done = subprocess.run([PROGRAM, *words, "-c", self.config], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr


@contextlib.contextmanager
def running(folder: Path, guests: int = 3, mode: str = "act", listen: str = "") -> Iterator[Daemon]:
    """A daemon over scripted guests, up."""
    daemon = Daemon(folder, mode, listen)
    with peers(folder, guests):
        daemon.start()
        try:
            daemon.until_up(guests)
            yield daemon
        finally:
            if daemon.process is not None:
                daemon.process.kill()
                daemon.process.wait()
