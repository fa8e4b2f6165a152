from collections.abc import Iterator

import pytest

from daemons import Daemon, free_port, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for a module's tests: what a test orders, it takes back."""
    with running(tmp_path_factory.mktemp("daemon"), listen=f"127.0.0.1:{free_port()}") as one:
        yield one
