"""`ballonet run`: from a configuration to a loop that runs until a signal ends it. Guests stay as they are."""

import asyncio
import contextlib
import gc
import logging
import signal
import time
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from ballonet.control.server import ControlServer, Listen
from ballonet.daemon.answers import DaemonAnswers
from ballonet.daemon.changes import Changes, Outsiders
from ballonet.daemon.config import Config, read_config
from ballonet.daemon.journal import Journal, open_journal
from ballonet.daemon.locks import Locks
from ballonet.daemon.loop import Loop
from ballonet.daemon.reload import findings, reloaded, unread
from ballonet.daemon.service import Service
from ballonet.history.tidy import Retention
from ballonet.hypervisors.contract import Hypervisor
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.terms import GuestSettings, Terms
from ballonet.model.tick import Tick
from ballonet.sense.host import HostSense, host_sense
from ballonet.sense.observer import Observer
from ballonet.status.tell import reload_change

log = logging.getLogger(__name__)

COLLECT: Final = (20_000, 20, 50)
"""How many new objects begin a round of Python's collector, and how many rounds one of the older ones (gc.set_threshold)."""


class Daemon:
    """One configuration at a time over one hypervisor."""

    def __init__(self, path: Path, hypervisor: Hypervisor | None = None, sense: HostSense | None = None) -> None:
        """Raises SettingsError. Inside a running event loop.

        Args:
        path: of the configuration.
        hypervisor: in place of the one that it names: a simulated one.
        sense: of the host, besides that.
        """
        self._path = path
        self._config = self._read = config = read_config(path)
        """What is in force, and what was read last: some of that waits for a restart."""
        root = Path(config.host.root)
        self._locks = Locks()
        self._locks.take(config)
        self._hypervisor = hypervisor = hypervisor or config.source.hypervisor(config.around)
        self._answers = DaemonAnswers(Path(config.control.state), root, _retention(config), self._mode, hypervisor.news.set)
        self._server = ControlServer(self._answers, _listen(config))
        self._answers.of_guests = hypervisor.findings
        self._waiting: tuple[str, ...] = ()
        self._terms: dict[tuple[str, str], tuple[tuple[str, ...], tuple[Config, Mode, Terms, Terms], GuestSettings]] = {}
        """By name and UUID: a guest's tags and what was said of it, and what that came to: most ticks find it unchanged."""
        self._answers.others = lambda: [
            *hypervisor.findings(),
            *self._server.findings(),
            *self._outsiders.findings(),
            *findings(self._waiting),
            *unread(path, self._read),
        ]
        self._answers.ordering.terms_of = lambda guest: self._settings(guest).terms
        self._answers.settled = lambda: self._config.guest
        self._changes, self._outsiders, self._journal, self._service = Changes(), Outsiders(), Journal(), Service()
        eye = Observer(sense or host_sense(hypervisor, root), hypervisor, self._settings, self._answers.rooming.asked)
        clock = asyncio.get_running_loop().time
        self._loop = Loop(
            eye,
            hypervisor,
            config.limits(),
            policy=config.loop.policy,
            on_tick=self._on_tick,
            clock=clock,
            is_tended=True,
            root=root,
        )

    def _mode(self) -> Mode:
        return self._config.loop.mode

    def _settings(self, guest: Guest) -> GuestSettings:
        """What counts for a guest now; on hold, nothing of it is moved."""
        ordering = self._answers.ordering
        said = (self._config, self._answers.mode, ordering.order_of(guest), self._hypervisor.terms(guest.name))
        key = (guest.name, guest.uuid)
        last = self._terms.get(key)
        if last is None or last[0] != guest.tags or any(one is not other for one, other in zip(last[1], said, strict=True)):
            config, mode, order, kept = said
            terms = config.settings(guest.name, kept, mode, uuid=guest.uuid, tags=guest.tags, order=order)
            last = self._terms[key] = guest.tags, said, GuestSettings(terms)
        if hold := ordering.hold_of(guest):
            return replace(last[2], hold=hold, deflates=ordering.deflates(guest))
        return last[2]

    def _on_tick(self, tick: Tick) -> None:
        if len(self._terms) > 2 * len(tick.snapshot.guests) + 64:
            self._terms.clear()  # of guests that have gone
        changes = self._changes.of(tick)
        self._journal.tell(tick.plan, changes)
        self._answers.note(tick, changes, self._outsiders.of(tick))
        self._service.beat(f"{len(tick.plan.guests)} guests, host {tick.plan.host_state}, mode {self._answers.mode.value}")

    def reload(self) -> None:
        """Reads the configuration anew. One that is wrong changes nothing; who the guests are changes with a restart only."""
        try:
            config = read_config(self._path)
        except SettingsError as error:
            log.error("configuration not reloaded; the last good one stays", extra={"trouble": str(error)})  # noqa: TRY400 an operator needs no trace
            self._answers.tell(reload_change(time.time(), f"configuration not reloaded, the last good one stays: {error}"))
            return
        self._read = config
        self._config, self._waiting = reloaded(self._config, config)
        rest = f"; {', '.join(self._waiting)}: with a restart only" if self._waiting else ""
        self._answers.set_retention(_retention(self._config))
        self._loop.change(self._config.limits(), self._config.loop.policy)
        told = {"mode": self._answers.mode.value, "policy": config.loop.policy}
        log.info("reloaded", extra=told)
        if self._waiting:
            log.warning("these keys are in force with a restart only", extra={"keys": ", ".join(self._waiting)})
        self._answers.tell(
            reload_change(time.time(), f"configuration reloaded; mode {self._answers.mode.value} is in force{rest}")
        )

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT; SIGHUP reloads."""
        log.info("started", extra={"mode": self._answers.mode.value, "policy": self._config.loop.policy})
        task = asyncio.create_task(self._loop.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        server = asyncio.create_task(self._server.run())
        server.add_done_callback(_told_when_it_fails)
        await self._hypervisor.open()
        _rest_collector()
        self._service.ready("watching")
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            self._service.stopping()
            await self._hypervisor.close()
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)
            await self._answers.close()
            self._locks.release()
            log.info("stopped; guests stay as they are")


def _rest_collector() -> None:
    """Has the collector look at less, and less often: what was loaded at the start stays, and values between rooms have no
    circles. A full round over a thousand guests takes 70 ms, in the midst of a tick.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)


def _told_when_it_fails(server: asyncio.Task[None]) -> None:
    """Ballooning goes on without an API; that there is none any more is no secret."""
    if not server.cancelled() and (error := server.exception()) is not None:
        log.error("the control API has ended; restart the daemon to have it again", exc_info=error)


def _retention(config: Config) -> Retention | None:
    return Retention(size_bytes=int(config.history.size), age_s=config.history.days * 86400) if config.history.keep else None


def _listen(config: Config) -> Listen:
    control = config.control
    return Listen(socket=Path(control.socket), group=control.group, listen=control.listen, token_file=control.token_file)


async def run(path: Path) -> None:
    """Runs with the configuration in a file until a signal ends it. Raises SettingsError when it is wrong at the start."""
    open_journal()
    await Daemon(path).run()
