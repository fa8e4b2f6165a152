"""A real libvirtd of the test's own: unprivileged, with its own folders, and gone with the test."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.image import Image, build_image

with contextlib.suppress(ImportError):  # tests that need it are skipped then
    import libvirt

NOBODY = 65534
FOLDERS = {"RUNTIME_DIR": "run", "CONFIG_HOME": "config", "CACHE_HOME": "cache"}
DOMAIN = """
<domain type='qemu'>
  <name>{name}</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>
  <os><type machine='pc'>hvm</type><kernel>{folder}/kernel</kernel><initrd>{folder}/initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 psi=1 mitigations=off init_on_alloc=0</cmdline></os>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <devices>
    <serial type='file'><source path='{folder}/{name}.console'/></serial>
    <channel type='unix'>
      <source mode='bind' path='{folder}/{name}.lab'/><target type='virtio' name='org.ballonet.lab.0'/></channel>
    <channel type='unix'>
      <source mode='bind' path='{folder}/{name}.agent'/><target type='virtio' name='org.ballonet.agent.0'/></channel>
    <memballoon model='{balloon}'/>
  </devices>
</domain>
"""


@dataclass
class Libvirtd:
    """One daemon, which can be killed and started again."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    hook: str = ""
    """A script that libvirtd runs as /etc/libvirt/hooks/qemu, in a mount namespace of its own; needs root."""

    @property
    def uri(self) -> str:
        """For `virsh -c`."""
        return f"qemu:///session?socket={self.folder}/run/libvirt/libvirt-sock"

    def start(self) -> None:
        """Starts it, and waits for its socket."""
        home = str(self.folder)
        names = {
            "HOME": home,
            "XDG_RUNTIME_DIR": f"{home}/run",
            "XDG_CONFIG_HOME": f"{home}/config",
            "XDG_CACHE_HOME": f"{home}/cache",
        }
        words = ["libvirtd"]
        if os.geteuid() == 0:
            words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words]
        if self.hook:
            words = [*self._with_hook(), *words]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, **names}
        with (self.folder / "libvirtd.log").open("ab") as log:
            self.process = subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(libvirt.libvirtError):
                libvirt.open(self.uri).close()
                return
            time.sleep(0.1)
        pytest.fail(f"libvirtd does not answer: {(self.folder / 'libvirtd.log').read_text()[-500:]}")

    def _with_hook(self) -> list[str]:
        """An /etc of this daemon alone, laid over the machine's: libvirt knows no other place for hooks."""
        folder = self.folder / "etc/libvirt/hooks"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "qemu").write_text(self.hook)
        (folder / "qemu").chmod(0o755)
        over = f"lowerdir={self.folder}/etc:/etc"
        return [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            f'mount -t overlay -o {over} over /etc && exec "$@"',
            "sh",
        ]

    def kill(self) -> None:
        """As a crash would; its QEMUs live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, pid: int) -> None:
        """Makes one QEMU hang."""
        os.kill(pid, signal.SIGSTOP)

    def go_on(self, pid: int) -> None:
        """Lets it go on."""
        os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends the guests, then the daemon."""
        with contextlib.suppress(libvirt.libvirtError), contextlib.closing(libvirt.open(self.uri)) as connection:
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                domain.destroy()
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)


@contextlib.contextmanager
def running_libvirtd(image: Image, *folders: str, hook: str = "") -> Iterator[Libvirtd]:
    """One that runs, a host of its own as far as libvirt is concerned, with these folders beside its own."""
    with tempfile.TemporaryDirectory(prefix="ballonet-libvirt-") as name:
        folder = Path(name)
        for part in ("run", "config/libvirt", "cache", *folders):
            (folder / part).mkdir(parents=True)
        # No log daemon, and nothing that needs a system.
        (folder / "config/libvirt/qemu.conf").write_text('stdio_handler = "file"\nsecurity_driver = "none"\n')
        (folder / "config/libvirt/libvirtd.conf").write_text(f'host_uuid = "{uuid.uuid4()}"\n')
        shutil.copy(image.kernel, folder / "kernel")
        shutil.copy(image.initramfs, folder / "initrd")
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        daemon = Libvirtd(folder, hook=hook)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.close()


@contextlib.contextmanager
def another_libvirtd(hook: str = "") -> Iterator[Libvirtd]:
    """One more, where there can be one."""
    if shutil.which("libvirtd", path="/usr/sbin:/usr/bin") is None or shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no libvirtd; as root: tools/setup libvirt")
    try:
        image = build_image()
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    with running_libvirtd(image, hook=hook) as daemon:
        yield daemon


@dataclass
class Guests:
    """Domains on that daemon, through a connection of the test's own."""

    daemon: Libvirtd
    connection: Any

    def start(self, name: str, balloon: str = "virtio") -> Any:
        """A new transient domain of 512 MiB."""
        return self.connection.createXML(DOMAIN.format(name=name, folder=self.daemon.folder, balloon=balloon))

    async def tell(self, name: str, *words: object) -> None:
        """One command to the workload in a guest (lab/image/workload.py)."""
        reader, writer = await asyncio.open_unix_connection(self.daemon.folder / f"{name}.lab")
        await reader.readline()  # it reports twice a second, once it is there
        writer.write((" ".join(map(str, words)) + "\n").encode())
        await writer.drain()
        await asyncio.sleep(0.3)
        writer.close()
