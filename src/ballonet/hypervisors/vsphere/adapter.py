"""One ESXi host. Its own loop balloons; ballonet says who is entitled to what."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from ballonet.hypervisors.contract import (
    Capabilities,
    GuestGoneError,
    HypervisorError,
    KeptSettings,
    NoAnswerError,
    RefusedError,
    Steering,
)
from ballonet.hypervisors.originals import Original, Originals
from ballonet.hypervisors.vsphere.rows import VmRow
from ballonet.hypervisors.vsphere.session import Picture, VsphereSession, Where
from ballonet.model.entitlement import Entitlement
from ballonet.model.plan import Look
from ballonet.model.snapshot import Guest, Host, Mechanism

log = logging.getLogger(__name__)

READ_EVERY_S: Final = 1.0
"""quickStats change each 20 s; what changes in between is the list of VMs."""
SILENT_S: Final = 60.0
"""A picture older than this is none."""
RETRY_S: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
"""A wrong password, asked too often, locks an account: VMware's own default is five within three minutes."""


class VsphereHypervisor:
    """The VMs of one host."""

    def __init__(self, where: Where, state: Path) -> None:
        """Args:
        where: how to get in.
        state: folder for what guests were entitled to before.
        """
        self._where = where
        self._originals_path = state / "originals.json"
        self._news = asyncio.Event()
        self._session: VsphereSession | None = None
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._rows: dict[str, VmRow] = {}
        self._host: Host | None = None
        self._read_at = 0.0
        self._trouble = ""

    @property
    def capabilities(self) -> Capabilities:
        """It steers entitlements; the balloon is vmmemctl, and ESXi's own."""
        return Capabilities(name="vsphere", steering=Steering.ENTITLEMENT, mechanisms=frozenset({Mechanism.BALLOON}))

    @property
    def news(self) -> asyncio.Event:
        """As the contract says."""
        return self._news

    async def open(self) -> None:
        """Starts to watch."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Logs out; entitlements stay as they are. `ballonet restore` puts them back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._drop()

    async def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.close)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                self._take(await self.look())
                failures, self._trouble = 0, ""
            except HypervisorError as error:
                failures += 1
                self._tell(str(error))
                await self._drop()
            except Exception:  # whatever a server says, the loop goes on
                failures += 1
                log.exception("host failed", extra={"server": self._where.server})
                await self._drop()
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S)) - 1] if failures else READ_EVERY_S)

    async def look(self) -> Picture:
        """Asks once, with a new session where there is none. Raises HypervisorError."""
        async with self._turn:
            if self._session is None:
                self._session = await asyncio.to_thread(VsphereSession, self._where)
            return await asyncio.to_thread(self._session.read)

    def _take(self, picture: Picture) -> None:
        is_first = self._host is None
        self._rows = _named(picture.rows)
        self._host, self._read_at = picture.host, time.monotonic()
        if is_first:
            self._news.set()

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("host in trouble", extra={"server": self._where.server, "trouble": trouble})
        self._trouble = trouble

    # What the loop asks

    def host(self) -> Host | None:
        """As the contract says."""
        age_s = time.monotonic() - self._read_at
        return None if self._host is None or age_s > SILENT_S else replace(self._host, age_s=age_s)

    def guests(self) -> tuple[Guest, ...]:
        """As the contract says; their numbers grow old while the server is silent."""
        age_s = time.monotonic() - self._read_at
        return tuple(
            replace(
                row.guest,
                name=name,
                keep_age_s=age_s,
                resident_age_s=age_s,
                stats_age_s=None if row.guest.stats is None else age_s,
            )
            for name, row in self._rows.items()
        )

    def entitlements(self) -> dict[str, Entitlement]:
        """As the contract says."""
        return {name: row.entitlement for name, row in self._rows.items()}

    def settings(self, _name: str) -> KeptSettings | None:
        """As the contract says: there is no place for them that is not ESXi's own."""
        return None

    def pid(self, _name: str) -> int | None:
        """None: it runs elsewhere."""
        return None

    def pids(self) -> tuple[int, ...]:
        """None."""
        return ()

    def watch(self, name: str, look: Look) -> None:
        """All are read at once, as often as the host has something new."""

    async def make_ready(self, name: str, free_bytes: int, deadline_s: float) -> None:
        """No agent is heard through ESXi."""

    async def set_keep(self, name: str, keep_bytes: int, deadline_s: float) -> None:  # noqa: ARG002 the contract's
        """Nobody outside of ESXi sizes a balloon. Raises RefusedError."""
        if name not in self._rows:
            raise GuestGoneError(f"{name}: no such guest")
        raise RefusedError(f"{name}: ESXi sizes balloons by itself; ballonet steers shares and reservations")

    async def entitle(self, name: str, wish: Entitlement, deadline_s: float) -> None:
        """As the contract says."""
        row = self._rows.get(name)
        if row is None:
            raise GuestGoneError(f"{name}: no such guest")
        if not 0 <= wish.reservation_bytes <= row.guest.ceiling_bytes or wish.shares < 1:
            raise RefusedError(f"{name}: {wish} is not within 1 share and its {row.ceiling_mib} MiB")
        Originals(self._originals_path).keep(row.guest.uuid or name, Original(name=name, entitlement=row.entitlement))
        await self._set(row, wish, deadline_s)
        self._rows[name] = VmRow(ref=row.ref, guest=row.guest, entitlement=wish, ceiling_mib=row.ceiling_mib)

    async def _set(self, row: VmRow, wish: Entitlement, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s), self._turn:
                if self._session is None:
                    raise NoAnswerError(f"{row.guest.name}: no session ({self._trouble})")
                await asyncio.to_thread(self._session.entitle, row, wish)
        except TimeoutError as error:
            raise NoAnswerError(f"{row.guest.name}: no answer in {deadline_s} s") from error

    async def restore(self, deadline_s: float = 30.0) -> tuple[dict[str, Entitlement], dict[str, str]]:
        """Puts back what each guest was entitled to before: those that are, and those that are not, with the reason.

        May be called again, also after having been killed in the middle. Raises HypervisorError when nothing can be read.
        """
        originals = Originals(self._originals_path)
        self._take(await self.look())
        rows = {row.guest.uuid or name: row for name, row in self._rows.items()}
        done, failed = {}, {}
        for key, original in list(originals.kept.items()):
            try:
                if (row := rows.get(key)) is None:
                    raise GuestGoneError("it does not run here; start it, or set the values by hand")
                await self._set(row, original.entitlement, deadline_s)
                originals.forget(key)
                done[original.name] = original.entitlement
            except HypervisorError as error:
                failed[original.name] = str(error)
        return done, failed


def _named(rows: tuple[VmRow, ...]) -> dict[str, VmRow]:
    """By name; where two have one, by name and reference."""
    found: dict[str, VmRow] = {}
    for row in rows:
        name = row.guest.name
        found[f"{name}@{row.ref}" if name in found else name] = row
    return found
