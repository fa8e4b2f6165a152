"""A guest whose QMP socket others use too: opened for each look and each command, and closed again.

Proxmox's own tools need the socket, and QEMU serves one client at a time. No events are heard in between, so that a reboot is
seen by the balloon device's status, which a reset clears until the next driver has set it up.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from ballonet.hypervisors.contract import HypervisorError
from ballonet.hypervisors.local.beats import ANSWER_S, Beats
from ballonet.hypervisors.local.guest import DEADLINE_S
from ballonet.hypervisors.qemu.guest import QemuGuest
from ballonet.hypervisors.qemu.qmp import QmpSession

log = logging.getLogger(__name__)

PATIENCE_S: Final = 2 * DEADLINE_S
"""How long to wait for others to let go of the socket; they hold it for some milliseconds."""


class SharedSocketGuest(QemuGuest):
    """One QEMU process behind a QMP socket that is not ours alone."""

    _hears_events = False

    def __init__(
        self, path: str, root: Path, news: Callable[[], None], beats: Beats | None = None, *, listens: bool = True
    ) -> None:
        """As any."""
        super().__init__(path, root, news, beats, listens=listens)
        self._turn = asyncio.Lock()
        self._is_told_mute = False
        """Whether it was told that no reboot of it is seen."""
        self._voices: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def _talk(self) -> AsyncIterator[QmpSession]:
        """A session for a moment. Raises NoAnswerError."""
        async with self._turn:
            session = await QmpSession.open(self.path, PATIENCE_S)
            try:
                yield session
            finally:
                session.close()

    async def _look_for_reset(self, session: QmpSession) -> None:
        """At each look: no event tells of one."""
        if self._is_identified and self._is_set_up is None:
            if not self._is_told_mute and self._balloon_path:
                self._is_told_mute = True
                trouble = "its QEMU, of before 7.2, does not say how its balloon device stands"
                log.info("reboots of the guest are not seen", extra={"guest": self.name, "trouble": trouble})
            return
        await super()._look_for_reset(session)

    async def _live(self) -> None:
        """All is done on beats: nothing stands in between."""
        self._watch_from_now()
        try:
            await asyncio.Event().wait()
        finally:
            self._watch_no_more()
            if self._looking is not None:
                await asyncio.gather(self._looking, return_exceptions=True)  # it may begin voices
            voices, self._voices = self._voices, []
            await self._end(voices)

    def ask(self) -> bool:
        """The driver is asked, and heard, in one session."""
        return False

    def read(self) -> None:
        """Each look has a session of its own."""
        self._begin_look()

    async def _look_once(self) -> None:
        async with self._talk() as session:
            if not self._is_identified or self._is_another(session):
                voices, self._voices = self._voices, []
                await self._end(voices)  # of the life before: the new one has agents of its own
                self._begin_life(session)
                await self._identify(session)
            try:
                await self._look_for_reset(session)
                await self._look_through(session)
                if self._asks_driver():
                    session.send(self._kick_lines)
                    await asyncio.sleep(min(ANSWER_S, self._pace_s / 3))
                await self._read(session)
            except HypervisorError as error:
                self._failed(error)
            else:
                self._has_answered()
        self._voices = self._voices or self._begin_voices((self._agent, self._guest_agent))
