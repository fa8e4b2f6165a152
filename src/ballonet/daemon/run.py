"""`ballonet run`: from a configuration to a loop that runs until a signal ends it. Guests stay as they are."""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from ballonet.control.server import ControlServer, Door
from ballonet.control.tell import reload_change
from ballonet.daemon.changes import Changes, Outsiders
from ballonet.daemon.config import Config, HypervConfig, VsphereConfig, read_config
from ballonet.daemon.desk import DaemonDesk
from ballonet.daemon.journal import Journal, open_journal
from ballonet.daemon.locks import Locks
from ballonet.daemon.loop import Loop
from ballonet.daemon.reload import findings, reloaded
from ballonet.daemon.secret import secret
from ballonet.daemon.service import Service
from ballonet.history.tidy import Bounds
from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.proxmox.adapter import ProxmoxHypervisor
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.terms import GuestSettings, Terms
from ballonet.model.tick import Tick
from ballonet.sense.host import HostSense, host_sense
from ballonet.sense.picture import Eye

log = logging.getLogger(__name__)


def adapter(config: Config) -> Hypervisor:
    """The hypervisor that a configuration names; not opened yet. Raises SettingsError when what it needs is not installed."""
    root = Path(config.host.root)
    if config.proxmox is not None:
        return ProxmoxHypervisor(root, listens=config.proxmox.agents)
    if config.vsphere is not None:
        return _vsphere(config.vsphere, Path(config.control.state))
    if config.hyperv is not None:
        return _hyperv(config.hyperv, Path(config.control.state))
    if config.libvirt is None:
        return QemuHypervisor(config.qemu.sockets, root, listens=config.qemu.agents)
    try:
        from ballonet.hypervisors.libvirt.adapter import LibvirtHypervisor  # noqa: PLC0415 only where it is installed
    except ImportError as error:
        raise SettingsError(
            f"the configuration has [libvirt], and Python's libvirt is not installed ({error}): {how_libvirt_comes()}"
        ) from error
    return LibvirtHypervisor(config.libvirt.uri, root, listens=config.libvirt.agents)


def how_libvirt_comes() -> str:
    """The one command that installs Python's libvirt for this very ballonet."""
    if sys.prefix == sys.base_prefix:  # the package, or a system's own Python
        return "apt-get install python3-libvirt"
    return f"{sys.prefix}/bin/pip install libvirt-python (in a clone: make setup where libvirt is, or requirements-libvirt.lock)"


def _vsphere(config: VsphereConfig, state: Path) -> Hypervisor:
    try:
        from ballonet.hypervisors.vsphere.adapter import VsphereHypervisor  # noqa: PLC0415 only where it is installed
        from ballonet.hypervisors.vsphere.session import Where  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(f"[vsphere] needs pyVmomi: pip install 'ballonet[vsphere]' ({error})") from error
    password = secret("BALLONET_VSPHERE_PASSWORD", config.password_file, "vsphere.password_file")
    where = Where(
        server=config.server,
        port=config.port,
        user=config.user,
        password=password,
        host=config.host,
        ca_file=config.ca_file,
        despite_drs=config.drs,
    )
    return VsphereHypervisor(where, state)


def _hyperv(config: HypervConfig, state: Path) -> Hypervisor:
    try:
        from ballonet.hypervisors.hyperv.adapter import HypervHypervisor  # noqa: PLC0415 only where it is installed
        from ballonet.hypervisors.hyperv.session import Where  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(f"[hyperv] needs pypsrp: pip install 'ballonet[hyperv]' ({error})") from error
    password = secret("BALLONET_HYPERV_PASSWORD", config.password_file, "hyperv.password_file")
    where = Where(
        server=config.server,
        port=config.port or (5986 if config.tls else 5985),
        user=config.user,
        password=password,
        tls=config.tls,
        auth=config.auth,
        endpoint=config.endpoint,
        ca_file=config.ca_file,
    )
    return HypervHypervisor(where, state)


class Daemon:
    """One configuration at a time over one hypervisor."""

    def __init__(self, path: Path, hypervisor: Hypervisor | None = None, sense: HostSense | None = None) -> None:
        """Raises SettingsError. Inside a running event loop.

        Args:
        path: of the configuration.
        hypervisor: in place of the one that it names: a simulated one.
        sense: of the host, beside that.
        """
        self._path = path
        self._config = config = read_config(path)
        root = Path(config.host.root)
        self._locks = Locks()
        self._locks.take(config)
        self._hypervisor = hypervisor = hypervisor or adapter(config)
        self._desk = DaemonDesk(Path(config.control.state), root, _bounds(config), self._mode, hypervisor.news.set)
        self._server = ControlServer(self._desk, _door(config))
        self._desk.of_guests = hypervisor.findings
        self._waiting: tuple[str, ...] = ()
        self._terms: dict[tuple[str, str], tuple[tuple[str, ...], tuple[Config, Mode, Terms, Terms], GuestSettings]] = {}
        """By name and UUID: a guest's tags and what was said of it, and what that came to: most ticks find it unchanged."""
        self._desk.others = lambda: [
            *hypervisor.findings(),
            *self._server.findings(),
            *self._outsiders.findings(),
            *findings(self._waiting),
        ]
        self._desk.ordering.terms_of = lambda guest: self._settings(guest).terms
        self._desk.settled = lambda: self._config.guest
        self._changes, self._outsiders, self._journal, self._service = Changes(), Outsiders(), Journal(), Service()
        eye = Eye(sense or host_sense(hypervisor, root), hypervisor, self._settings)
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
        ordering = self._desk.ordering
        said = (self._config, self._desk.mode, ordering.order_of(guest), self._hypervisor.terms(guest.name))
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
        self._desk.note(tick, changes, self._outsiders.of(tick))
        self._service.beat(f"{len(tick.plan.guests)} guests, host {tick.plan.host_state}, mode {self._desk.mode.value}")

    def reload(self) -> None:
        """Reads the configuration anew. One that is wrong changes nothing; who the guests are changes with a restart only."""
        try:
            config = read_config(self._path)
        except SettingsError as error:
            log.error("configuration not reloaded; the last good one stays", extra={"trouble": str(error)})  # noqa: TRY400 an operator needs no trace
            self._desk.tell(reload_change(time.time(), f"configuration not reloaded, the last good one stays: {error}"))
            return
        self._config, self._waiting = reloaded(self._config, config)
        rest = f"; {', '.join(self._waiting)}: with a restart only" if self._waiting else ""
        self._desk.set_bounds(_bounds(self._config))
        self._loop.change(self._config.limits(), self._config.loop.policy)
        told = {"mode": self._desk.mode.value, "policy": config.loop.policy}
        log.info("reloaded", extra=told)
        if self._waiting:
            log.warning("these keys are in force with a restart only", extra={"keys": ", ".join(self._waiting)})
        self._desk.tell(reload_change(time.time(), f"configuration reloaded; mode {self._desk.mode.value} is in force{rest}"))

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT; SIGHUP reloads."""
        log.info("started", extra={"mode": self._desk.mode.value, "policy": self._config.loop.policy})
        task = asyncio.create_task(self._loop.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        server = asyncio.create_task(self._server.run())
        server.add_done_callback(_told_when_it_fails)
        await self._hypervisor.open()
        self._service.ready("watching")
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            self._service.stopping()
            await self._hypervisor.close()
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)
            await self._desk.close()
            self._locks.release()
            log.info("stopped; guests stay as they are")


def _told_when_it_fails(server: asyncio.Task[None]) -> None:
    """Ballooning goes on without an API; that there is none any more is no secret."""
    if not server.cancelled() and (error := server.exception()) is not None:
        log.error("the control API has ended; restart the daemon to have it again", exc_info=error)


def _bounds(config: Config) -> Bounds | None:
    return Bounds(size_bytes=int(config.history.size), age_s=config.history.days * 86400) if config.history.keep else None


def _door(config: Config) -> Door:
    control = config.control
    return Door(socket=Path(control.socket), group=control.group, listen=control.listen, token_file=control.token_file)


async def run(path: Path) -> None:
    """Runs with the configuration in a file until a signal ends it. Raises SettingsError when it is wrong at the start."""
    open_journal()
    await Daemon(path).run()
