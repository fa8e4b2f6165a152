"""One controller for each guest: a second one is refused, whatever socket it listens at, and says whose place it would take."""

import subprocess
from pathlib import Path

import pytest

from ballonet.daemon import locks
from ballonet.daemon.config import Config, ControlConfig
from ballonet.daemon.locks import Locks
from ballonet.hypervisors.hyperv.config import HypervConfig
from ballonet.hypervisors.libvirt.config import LibvirtConfig
from ballonet.hypervisors.proxmox.config import ProxmoxConfig
from ballonet.hypervisors.section import Around
from ballonet.hypervisors.vsphere.config import VsphereConfig
from ballonet.model.settings import SettingsError
from daemons import PROGRAM, Daemon, running, until

KINDS = (
    Config.of(LibvirtConfig()),
    Config.of(ProxmoxConfig()),
    Config.of(VsphereConfig(server="vcenter", user="u", host="esx-1")),
    Config.of(HypervConfig(server="hv1", user="u")),
)


def test_the_same_state_is_kept_by_one(tmp_path: Path) -> None:
    """With another socket too; a daemon that was killed is no obstacle."""
    with running(tmp_path, guests=1) as daemon:
        other = tmp_path / "other.toml"
        other.write_text(daemon.config.read_text().replace("control.sock", "other.sock"))
        done = subprocess.run([PROGRAM, "run", "-c", other], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert daemon.process is not None
        assert f"another ballonet runs (process {daemon.process.pid}), and keeps its state in" in done.stderr
        daemon.process.kill()
        daemon.process.wait()
        daemon.spawn()
        daemon.until_up(1)


@pytest.mark.parametrize("config", KINDS, ids=lambda one: one.source.called)
def test_the_same_guests_are_steered_by_one(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever each keeps and wherever it listens; others' guests are others' matter."""
    monkeypatch.setattr(locks, "RUN", tmp_path / "run")
    first, second = Locks(), Locks()
    first.take(with_state(config, tmp_path / "a"))
    with pytest.raises(SettingsError, match="steers"):
        second.take(with_state(config, tmp_path / "b"))
    others = next(one for one in KINDS if one is not config)
    second.take(with_state(others, tmp_path / "b"))
    second.release()
    first.release()
    second.take(with_state(config, tmp_path / "b"))
    second.release()


@pytest.mark.parametrize(
    "uri",
    ["qemu:///system/", "qemu+unix:///system", "qemu+unix://localhost/system", "qemu://", "qemu:///system?no_verify=1"],
)
def test_a_libvirt_is_one_however_it_is_spelt(uri: str) -> None:
    """By its URI; another socket, user's session or host is another."""
    same = steered(LibvirtConfig())
    assert steered(LibvirtConfig(uri=uri)) == same
    others = {"qemu:///session", "qemu+ssh://root@b/system", "qemu+unix:///system?socket=/tmp/s", "xen:///system"}
    assert len({same, *(steered(LibvirtConfig(uri=one)) for one in others)}) == 1 + len(others)


def steered(one: LibvirtConfig) -> str:
    return one.steers(Around(Path("/"), Path("/var/lib/ballonet")))


def with_state(config: Config, folder: Path) -> Config:
    parts = {name: getattr(config, name) for name in config.__struct_fields__}
    return Config(**parts | {"control": ControlConfig(state=str(folder))})


def test_where_no_lock_can_be_it_runs_all_the_same(tmp_path: Path) -> None:
    """And says so: guests come before locks."""
    (tmp_path / "q").mkdir()
    daemon = Daemon(tmp_path)
    (tmp_path / "state").write_text("no folder")
    daemon.start()
    try:
        until(lambda: "no lock can be taken there" in daemon.log)
        until((tmp_path / "control.sock").exists)
    finally:
        daemon.end()
