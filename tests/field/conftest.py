"""A host that is made up, for each case a new one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from field_host import Field


@pytest.fixture
def field_of(tmp_path: Path) -> Iterator[Field]:
    for name in ("q", "state", "say", "root/proc", "state-of-daemon"):
        (tmp_path / name).mkdir(parents=True)
    found = Field(tmp_path)
    try:
        yield found
    finally:
        found.is_over = True
        for process in (found.daemon, *found.processes):
            if process is not None:
                process.kill()
                process.wait()
