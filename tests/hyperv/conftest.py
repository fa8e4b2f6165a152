"""A WinRM server on loopback with a toy of Hyper-V behind it. Not a Hyper-V host."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ballonet.hypervisors.hyperv.config import Auth, HypervConfig
from hyperv.toy import ToyHost
from hyperv.winrm import WinrmServer


@dataclass
class Server:
    """One that runs."""

    winrm: WinrmServer
    where: HypervConfig

    @property
    def host(self) -> ToyHost:
        """Behind it."""
        return self.winrm.host


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Starts servers; ends them, and fails where one of them went wrong by itself."""
    users = tmp_path / "users"
    users.write_text("TOY:ballonet:secret\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(users))
    running: list[WinrmServer] = []

    def started(host: ToyHost, *, tls: bool = True, auth: Auth = "basic", until_days: int = 1) -> Server:
        server = WinrmServer(host, tmp_path, tls=tls, until_days=until_days)
        running.append(server)
        ca_file = str(server.certificate) if tls else ""
        where = HypervConfig(
            server="127.0.0.1",
            port=server.server_port,
            user="ballonet" if auth == "basic" else "TOY\\ballonet",
            tls=tls,
            auth=auth,
            ca_file=ca_file,
        )
        return Server(server, where)

    yield started
    for server in running:
        server.close()
    assert [error for server in running for error in server.errors] == []
