"""The attacks on the daemon, with counts: what was tried, what it survived, what was lost; into benchmarks/results/attack.json.

Scripted guests at real QMP sockets, the daemon as a process of its own, in mode act, with history and both doors open. Exits 1
when something did not hold. Each kind of attack has a test too, by the name that is told. About 6 min.
"""

import asyncio
import contextlib
import datetime as dt
import json
import os
import platform
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
from rich.console import Console

from ballonet.control.messages import Orders
from ballonet.history.shelf import unpacked
from ballonet.hypervisors.local.agent import Message
from ballonet.hypervisors.qemu import answers
from ballonet.model.text import visible
from ballonet.status.words import Status
from daemon_cost import HOST_SHARE, peers

PATH = Path(__file__).parent / "results" / "attack.json"
TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 of an attack on ourselves
CONFIG = """
[loop]
mode = "act"
[qemu]
sockets = ["{folder}/*.sock"]
agents = false
[host]
root = "{folder}/root"
[control]
socket = "{folder}/control"
state = "{folder}/state"
listen = "127.0.0.1:{port}"
token_file = "{folder}/token"
"""
LATE_S = 1.2
"""Two ticks may be so far apart."""
UP_S = 120.0
PRIORITY = ("nice", "-n", "-5") if os.geteuid() == 0 else ()
"""As the shipped unit starts it (`Nice=-5`)."""
WEIGHTS = (("/sys/fs/cgroup", "cpu.weight", "1000"), ("/sys/fs/cgroup/cpu", "cpu.shares", "10240"))
"""As the shipped unit weighs it (`CPUWeight=1000`), in either version of control groups; systemd makes shares of it like that.
Without it the daemon would wait in one queue with the thousand processes that stand for QEMUs, as it does on no host.
"""
OBEYED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that a terminal obeys, or that turn what is shown about."""
console = Console(stderr=True, highlight=False)


def _weighed(pid: int) -> Path | None:
    """A control group of its own for a process, to be removed after it; None where none can be made."""
    for place, knob, weight in WEIGHTS:
        if not (Path(place) / "cgroup.procs").exists():
            continue  # a plain folder, or none
        group = Path(place) / f"ballonet-attack-{pid}"
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                (group / knob).write_text(weight)
                (group / "cgroup.procs").write_text(str(pid))
            except OSError:
                group.rmdir()
                raise
            return group
    console.print("no control group can be made here: the daemon has no more weight than a guest")
    return None


class Daemon:
    """One that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.folder, self.config, self.log = folder, folder / "ballonet.toml", folder / "log"
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        self.config.write_text(CONFIG.format(folder=folder, port=self.port))
        self.process: subprocess.Popen[bytes] | None = None
        self._group: Path | None = None

    def start(self) -> None:
        """Begins to start."""
        with self.log.open("ab") as log:
            words = [*PRIORITY, sys.executable, "-m", "ballonet.daemon", str(self.config)]
            self.process = subprocess.Popen(words, stderr=log)  # noqa: S603 our own program
        self._group = _weighed(self.process.pid)

    def kill(self) -> None:
        """With -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self._group is not None:
            self._until_empty(self._group).rmdir()
            self._group = None

    @staticmethod
    def _until_empty(group: Path) -> Path:
        """Its helpers end when it has."""
        while (group / "cgroup.procs").read_text():
            time.sleep(0.05)
        return group

    def client(self) -> httpx.Client:
        """At its Unix socket."""
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.folder / "control")), base_url="http://b", timeout=30.0)

    def until_up(self, guests: int) -> None:
        """Until it has heard so many. Raises TimeoutError."""
        start = time.monotonic()
        while time.monotonic() - start < UP_S:
            with contextlib.suppress(httpx.HTTPError, msgspec.DecodeError, OSError), self.client() as http:
                found = msgspec.json.decode(http.get("/v1/status").content, type=Status)
                if len(found.guests) >= guests and all(one.used_bytes is not None for one in found.guests):
                    return
            time.sleep(0.2)
        raise TimeoutError("the daemon does not come up")

    def gaps(self, since: float) -> tuple[int, float]:
        """Ticks kept since then, and the longest time between two of the last minute, by the daemon's own word."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/state/history.db?mode=ro", uri=True)) as one:
            count = one.execute("SELECT COUNT(*) FROM ticks WHERE at >= ?", (since,)).fetchone()[0]
        with self.client() as http:
            told = http.get("/metrics").text
        return count, float(re.findall(r"^ballonet_tick_gap_seconds ([0-9.e+-]+)", told, re.MULTILINE)[0])


@contextlib.contextmanager
def running(guests: int) -> Iterator[Daemon]:
    """One over so many scripted guests, up."""
    with tempfile.TemporaryDirectory() as name, peers(Path(name), guests, HOST_SHARE["roomy"]):
        daemon = Daemon(Path(name))
        daemon.start()
        try:
            daemon.until_up(guests)
            time.sleep(10)
            yield daemon
        finally:
            daemon.kill()


def words() -> dict[str, object]:
    """Mutated words of QEMU, agents and names: each is a value or a clear no, and none reaches a terminal as a command."""
    source, tried, odd = random.Random(1), 0, 0  # noqa: S311 a seed that repeats
    kinds: list[type[msgspec.Struct]] = [Message]
    kinds += [one for one in vars(answers).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    values = [
        0,
        -1,
        2**63,
        2**64,
        2**200,
        1e308,
        "",
        "x" * 5000,
        None,
        True,
        [],
        {},
        [[]] * 50,
        {"a": 1},
        "\x1b]0;x\x07",
        "\u202e",
    ]
    for _ in range(20_000):
        kind = source.choice(kinds)
        names = [field.encode_name for field in msgspec.structs.fields(kind)]
        said = {name: source.choice(values) for name in source.sample(names, source.randint(0, len(names)))}
        tried += 1
        try:
            msgspec.json.decode(json.dumps(said), type=kind)
        except (msgspec.DecodeError, ValueError):
            pass
        except Exception:  # noqa: BLE001 that is what is looked for
            odd += 1
    for _ in range(20_000):
        text = "".join(
            chr(source.choice([source.randrange(0x20), 0x7F, 0x9B, 0x202E, 0x2066, source.randrange(0x3000)])) for _ in range(20)
        )
        tried += 1
        odd += any(unicodedata.category(one) in OBEYED for one in visible(text))
    return {"test": "test_field_odd, test_names", "tried": tried, "not held": odd}


def idle(guests: int = 1050, connections: int = 1200) -> dict[str, object]:
    """Connections that ask for nothing, before anybody has named a token."""
    with running(guests) as daemon:
        lines, begin = daemon.log.read_text().count("\n"), time.time()
        opened = []
        for number in range(connections):
            with contextlib.suppress(OSError):
                one = socket.create_connection(("127.0.0.1", daemon.port), 5)
                if number % 3 == 0:
                    one.sendall(b"GET /v1/status HTTP/1.1\r\n")
                opened.append(one)
        time.sleep(30)
        ticks, gap = daemon.gaps(begin)
        with daemon.client() as http:
            seen = len(msgspec.json.decode(http.get("/v1/status").content, type=Status).guests)
        more = sum('"decision"' not in line for line in daemon.log.read_text().splitlines()[lines:])
        for one in opened:
            one.close()
        found = {
            "connections": connections,
            "guests": guests,
            "guests seen": seen,
            "ticks": ticks,
            "longest gap s": round(gap, 2),
        }
        return {
            "test": "test_doors",
            "tried": connections,
            **found,
            "log lines": more,
            "not held": int(seen < guests) + int(gap > 2 * LATE_S),
        }


def readers(guests: int = 1000, clients: int = 200, lasts_s: float = 30.0) -> dict[str, object]:
    """Whoever may ask, all at once and for all that there is."""
    with running(guests) as daemon:
        time.sleep(60)  # some history
        quiet = daemon.gaps(time.time() - 30)[1]
        paths = [
            "/v1/status",
            "/metrics",
            "/v1/openapi.json",
            "/v1/doctor",
            "/v1/history?limit=100000",
            "/v1/samples?limit=100000",
            "/v1/guests/g0/samples?limit=100000",
            "/v1/guests/g0/explanation?at={at}",
        ]
        begin, told = time.time(), Counter[str]()

        async def ask(number: int) -> None:
            path = paths[number % len(paths)].format(at=begin - 20)
            transport = httpx.AsyncHTTPTransport(uds=str(daemon.folder / "control"))
            async with httpx.AsyncClient(transport=transport, base_url="http://b", timeout=60.0) as http:
                while time.time() - begin < lasts_s:
                    try:
                        told[str((await http.get(path)).status_code)] += 1
                    except httpx.HTTPError as error:
                        told[type(error).__name__] += 1
                        await asyncio.sleep(0.05)

        async def all_of_them() -> None:
            await asyncio.gather(*(ask(number) for number in range(clients)))

        asyncio.run(all_of_them())
        ticks, gap = daemon.gaps(begin)
        found = {
            "clients": clients,
            "guests": guests,
            "ticks": ticks,
            "longest gap s": round(gap, 2),
            "quiet gap s": round(quiet, 2),
        }
        return {
            "test": "test_history_bounds",
            "tried": sum(told.values()),
            "answers": dict(told),
            **found,
            "not held": int(gap > LATE_S),
        }


def kills(times: int = 20, guests: int = 20) -> dict[str, object]:
    """Killed at random moments while orders are given; orders and history are whole at the next start."""
    source, broken, orders = random.Random(1), 0, 0  # noqa: S311 a seed that repeats
    with running(guests) as daemon:
        for number in range(times):
            end = time.monotonic() + source.uniform(0.1, 2.0)
            with daemon.client() as http:
                while time.monotonic() < end:
                    with contextlib.suppress(httpx.HTTPError):
                        http.patch("/v1/guests/g0", content=msgspec.json.encode({"floor_bytes": (100 + number) << 20}))
                        orders += 1
            daemon.kill()
            path = daemon.folder / "state/orders.json"
            with contextlib.suppress(FileNotFoundError):
                msgspec.json.decode(path.read_bytes(), type=Orders)
            with contextlib.closing(sqlite3.connect(daemon.folder / "state/history.db")) as one:
                broken += one.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
                unpacked(one.execute("SELECT data FROM ticks ORDER BY id DESC LIMIT 1").fetchone()[0])
            daemon.start()
            daemon.until_up(guests)
        broken += "Traceback" in daemon.log.read_text()
    return {"test": "test_faults", "tried": times, "orders": orders, "not held": broken}


def main() -> int:
    """Runs all of them."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found: dict[str, object] = {}
    for attack in (words, kills, idle, readers):
        console.print(f"{attack.__name__}: {(attack.__doc__ or '').splitlines()[0]}")
        found[attack.__name__] = one = attack()
        print(json.dumps({attack.__name__: one}), flush=True)
    where = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
    }
    PATH.write_text(json.dumps(where | {"attacks": found}, indent=1) + "\n")
    return int(any(one["not held"] for one in found.values() if isinstance(one, dict)))


if __name__ == "__main__":
    sys.exit(main())
