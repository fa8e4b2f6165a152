"""Hypervisors on another machine, with a loop of their own: one session, read as a whole each second, in a thread.

What they have in common; vsphere and hyperv say how to get in, what their numbers mean, and what their knobs allow.
"""

import abc
import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ballonet.hypervisors.contract import (
    Capabilities,
    GuestGoneError,
    HypervisorError,
    NoAnswerError,
    RefusedError,
)
from ballonet.hypervisors.remote.guests import RemoteGuests
from ballonet.hypervisors.remote.originals import Original, Originals
from ballonet.hypervisors.tended import tended
from ballonet.model.finding import Finding, fault
from ballonet.model.knobs import Knobs
from ballonet.model.snapshot import Guest, Host

log = logging.getLogger(__name__)

T = TypeVar("T")

READ_EVERY_S: Final = 1.0
LOOK_S: Final = 45.0
"""For one look; libraries have deadlines of their own for each message, and retry."""
CLOSE_S: Final = 5.0
"""For leaving, before the daemon ends all the same."""
SILENT_S: Final = 60.0
"""A picture older than this is none."""
RETRY_S: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
DENIED_S: Final = 300.0
"""After a login that was refused: a wrong password, tried too often, locks an account (VMware: five times in three minutes)."""


class DeniedError(RefusedError):
    """We are not let in."""


class Row(Struct, frozen=True, kw_only=True):
    """One guest and its knobs."""

    ref: str
    """What its hypervisor calls it."""
    guest: Guest
    knobs: Knobs
    unique: str = ""
    """What does not change of it and no other has; empty = its UUID is that."""
    is_running: bool = True
    is_off: bool = False
    """Shut down: its knobs can stand anywhere. Paused or saved, it is neither."""

    @property
    def key(self) -> str:
        """By which it is found again."""
        return self.unique or self.guest.uuid or self.guest.name


class Picture(Struct, frozen=True, kw_only=True):
    """What one read saw. Who does not run is there only to have its knobs put back."""

    host: Host
    rows: tuple[Row, ...]


class Session(Protocol):
    """Open until it is closed or breaks. Blocking, for a thread."""

    def read(self) -> Picture:
        """The host and its guests now. Raises HypervisorError."""
        ...

    def turn(self, row: Row, wish: Knobs) -> None:
        """Sets what differs of a guest's knobs. Raises HypervisorError."""
        ...

    def close(self) -> None:
        """Leaves; what breaks on the way is of no interest."""
        ...


class RemoteHypervisor(RemoteGuests, abc.ABC):
    """The guests of one such host."""

    def __init__(self, server: str, state: Path) -> None:
        """Args:
        server: its name, for the log.
        state: folder for how the knobs stood before.
        """
        self._server = server
        self._originals = Originals(state / "originals.json")
        self._news = asyncio.Event()
        self._session: Session | None = None
        self._thread: ThreadPoolExecutor | None = None
        """The one that speaks on the session."""
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._rows: dict[str, Row] = {}
        """Who runs, by name."""
        self._host: Host | None = None
        self._read_at = 0.0
        self._trouble = ""

    # What differs

    @property
    @abc.abstractmethod
    def capabilities(self) -> Capabilities:
        """As the contract says."""

    @abc.abstractmethod
    def _connect(self) -> Session:
        """A new session; blocking. Raises HypervisorError."""

    @abc.abstractmethod
    def _check(self, row: Row, wish: Knobs) -> None:
        """Raises RefusedError when a guest's knobs cannot stand so."""

    @abc.abstractmethod
    def _back(self, row: Row, original: Knobs) -> tuple[Knobs, str]:
        """How far a guest can be put back now, and what is left to do, in words; empty = nothing."""

    @abc.abstractmethod
    def _why_not(self) -> str:
        """Why no balloon is sized."""

    # What does not

    @property
    def news(self) -> asyncio.Event:
        """As the contract says."""
        return self._news

    async def open(self) -> None:
        """Starts to watch."""
        try:
            self._originals.read()
        except RefusedError as error:
            self._tell(str(error))  # turning a knob is refused by the same
        self._task = tended(f"session with {self._server}", self._run)

    async def close(self) -> None:
        """Leaves; knobs stay as they stand. `ballonet restore` puts them back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._originals.release()
        if (left := self._leave()) is not None:
            await asyncio.wait({asyncio.wrap_future(left)}, timeout=CLOSE_S)

    async def _run(self) -> None:
        failures = 0
        while True:
            wait_s = READ_EVERY_S
            try:
                await self.look()
                failures, self._trouble = 0, ""
            except HypervisorError as error:
                wait_s = DENIED_S if isinstance(error, DeniedError) else RETRY_S[min(failures, len(RETRY_S) - 1)]
                failures += 1
                self._tell(str(error))
                async with self._turn:
                    self._leave()
            await asyncio.sleep(wait_s)

    def _leave(self) -> Future[None] | None:
        """Closes the session, once what is under way on it has ended; the next call has a new one."""
        session, thread, self._session, self._thread = self._session, self._thread, None, None
        left = None if session is None or thread is None else thread.submit(session.close)
        if thread is not None:
            thread.shutdown(wait=False)
        return left

    async def look(self) -> Picture:
        """Asks once, with a new session where there is none. Raises HypervisorError."""
        async with self._turn:
            if self._session is None:
                self._thread = ThreadPoolExecutor(1)
                self._session = await self._within(LOOK_S, self._connect)
            at = time.monotonic()
            picture = await self._within(LOOK_S, self._session.read)
        is_first = self._host is None
        self._rows = _named([row for row in picture.rows if row.is_running])
        self._host, self._read_at = picture.host, at
        if is_first:
            self._news.set()
        return picture

    async def _within(self, deadline_s: float, call: Callable[..., T], *words: object) -> T:
        """Asks in the session's own thread. What does not answer as it should, or in time, is left."""
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, call, *words)
        except TimeoutError as error:
            self._leave()
            raise NoAnswerError(f"{self._server}: no answer in {deadline_s:g} s") from error
        except (GuestGoneError, RefusedError):
            raise
        except (NoAnswerError, asyncio.CancelledError):
            self._leave()
            raise
        except Exception as error:  # whatever a library says, the loop goes on
            log.exception("host failed", extra={"server": self._server})
            self._leave()
            raise NoAnswerError(f"{self._server}: {type(error).__name__}: {error}") from error

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("host in trouble", extra={"server": self._server, "trouble": trouble})
        self._trouble = trouble

    def host(self) -> Host | None:
        """As the contract says."""
        age_s = time.monotonic() - self._read_at
        return None if self._host is None or age_s > SILENT_S else replace(self._host, age_s=age_s)

    def guests(self) -> tuple[Guest, ...]:
        """As the contract says; their numbers grow old while the server is silent."""
        age_s = time.monotonic() - self._read_at
        kept = self._originals.kept
        return tuple(
            replace(
                row.guest,
                name=name,
                knobs=row.knobs,
                knobs_before=kept[row.key].knobs if row.key in kept else None,
                keep_age_s=age_s,
                resident_age_s=age_s,
                stats_age_s=None if row.guest.stats is None else age_s,
            )
            for name, row in self._rows.items()
        )

    def findings(self) -> list[Finding]:
        """As the contract says."""
        if not self._trouble:
            return []
        remedy = "see that it runs, its name, and the password of its user"
        return [fault(f"{self._server} cannot be reached: {self._trouble}", remedy)]

    def knobs(self) -> dict[str, Knobs]:
        """As the contract says."""
        return {name: row.knobs for name, row in self._rows.items()}

    def originals(self) -> dict[str, Knobs]:
        """As the contract says."""
        kept = self._originals.kept
        return {name: kept[row.key].knobs for name, row in self._rows.items() if row.key in kept}

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:  # noqa: ARG002 the contract's
        """Nobody outside sizes a balloon there. Raises RefusedError."""
        self._row(name)
        raise RefusedError(f"{name}: {self._why_not()}")

    async def turn(self, name: str, wish: Knobs, deadline_s: float) -> None:
        """As the contract says."""
        row = self._row(name)
        self._check(row, wish)
        self._originals.own()
        self._originals.keep(row.key, Original(name=name, knobs=row.knobs))
        await self._set(row, wish, deadline_s)
        self._rows[name] = replace(row, knobs=wish)

    def _row(self, name: str) -> Row:
        if (row := self._rows.get(name)) is None:
            raise GuestGoneError(f"{name}: no such guest")
        return row

    async def _set(self, row: Row, wish: Knobs, deadline_s: float) -> None:
        async with self._turn:
            if self._session is None:
                raise NoAnswerError(f"{row.guest.name}: no session ({self._trouble})")
            await self._within(deadline_s, self._session.turn, row, wish)

    async def restore(self, deadline_s: float = 30.0) -> tuple[dict[str, Knobs], dict[str, str]]:
        """As the contract says; killed in the middle, it may be called again."""
        self._originals.own()
        rows = {row.key: row for row in (await self.look()).rows}
        done, failed = dict[str, Knobs](), dict[str, str]()
        for key, original in list(self._originals.kept.items()):
            try:
                if (row := rows.get(key)) is None:
                    raise GuestGoneError("it is not here, or off; start it, or set the values by hand")
                if self._session is None:
                    await self.look()
                back, left = self._back(row, original.knobs)
                await self._set(row, back, deadline_s)
                if left:
                    failed[original.name] = left
                else:
                    self._originals.forget(key)
                    done[original.name] = original.knobs
            except HypervisorError as error:
                failed[original.name] = str(error)
        with contextlib.suppress(HypervisorError):
            await self.look()
        return done, failed


def _named(rows: list[Row]) -> dict[str, Row]:
    """By name; those of one name by name and reference."""
    count = Counter(row.guest.name for row in rows)
    return {row.guest.name if count[row.guest.name] == 1 else f"{row.guest.name}@{row.ref}": row for row in rows}


def reached(server: str, port: int, ca_file: str, deadline_s: float, key: str) -> ssl.SSLContext:
    """Whether a server is there, with a certificate that is trusted: by one connection of our own, since libraries wait without
    end for the first answer, or wrap what is wrong twice. Blocking. Raises OSError, and NoAnswerError for the certificate.

    Args:
        server: its name or address.
        port: TCP.
        ca_file: certificates to trust, PEM; empty = the system's.
        deadline_s: for it.
        key: of the configuration that names `ca_file`.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    try:
        with (
            socket.create_connection((server, port), deadline_s) as tcp,
            context.wrap_socket(tcp, server_hostname=server),
        ):
            return context
    except ssl.SSLCertVerificationError as error:
        text = f"{server}:{port}: its certificate is not trusted ({error.verify_message}); put that of its CA in {key}"
        raise NoAnswerError(text) from error
