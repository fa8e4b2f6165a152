"""A disk with what some guests run besides the workload: QEMU's guest agent, and a Java program with its runtime.

Apart from the image: an initramfs is memory that a guest never gets back, and a disk's page cache is not. Cached under the
checksum of its recipe, like the image.
"""

import json
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Final

from ballonet.lab import package
from ballonet.lab.disk import cached_disk, run
from ballonet.lab.errors import LabUnavailableError

PACKAGES: Final = (
    *("qemu-guest-agent", "libglib2.0-0", "libpcre2-8-0", "libudev1", "libnuma1", "liburing2"),
    *("libgcc-s1", "libstdc++6"),
)
_JAVA: Final = Path(__file__).parent / "java"
_JLINK: Final = ("jlink", "--add-modules", "java.base", "--strip-debug", "--no-header-files", "--no-man-pages")
_SPARE_BYTES: Final = 8 << 20


def software_disk() -> Path:
    """The disk's image, from the cache or built now.

    Raises:
        LabUnavailableError: no packages or no JDK here.
    """
    if shutil.which("javac") is None or shutil.which("mke2fs") is None:
        words = "apt-get install --no-install-recommends openjdk-17-jdk-headless e2fsprogs"
        raise LabUnavailableError(f"guests with software of their own need a JDK and mke2fs here; as root: {words}")
    packages = package.versions(PACKAGES)
    version = subprocess.run(["javac", "-version"], capture_output=True, check=True).stdout
    parts = [json.dumps(packages).encode(), version, Path(__file__).read_bytes(), *map(Path.read_bytes, sorted(_JAVA.iterdir()))]
    return cached_disk("software", parts, partial(_build, packages))


def _build(packages: dict[str, str], work: Path) -> Path:
    unpacked, root, disk = work / "unpacked", work / "root", work / "disk"
    package.unpack(packages, unpacked)
    (root / "lib").mkdir(parents=True)
    for library in unpacked.rglob("*.so*"):
        if not library.is_dir() and library.parent.name == "x86_64-linux-gnu":
            shutil.copy(library, root / "lib", follow_symlinks=True)
    shutil.copy(unpacked / "usr/sbin/qemu-ga", root)
    run(*_JLINK, "--output", str(root / "jre"))
    run("javac", "-d", str(root / "classes"), *map(str, sorted(_JAVA.iterdir())))
    size = sum(path.stat().st_size for path in root.rglob("*")) + _SPARE_BYTES
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(root), str(disk), f"{size * 11 // 10 // 1024}k")
    return disk
