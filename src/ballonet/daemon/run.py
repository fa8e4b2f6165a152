"""`ballonet run`: from a configuration to a loop that runs until a signal ends it. Guests stay as they are."""

import asyncio
import contextlib
import logging
import signal
from pathlib import Path

from msgspec.structs import replace

from ballonet.daemon.config import Config, read_config
from ballonet.daemon.journal import Journal, open_journal
from ballonet.daemon.loop import Loop
from ballonet.hypervisors.contract import Hypervisor
from ballonet.hypervisors.proxmox.adapter import ProxmoxHypervisor
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.model.limits import Limits
from ballonet.model.settings import SettingsError
from ballonet.sense.host import ProcHost
from ballonet.sense.picture import Eye, GuestSettings

log = logging.getLogger(__name__)


def adapter(config: Config) -> Hypervisor:
    """The hypervisor that a configuration names; not opened yet. Raises SettingsError when what it needs is not installed."""
    root = Path(config.host.root)
    if config.proxmox is not None:
        return ProxmoxHypervisor(root, listens=config.proxmox.agents)
    if config.libvirt is None:
        return QemuHypervisor(config.qemu.sockets, root, listens=config.qemu.agents)
    try:
        from ballonet.hypervisors.libvirt.adapter import LibvirtHypervisor  # noqa: PLC0415 only where it is installed
    except ImportError as error:
        raise SettingsError(
            f"[libvirt] needs libvirt-python: apt-get install python3-libvirt, or pip install ballonet[libvirt] ({error})"
        ) from error
    return LibvirtHypervisor(config.libvirt.uri, root, listens=config.libvirt.agents)


class Daemon:
    """One configuration at a time over one hypervisor."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError.

        Args:
        path: of the configuration.
        """
        self._path = path
        self._config = config = read_config(path)
        self._hypervisor = hypervisor = adapter(config)
        eye = Eye(ProcHost(Path(config.host.root)), hypervisor, self._settings)
        self._loop = Loop(eye, hypervisor, _limits(config), policy=config.loop.policy, on_tick=Journal().tell)

    def _settings(self, name: str) -> GuestSettings:
        return self._config.settings(name, self._hypervisor.settings(name))

    def reload(self) -> None:
        """Reads the configuration anew. One that is wrong changes nothing; who the guests are changes with a restart only."""
        try:
            config = read_config(self._path)
        except SettingsError as error:
            log.error("configuration not reloaded; the last good one stays", extra={"trouble": str(error)})  # noqa: TRY400 an operator needs no trace
            return
        old = self._config
        host = replace(config.host, root=old.host.root)
        self._config = replace(config, qemu=old.qemu, libvirt=old.libvirt, proxmox=old.proxmox, host=host)
        if self._config != config:
            log.warning("whose guests they are, and host.root, change with a restart only; the rest is reloaded")
        self._loop.change(_limits(config), config.loop.policy)
        log.info("reloaded", extra={"mode": config.loop.mode.value, "policy": config.loop.policy})

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT; SIGHUP reloads."""
        loop = self._config.loop
        log.info("started", extra={"mode": loop.mode.value, "policy": loop.policy})
        task = asyncio.create_task(self._loop.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await self._hypervisor.open()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            await self._hypervisor.close()
            log.info("stopped; guests stay as they are")


def _limits(config: Config) -> Limits:
    return Limits(reserve_bytes=config.host.reserve, interval_s=config.loop.interval_s)


async def run(path: Path) -> None:
    """Runs with the configuration in a file until a signal ends it. Raises SettingsError when it is wrong at the start."""
    daemon = Daemon(path)
    open_journal()
    await daemon.run()
