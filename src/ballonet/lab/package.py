"""Distribution packages, fetched and unpacked without installing them on the host."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ballonet.lab.errors import LabUnavailableError

_INSTALLED: Final = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)

KERNEL = "linux-image-cloud-amd64"
"""Debian's kernel for virtual machines: small, every virtio driver there is; depends on the newest real one."""

PACKAGES = ("busybox-static", "libc6", "zlib1g", "libexpat1")
"""A shell, and what the smallest Python that Debian has links to."""


def require_host() -> None:
    """Raises LabUnavailableError where packages or QEMU cannot be had, with what to do about it."""
    if sys.platform != "linux":
        raise LabUnavailableError("the lab needs Linux: its guests are measured through /proc and memfd")
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise LabUnavailableError(f"the lab builds its guests from Debian packages and finds no {tool}; use Debian 12")
    if shutil.which("qemu-system-x86_64") is None:
        raise LabUnavailableError("no qemu-system-x86_64; as root: apt-get install --no-install-recommends qemu-system-x86")


def image_versions() -> dict[str, str]:
    """The packages that the guest image is made of, as `versions`."""
    try:
        kernel = _needed_by(KERNEL, "linux-image-")
    except LabUnavailableError as error:
        raise LabUnavailableError(f"{error}; guests of the lab are made of packages of Debian 12 or 13") from error
    python = _needed_by("python3-minimal", "python3.")
    return versions((kernel, *PACKAGES, f"lib{python}", python))


def versions(names: Sequence[str]) -> dict[str, str]:
    """The version of each package that apt would fetch now. Raises LabUnavailableError."""
    shown = _run("apt-cache", "show", "--no-all-versions", *names)
    found: dict[str, str] = {}
    name = ""
    for line in shown.splitlines():
        key, _, value = line.partition(": ")
        if key == "Package":
            name = value
        elif key == "Version":
            found[name] = value
    missing = [name for name in names if name not in found]
    if missing:
        raise LabUnavailableError(f"apt knows no package {', '.join(missing)}; as root: apt-get update")
    return found


def closure(names: Sequence[str]) -> dict[str, str]:
    """The same of `names` and of all that they depend on, whatever the host has of it. Raises LabUnavailableError."""
    with tempfile.NamedTemporaryFile() as nothing_installed:
        status = ("-o", f"Dir::State::status={nothing_installed.name}", "-o", "Debug::NoLocking=1")
        said = _run("apt-get", "install", "--simulate", "--no-install-recommends", *status, *names)
    return dict(_INSTALLED.findall(said))


def unpack(packages: dict[str, str], folder: Path) -> None:
    """Fetch `packages` (name to version) and unpack all of them into `folder`, which is made."""
    debs = folder.with_name(folder.name + ".debs")
    debs.mkdir(parents=True)
    _run("apt-get", "download", "-q", *(f"{name}={version}" for name, version in packages.items()), cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        _run("dpkg-deb", "-x", str(deb), str(folder))
    shutil.rmtree(debs)


def _needed_by(package: str, begins: str) -> str:
    """Of what a package depends on, that whose name begins so: Debian's own choice of a version."""
    for line in _run("apt-cache", "depends", package).splitlines():
        word, _, name = line.strip().partition(": ")
        if word in {"Depends", "PreDepends"} and name.startswith(begins):
            return name
    raise LabUnavailableError(f"apt knows no package {package}; as root: apt-get update")


def _run(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise LabUnavailableError(f"`{' '.join(words[:3])}` failed: {' '.join(reason)}; as root: apt-get update")
    return done.stdout
