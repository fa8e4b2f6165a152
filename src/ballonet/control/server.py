"""Serves the control API on a Unix socket, for root and a group, and on a loopback TCP port for clients with the token."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn
from msgspec import Struct

from ballonet.control.app import api
from ballonet.control.bounded import BoundedProtocol, Seldom
from ballonet.control.listen import address_of, only_one, tcp, unix
from ballonet.control.service import ControlService
from ballonet.control.token import TokenFile, TokenGate
from ballonet.hypervisors.told import Told
from ballonet.model.finding import Finding, Level
from ballonet.model.settings import SettingsError

log = logging.getLogger(__name__)
logging.getLogger("uvicorn").setLevel(logging.WARNING)  # that it serves is told once, by the daemon
logging.getLogger("uvicorn.error").addFilter(Seldom())
logging.getLogger("asyncio").addFilter(Seldom())  # without descriptors it says so at each try to accept

END_S: Final = 1
"""How long open streams may take to end."""
BACKLOG: Final = 64
"""Connections that wait to be let in; more wait outside."""
AGAIN_S: Final = 10.0
"""Between two tries at a TCP port that is taken, or a socket that cannot be made."""
LOOK_S: Final = 5.0
"""Between two looks whether the socket is there."""


class Listen(Struct, frozen=True, kw_only=True):
    """Where to listen."""

    socket: Path
    group: str
    """Who may use the socket besides root; passed over where there is no such group."""
    listen: str = ""
    """A loopback address and port; empty = none."""
    token_file: str = ""
    """Holds the token for it."""


class _Server(uvicorn.Server):
    """Leaves signals to the daemon, and wakes once a second: ten times, as it does by itself, is a third of an idle daemon."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._is_left = asyncio.Event()

    def leave(self) -> None:
        """Ends it."""
        self.should_exit = True
        self._is_left.set()

    async def main_loop(self) -> None:
        """Its own, slower: the date of answers is made anew."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._is_left.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ControlServer:
    """Both doors, open while the daemon runs. That the one over TCP cannot be opened keeps nobody from ballooning."""

    def __init__(self, service: ControlService, door: Listen) -> None:
        """Opens the Unix socket. Raises SettingsError, before anything is served.

        Args:
        service: answers.
        door: where.
        """
        self._app, self._door = api(service), door
        self._file: TokenFile | None = None
        self._unbound = ""
        if door.listen:
            address_of(door.listen)
            self._file = TokenFile(door.token_file)
        self._lock = only_one(door.socket)
        self._sock = unix(door.socket, door.group)

    def findings(self) -> list[Finding]:
        """What is not open, and why."""
        if self._file is not None:
            self._file.look()
        troubles = [trouble for trouble in (self._unbound, self._file.trouble if self._file else "") if trouble]
        remedy = "as it says; nothing else waits for it, and it is tried again"
        return [Finding(level=Level.WARNING, where="host", what=f"no API over TCP: {one}", remedy=remedy) for one in troubles]

    async def run(self) -> None:
        """Serves until cancelled."""
        tasks = [asyncio.create_task(self._run_unix())]
        if self._file is not None:
            tasks.append(asyncio.create_task(self._run_tcp(self._file)))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=3 * END_S)
            with contextlib.suppress(OSError):
                self._door.socket.unlink()
            os.close(self._lock)

    async def _run_unix(self) -> None:
        """Serves at the socket, and makes it anew when it was removed."""
        told = Told(log)
        while True:
            inode = self._inode()
            serving = asyncio.create_task(_serve(_server(self._app), self._sock))
            try:
                while not serving.done() and inode and self._inode() == inode:
                    await asyncio.wait([serving], timeout=LOOK_S)
            finally:
                serving.cancel()
                await asyncio.wait([serving], timeout=3 * END_S)
            if not serving.cancelled():
                serving.result()
            log.warning("the control socket was removed; it is made anew", extra={"path": str(self._door.socket)})
            while True:
                try:
                    if not self._door.socket.with_suffix(".lock").exists():  # with its folder, which `only_one` makes anew
                        os.close(self._lock)
                        self._lock = only_one(self._door.socket)
                    self._sock = unix(self._door.socket, self._door.group)
                    break
                except SettingsError as error:
                    told.failed("no control socket; tried again", error, has_trace=False)
                    await asyncio.sleep(AGAIN_S)

    def _inode(self) -> int:
        """Of the socket; 0 = it is not there."""
        try:
            return self._door.socket.lstat().st_ino
        except OSError:
            return 0

    async def _run_tcp(self, file: TokenFile) -> None:
        told = Told(log)
        while True:
            try:
                sock = tcp(self._door.listen)
            except SettingsError as error:
                self._unbound = str(error)
                told.failed("no API over TCP; tried again", error, has_trace=False)
                await asyncio.sleep(AGAIN_S)
                continue
            self._unbound = ""
            told.well("API over TCP")
            await _serve(_server(TokenGate(self._app, file)), sock)


async def _serve(server: _Server, sock: socket.socket) -> None:
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await asyncio.shield(task)
    finally:
        server.leave()
        await asyncio.wait([task], timeout=2 * END_S)


def _server(app: object) -> _Server:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=BoundedProtocol,
        backlog=BACKLOG,
        timeout_graceful_shutdown=END_S,
        server_header=False,
    )
    return _Server(config)
