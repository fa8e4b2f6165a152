"""Builds the simulator."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from ballonet.lab.image import cache_folder

SOURCE = Path(__file__).with_name("vcenter.go")
GOVMOMI = Path("/usr/share/gocode/src/github.com/vmware/govmomi/simulator")


def build() -> Path:
    """The program, from the cache or built now. Raises FileNotFoundError where Go or govmomi is missing."""
    if shutil.which("go") is None or not GOVMOMI.is_dir():
        raise FileNotFoundError("no vSphere simulator; as root: tools/setup vsphere")
    built = cache_folder() / f"vcenter-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        paths = {"GO111MODULE": "off", "GOFLAGS": "", "GOPATH": f"{built.parent}/go:/usr/share/gocode"}
        new = built.with_suffix(".new")
        words = ["go", "build", "-o", str(new), str(SOURCE)]
        subprocess.run(words, env=os.environ | paths | {"GOCACHE": f"{built.parent}/go/cache"}, check=True)
        new.rename(built)
    return built
