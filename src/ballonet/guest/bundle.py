"""Makes the one file that is copied into guests: an executable archive (zipapp, PEP 441) of this folder. Not part of it.

`make agent` calls it; so does the lab, so that what runs in its guests is what runs in an operator's.
"""

import io
import sys
import zipfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
_SHEBANG: Final = b"#!/usr/bin/env python3\n"
_PARTS: Final = ("__init__", "__main__", "agent", "care", "jvm", "kernel", "ready", "settings", "words")


def bundle() -> bytes:
    """The file's content; the same sources give the same bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        _add(file, "__main__.py", (HERE / "__main__.py").read_bytes())
        _add(file, "ballonet/__init__.py", b"")
        for part in _PARTS:
            _add(file, f"ballonet/guest/{part}.py", (HERE / f"{part}.py").read_bytes())
    return _SHEBANG + archive.getvalue()


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    file.writestr(info, content)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_bytes(bundle())
    target.chmod(0o755)
