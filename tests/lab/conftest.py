import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ballonet.lab.errors import LabUnavailableError
from ballonet.lab.machine import Machine
from ballonet.lab.template import template


@pytest.fixture
async def machines() -> AsyncIterator[list[Machine]]:
    """Two running guests of 512 MiB, `a` and `b`."""
    with tempfile.TemporaryDirectory(prefix="ballonet-test-") as folder:
        try:
            saved = await template(512 << 20)
        except LabUnavailableError as reason:
            pytest.skip(str(reason))
        found: list[Machine] = []
        try:
            for name in ("a", "b"):
                found.append(await saved.restore(name, Path(folder)))  # noqa: PERF401 one that fails leaves the other to be closed
            yield found
        finally:
            for machine in found:
                await machine.close()
