"""Every QEMU guest whose QMP socket matches a pattern; each is looked after by a task of its own (guest.py)."""

import asyncio
import logging
from pathlib import Path

from ballonet.hypervisors.contract import Capabilities
from ballonet.hypervisors.local.adapter import LocalAdapter
from ballonet.hypervisors.paths import lies_there, matching, text_of
from ballonet.hypervisors.qemu.guest import QemuGuest
from ballonet.hypervisors.tended import tended
from ballonet.hypervisors.told import Told
from ballonet.model.finding import HOST, Finding, Level, fault
from ballonet.model.knobs import Steering
from ballonet.model.snapshot import Mechanism
from ballonet.model.terms import UNSAID, Terms

log = logging.getLogger(__name__)


class QemuHypervisor(LocalAdapter[QemuGuest]):
    """Every guest whose QMP socket matches a pattern. Guests come and go by themselves."""

    def __init__(
        self,
        sockets: tuple[str, ...],
        root: Path = Path("/"),
        discover_s: float = 1.0,
        *,
        listens: bool = True,
        kind: type[QemuGuest] = QemuGuest,
    ) -> None:
        """Args:
        sockets: paths of QMP sockets, wildcards allowed.
        root: where /proc is found.
        discover_s: how often to look for new sockets.
        listens: whether to hear agents in the guests.
        kind: how to talk with each.
        """
        super().__init__()
        self._kind = kind
        self._sockets = sockets
        self._root = root
        self._discover_s = discover_s
        self._listens = listens
        self._discovery: asyncio.Task[None] | None = None
        self._blind = Told(log)
        self._doubles: set[str] = set()
        """Sockets that lead to a guest that another one leads to."""

    @property
    def capabilities(self) -> Capabilities:
        """It steers a target, by balloons and virtio-mem."""
        return Capabilities(name="qemu", steering=Steering.TARGET, mechanisms=frozenset(Mechanism))

    async def open(self) -> None:
        """Starts to discover and watch."""
        self._discovery = tended("discovery of guests", self._discover)

    async def close(self) -> None:
        """Ends all sessions; guests stay as they are."""
        tasks = [task for task in (self._discovery, *self._tasks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._guests.clear()

    def _met(self) -> dict[str, QemuGuest]:
        """The same. Where two guests have one name, it is the one's that has run for longer, and the other is NAME@SOCKET: what
        is set of a name is nothing that a newcomer comes to by calling itself so. One guest may have several QMP sockets, and is
        read and steered by one of them: one that answers, where there is one.
        """
        met: dict[str, QemuGuest] = {}
        names: set[str] = set()
        seen: dict[tuple[int, str], str] = {}
        """By who answers: the socket."""
        for path, guest in sorted(self._guests.items(), key=lambda one: one[1].started_s):
            identity = guest.identity
            if identity is not None and (path_of_first := seen.get(identity)) is not None:
                self._tell_double(guest)
                if (first := met[path_of_first]).is_silent and not guest.is_silent:
                    guest.name, seen[identity], met[path] = first.name, path, guest
                    del met[path_of_first]
                continue
            if identity is not None:
                seen[identity] = path
            if guest.name in names:
                guest.name = f"{guest.name}@{text_of(Path(guest.path).stem)}"
            while guest.name in names:  # sockets of one name in several folders
                guest.name = f"{guest.name}+"
            names.add(guest.name)
            met[path] = guest
        return met

    def findings(self) -> list[Finding]:
        """As the contract says: folders that cannot be read, or no socket at all."""
        if self._blind.trouble:
            what = f"QMP sockets cannot be looked for: {self._blind.trouble}"
            return [fault(what, "run as root, or as a user that may read their folder")]
        if not self._guests:
            what = f"no QMP socket lies at {', '.join(self._sockets)}"
            remedy = "give each QEMU one of ballonet's own (-qmp unix:PATH,server=on,wait=off); see `ballonet init --dry-run`"
            return [Finding(level=Level.WARNING, where=HOST, what=what, remedy=remedy)]
        return []

    def terms(self, _name: str) -> Terms:
        """As the contract says: there is no place for them."""
        return UNSAID

    async def _discover(self) -> None:
        while True:
            await self._refresh()
            paths, is_whole = self._look_for_sockets()
            for path in sorted(paths - self._guests.keys()):
                self._guests[path] = guest = self._kind(path, self._root, self._news.set, self._beats, listens=self._listens)
                self._tasks[path] = tended(f"guest at {path}", guest.run)
            for path in list(self._guests):
                # What cannot be read is not gone: a guest is forgotten when its own socket is known to be.
                if (path not in paths and is_whole and not lies_there(path)) or self._has_died(path):
                    await self._forget(path)
            await asyncio.sleep(self._discover_s)

    def _look_for_sockets(self) -> tuple[set[str], bool]:
        """The sockets that there are, and whether that is all of them: folders that cannot be read now say nothing of theirs."""
        try:
            found = {path for pattern in self._sockets for path in matching(pattern)}
        except OSError as error:
            self._blind.failed("guests cannot be discovered; those that are known stay", error, has_trace=False)
            return set(), False
        self._blind.well("guests can be discovered again")
        return found, True

    def _tell_double(self, guest: QemuGuest) -> None:
        if guest.path not in self._doubles:
            self._doubles.add(guest.path)
            extra = {"socket": guest.path, "pid": guest.pid, "remedy": "leave it out of qemu.sockets"}
            log.warning("another QMP socket of a guest that is known; it is not used", extra=extra)

    async def _refresh(self) -> None:
        """What an adapter built on this one reads before each look for guests."""

    def _has_died(self, path: str) -> bool:
        """A socket file outlives a QEMU that was killed; its process does not."""
        return self._guests[path].has_died

    async def _forget(self, path: str) -> None:
        guest, task = self._guests.pop(path), self._tasks.pop(path)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        log.info("guest gone", extra={"guest": guest.name, "socket": path})
        self._news.set()
