"""A vSphere API on this machine: govmomi's simulator (API 6.5), built from Debian's packages. Not an ESXi."""

import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from ballonet.hypervisors.vsphere.config import VsphereConfig
from ballonet.hypervisors.vsphere.session import VsphereSession
from vsphere.build import build


@dataclass
class Server:
    """One that runs."""

    process: "subprocess.Popen[str]"
    where: VsphereConfig
    session: VsphereSession | None = None

    def vms(self) -> dict[str, Any]:
        """Its VMs by name, through a session of the test's own."""
        self.session = self.session or VsphereSession(self.where, "secret")
        return {vm.name: vm for vm in self.session._view.view}

    def script(self, name: str, **numbers: int) -> None:
        """Sets numbers of a VM's quickStats, in their own units."""
        keys = [vim.option.OptionValue(key=f"SET.summary.quickStats.{key}", value=value) for key, value in numbers.items()]
        self.vms()[name].ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=keys))


@pytest.fixture(scope="session")
def program() -> Path:
    """The simulator, from the cache or built now."""
    try:
        return build()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def start(program: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers; ends them."""
    running: list[Server] = []

    def started(*words: str, user: str = "ballonet", password: str = "secret") -> Server:  # noqa: S107 the simulator's
        process = subprocess.Popen([program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        host, _, port = process.stdout.readline().strip().partition(":")
        certificate = tmp_path / f"{port}.pem"
        certificate.write_text(ssl.get_server_certificate((host, int(port))))
        where = VsphereConfig(server=host, port=int(port), user=user, ca_file=str(certificate))
        running.append(Server(process, where))
        return running[-1]

    yield started
    for server in running:
        if server.session is not None:
            server.session.close()
        server.process.kill()
        server.process.communicate()
