"""The guest image: a kernel and an initramfs, built from packages and from the files in `image/`.

Cached under a name that is the checksum of its recipe (package versions and those files), with the checksums of the
result next to it: a changed recipe builds anew, a damaged file is built again.
"""

import gzip
import hashlib
import json
import lzma
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ballonet.guest.bundle import bundle
from ballonet.lab import package
from ballonet.lab.mortal import mortal_folder

_FILES = Path(__file__).parent / "image"
_MODULES = (
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci",
    "virtio/virtio_balloon",
    "virtio/virtio_mem",
    "char/virtio_console",
    "block/virtio_blk",
)
_KEEP = ("bin/busybox", "lib64/ld-linux-x86-64.so.2")
_LIBRARIES = ("libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1")
_LEAVE = ("lib-dynload", "email", "urllib", "logging", "__pycache__", "tracemalloc.py", "zipfile.py")
"""Parts of the standard library that nothing in a guest imports: an initramfs is memory that a guest never gets back."""


@dataclass(frozen=True)
class Image:
    """A guest image on disk."""

    kernel: Path
    initramfs: Path
    checksum: str
    """Of the recipe: the same checksum means the same guest."""


def cache_folder() -> Path:
    """Where images and templates are kept: BALLONET_CACHE, or ballonet in the user's cache folder."""
    if named := os.environ.get("BALLONET_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ballonet"


def build_image() -> Image:
    """The guest image, from the cache or built now.

    Raises:
        LabUnavailableError: no packages or no QEMU here.
    """
    package.require_host()
    packages = package.image_versions()
    checksum = _recipe_checksum(packages)
    folder = cache_folder() / f"image-{checksum}"
    if not _is_whole(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with mortal_folder("building-", folder.parent) as work:
            _build(packages, work)
            (work / "done").replace(folder)
    return Image(folder / "vmlinuz", folder / "initramfs", checksum)


def _recipe_checksum(packages: dict[str, str]) -> str:
    parts = [json.dumps(packages, sort_keys=True).encode(), Path(__file__).read_bytes()]
    parts += [path.read_bytes() for path in sorted(_FILES.iterdir()) if path.is_file()]
    parts.append(bundle())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _is_whole(folder: Path) -> bool:
    """Whether each file of a cached image is as it was when it was built."""
    try:
        sums: dict[str, str] = json.loads((folder / "checksums.json").read_text())
        return all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == value for name, value in sums.items())
    except (OSError, ValueError):
        return False


def _build(packages: dict[str, str], work: Path) -> None:
    unpacked, done = work / "unpacked", work / "done"
    package.unpack(packages, unpacked)
    done.mkdir()
    shutil.copy(next((unpacked / "boot").glob("vmlinuz-*")), done / "vmlinuz")
    archive = b"".join(cpio(_guest_files(unpacked)))
    # The kernel finds an archive that is appended only at a multiple of four, whatever the length that gzip came to.
    (done / "initramfs").write_bytes(_padded(gzip.compress(archive, compresslevel=1, mtime=0)))
    sums = {name: hashlib.sha256((done / name).read_bytes()).hexdigest() for name in ("vmlinuz", "initramfs")}
    (done / "checksums.json").write_text(json.dumps(sums))


def _guest_files(unpacked: Path) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and content of each file of the guest's root, folders before what is in them."""
    files: dict[str, Path] = {"init": _FILES / "init", "workload.py": _FILES / "workload.py", "apps.py": _FILES / "apps.py"}
    kernel = next(_lies(unpacked, "lib/modules").iterdir())
    built_in = (kernel / "modules.builtin").read_text().splitlines()  # some drivers are no modules from Linux 6.12 on
    modules = [name for name in _MODULES if f"kernel/drivers/{name}.ko" not in built_in]
    files |= {f"modules/{Path(name).name}.ko": next(kernel.glob(f"kernel/drivers/{name}.ko*")) for name in modules}
    files |= {name: _lies(unpacked, name) for name in (*_KEEP, *(f"lib/x86_64-linux-gnu/{one}" for one in _LIBRARIES))}
    files["usr/bin/python3"] = next((unpacked / "usr/bin").glob("python3.*"))
    library = next((unpacked / "usr/lib").glob("python3.*"))
    files |= {
        str(path.relative_to(unpacked)): path
        for path in sorted(library.rglob("*"))
        if path.is_file() and not set(path.relative_to(unpacked).parts) & set(_LEAVE)
    }
    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    for folder in sorted(folders | {"dev", "proc", "sys"}):
        yield folder, stat.S_IFDIR | 0o755, b""
    yield "ballonet-agent", stat.S_IFREG | 0o755, bundle()
    for name, path in files.items():
        content = path.read_bytes()
        yield name, stat.S_IFREG | 0o755, lzma.decompress(content) if path.suffix == ".xz" else content


def _lies(unpacked: Path, name: str) -> Path:
    """Where a package has a file of the guest: below /usr from Debian 13 on."""
    return next(path for path in (unpacked / name, unpacked / "usr" / name) if path.exists())


def cpio(files: Iterator[tuple[str, int, bytes]]) -> Iterator[bytes]:
    """An archive as the kernel unpacks it: "newc", Documentation/driver-api/early-userspace/buffer-format.rst."""
    entries = [*files, ("TRAILER!!!", 0, b"")]
    for number, (name, mode, content) in enumerate(entries):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        yield _padded(header + path)
        yield _padded(content)


def _padded(block: bytes) -> bytes:
    return block + bytes(-len(block) % 4)
