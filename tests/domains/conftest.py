import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.image import build_image
from libvirtd import NOBODY, Guests, Libvirtd


@contextlib.contextmanager
def another_libvirtd() -> Iterator[Libvirtd]:
    """One that runs, a host of its own as far as libvirt is concerned."""
    if shutil.which("libvirtd", path="/usr/sbin:/usr/bin") is None or shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no libvirtd; as root: tools/setup libvirt")
    try:
        image = build_image()
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    with tempfile.TemporaryDirectory(prefix="ballonet-libvirt-") as name:
        folder = Path(name)
        for part in ("run", "config/libvirt", "cache"):
            (folder / part).mkdir(parents=True)
        # No log daemon, and nothing that needs a system.
        (folder / "config/libvirt/qemu.conf").write_text('stdio_handler = "file"\nsecurity_driver = "none"\n')
        (folder / "config/libvirt/libvirtd.conf").write_text(f'host_uuid = "{uuid.uuid4()}"\n')
        shutil.copy(image.kernel, folder / "kernel")
        shutil.copy(image.initramfs, folder / "initrd")
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        daemon = Libvirtd(folder)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.close()


@pytest.fixture
def libvirtd() -> Iterator[Libvirtd]:
    """Running."""
    with another_libvirtd() as daemon:
        yield daemon


@pytest.fixture
def elsewhere() -> Iterator[Libvirtd]:
    """Another host's."""
    with another_libvirtd() as daemon:
        yield daemon


@pytest.fixture
async def guests(libvirtd: Libvirtd) -> AsyncIterator[Guests]:
    """None yet."""
    from ballonet.hypervisors.libvirt import events  # noqa: PLC0415 needs libvirt

    events.start()
    import libvirt  # noqa: PLC0415 as above

    connection = libvirt.open(libvirtd.uri)
    yield Guests(libvirtd, connection)
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()
