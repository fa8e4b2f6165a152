"""A host that is made up, for each case a new one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from field_host import Field, made_up


@pytest.fixture
def field_of(tmp_path: Path) -> Iterator[Field]:
    with made_up(tmp_path) as found:
        yield found
