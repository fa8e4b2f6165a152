"""The ladder beyond the balloon on a kernel: a lab guest's own, with cgroups version 2, swap and KSM."""

import json
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import ballonet
from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.image import build_image, cpio
from ballonet.lab.machine import QEMU

MIB = 1 << 20
PROBE = Path(__file__).parent / "ladder/probe.py"
DEADLINE_S = 240.0
BULKY = {
    "test",
    "idlelib",
    "tkinter",
    "site-packages",
    "dist-packages",
    "ensurepip",
    "lib2to3",
    "pydoc_data",
    "unittest",
    "distutils",
}
"""Of the standard library, what nothing here imports."""


def _files() -> Iterator[tuple[str, int, bytes]]:
    """The probe in place of the workload, and what it imports: of the standard library the image has the least part."""
    spec, stdlib, ours = find_spec("msgspec"), Path(sysconfig.get_path("stdlib")), Path(next(iter(ballonet.__path__)))
    assert spec is not None
    assert spec.origin is not None
    tops = [path for path in stdlib.iterdir() if path.is_dir() and path.name not in BULKY]
    tops += [Path(spec.origin).parent, *(ours / room for room in ("act", "decide", "model", "hypervisors"))]
    files = {"ballonet/__init__.py": ours / "__init__.py", "probe.py": PROBE}
    files |= {path.name: path for path in stdlib.glob("*.py")}
    for top in tops:
        base = ours.parent if ours in top.parents else top.parent
        files |= {str(path.relative_to(base)): path for path in sorted(top.rglob("*")) if path.suffix in {".py", ".so"}}
    folders = {str(parent) for name in files for parent in Path("site", name).parents if str(parent) != "."}
    for folder in sorted(folders):
        yield folder, stat.S_IFDIR | 0o755, b""
    for name, path in files.items():
        yield f"site/{name}", stat.S_IFREG | 0o644, path.read_bytes()
    pthread = "lib/x86_64-linux-gnu/libpthread.so.0"  # msgspec asks for it; since glibc 2.34 there is nothing in it
    yield pthread, stat.S_IFREG | 0o755, Path("/", pthread).read_bytes()
    yield "workload.py", stat.S_IFREG | 0o644, b'import sys; sys.path += ["/site", "/site/lib-dynload"]; import probe'


@pytest.fixture
def seen(tmp_path: Path) -> dict[str, Any]:
    """What the probe told."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the lab's guests have Python 3.11, which cannot load msgspec of another")
    try:
        image = build_image()
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    console, swap, initramfs = tmp_path / "console", tmp_path / "swap", tmp_path / "initramfs"
    initramfs.write_bytes(image.initramfs.read_bytes() + b"".join(cpio(_files())))
    with swap.open("wb") as file:
        file.truncate(128 * MIB)
    words = [QEMU, "-nodefaults", "-display", "none", "-no-reboot", "-accel", "tcg", "-m", "512", "-serial", f"file:{console}"]
    words += ["-kernel", str(image.kernel), "-initrd", str(initramfs), "-append", "console=ttyS0 quiet panic=-1 mitigations=off"]
    words += ["-drive", f"file={swap},if=virtio,format=raw"]
    process = subprocess.Popen(words)
    try:
        return _told(console, process)
    finally:
        process.kill()
        process.wait()


def _told(console: Path, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end and process.poll() is None:
        text = console.read_text("utf-8", "replace") if console.exists() else ""
        for line in text.splitlines():
            if line.startswith("LADDER ") and line.endswith("}"):
                return dict(json.loads(line.removeprefix("LADDER ")))
        if "workload ended" in text:
            break
        time.sleep(0.2)
    raise AssertionError(console.read_text("utf-8", "replace")[-2000:])


def test_the_kernel_does_what_the_ladder_asks(seen: dict[str, Any]) -> None:
    """KSM merges equal pages once the host is scarce, and is put back; memory.reclaim pages out what a guest holds too much."""
    assert seen["before"] == {"run": 0, "pages_to_scan": 100}
    assert seen["during"]["run"] == 1
    assert seen["during"]["pages_to_scan"] == 364
    assert seen["during"]["pages_sharing"] >= 64 * MIB // 4096 // 2
    assert seen["after"] == seen["before"]
    assert seen["held"] - seen["left"] >= 20 * MIB
    assert seen["swapped"] >= 12 * MIB
