"""What a host has, for its first configuration: made-up hosts; the words are those of real command lines."""

import socket
from pathlib import Path

import pytest

from ballonet.cli.init import text_of
from ballonet.daemon.config import Config, read_config
from ballonet.hypervisors.libvirt.config import LibvirtConfig
from ballonet.hypervisors.proxmox.config import ProxmoxConfig
from ballonet.hypervisors.qemu.config import QemuConfig
from ballonet.sense.discover import Found, discover


def runs(root: Path, pid: int, *words: str) -> None:
    (root / f"proc/{pid}").mkdir(parents=True)
    (root / f"proc/{pid}/cmdline").write_bytes("\0".join(words).encode() + b"\0")


def listens(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def configured(tmp_path: Path, found: Found) -> Config:
    (tmp_path / "ballonet.toml").write_text(text_of(found))
    return read_config(tmp_path / "ballonet.toml")


def sockets(config: Config) -> tuple[str, ...]:
    section = config.section(QemuConfig)
    return section.sockets if section else ()


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    """And the configuration is good all the same, with a place to put sockets at."""
    runs(tmp_path, 1, "/sbin/init")
    found = discover(tmp_path)
    assert found == Found()
    assert sockets(configured(tmp_path, found)) == ("/run/qemu/*.qmp",)
    assert configured(tmp_path, found).loop.mode.value == "observe"


def test_sockets_of_qemu_are_found_in_each_form(tmp_path: Path) -> None:
    """Those of one folder and ending as one wildcard; libvirt's own and Proxmox VE's are left to them."""
    qemu = "/usr/bin/qemu-system-x86_64"
    runs(tmp_path, 10, qemu, "-m", "512", "-qmp", "unix:/vm/a.qmp,server=on,wait=off")
    runs(tmp_path, 11, qemu, "-qmp-pretty", "unix:/vm/b.qmp,server,nowait", "-qmp", "tcp:127.0.0.1:4444,server")
    runs(tmp_path, 12, "/usr/libexec/qemu-kvm", "-mon", "chardev=m,mode=control", "-chardev", "socket,id=m,path=/srv/c,server=on")
    runs(
        tmp_path, 13, qemu, "-chardev", "socket,id=m,path=/var/lib/libvirt/qemu/x/monitor.sock", "-mon", "chardev=m,mode=control"
    )
    runs(tmp_path, 14, "kvm", "-chardev", "socket,id=q,path=/var/run/qemu-server/100.qmp", "-mon", "chardev=q,mode=control")
    runs(tmp_path, 15, "/usr/bin/vim", "-qmp", "unix:/no/qemu.sock")
    runs(tmp_path, 16, qemu, "-mon", "chardev=h,mode=readline", "-chardev", "socket,id=h,path=/vm/human")
    found = discover(tmp_path)
    assert found.processes == 6
    assert found.sockets == ("/srv/c", "/vm/a.qmp", "/vm/b.qmp")
    assert sockets(configured(tmp_path, found)) == ("/srv/c", "/vm/*.qmp")


@pytest.mark.parametrize("name", ['a"]\nmode = "act', "a\\b", "a[0-9]*?.qmp", "Zürich \u202e.qmp"])
def test_a_path_is_a_path_whatever_it_says(tmp_path: Path, name: str) -> None:
    """It ends no string and sets nothing; what it holds of wildcards is meant as it is."""
    runs(tmp_path, 10, "qemu-system-x86_64", "-qmp", f"unix:/vm/{name}")
    config = configured(tmp_path, discover(tmp_path))
    assert config.loop.mode.value == "observe"
    assert len(sockets(config)) == 1
    assert (name in sockets(config)[0]) == (not set(name) & set("[*?"))


def test_only_whole_paths_and_no_wildcard_where_others_may_put_what_they_like(tmp_path: Path) -> None:
    """Anybody can run something that is called QEMU."""
    for number, path in enumerate(("/tmp/a.sock", "/tmp/b.sock", "relative.sock", "", "/vm/\U0001f600\x7f.qmp")):  # noqa: S108
        runs(tmp_path, 10 + number, "qemu-system-x86_64", "-qmp", f"unix:{path},server")
    config = configured(tmp_path, discover(tmp_path))
    assert sockets(config) == ("/tmp/a.sock", "/tmp/b.sock", "/vm/\U0001f600\x7f.qmp")  # noqa: S108


def test_libvirt_and_proxmox_come_before_sockets(tmp_path: Path) -> None:
    """Libvirt where it runs, or is all that there is; on a node of Proxmox VE its own way."""
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/libvirtd").touch()
    found = discover(tmp_path)
    assert (found.libvirt, found.is_libvirt_up) == ("/usr/sbin/libvirtd", False)
    assert configured(tmp_path, found).section(LibvirtConfig)
    runs(tmp_path, 10, "qemu-system-x86_64", "-qmp", "unix:/vm/a.qmp")
    assert sockets(configured(tmp_path, discover(tmp_path))) == ("/vm/a.qmp",)
    listens(tmp_path / "run/libvirt/virtqemud-sock")
    assert configured(tmp_path, discover(tmp_path)).section(LibvirtConfig)
    (tmp_path / "etc/pve/qemu-server").mkdir(parents=True)
    (tmp_path / "etc/pve/qemu-server/100.conf").touch()
    assert discover(tmp_path).proxmox == 1
    assert configured(tmp_path, discover(tmp_path)).section(ProxmoxConfig)
