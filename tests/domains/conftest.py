import contextlib
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from libvirtd import Guests, Libvirtd, another_libvirtd


@pytest.fixture
def libvirtd() -> Iterator[Libvirtd]:
    """Running."""
    with another_libvirtd() as daemon:
        yield daemon


@pytest.fixture
def elsewhere() -> Iterator[Libvirtd]:
    """Another host's."""
    with another_libvirtd() as daemon:
        yield daemon


@pytest.fixture
def libvirtd_with_a_slow_hook() -> Iterator[Libvirtd]:
    """It waits ten seconds, and until a file says so, before it lets a domain named `slow` start."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to lay a hook over /etc in a mount namespace of its own")
    wait = 'sleep 10; while [ ! -e "$HOME/run/go" ]; do sleep 0.1; done'
    with another_libvirtd(f'#!/bin/sh\n[ "$1 $2" = "slow prepare" ] && {{ {wait}; }}\nexit 0\n') as daemon:
        yield daemon


@pytest.fixture
async def guests(libvirtd: Libvirtd) -> AsyncIterator[Guests]:
    """None yet."""
    from ballonet.hypervisors.libvirt import events  # noqa: PLC0415 needs libvirt

    events.start()
    import libvirt  # noqa: PLC0415 as above

    connection = libvirt.open(libvirtd.uri)
    yield Guests(libvirtd, connection)
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()
