"""Descriptors: as many as the system allows, and told when they do not last."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from ballonet.daemon.descriptors import descriptor_findings, raise_limit

UNIT = Path(__file__).parents[2] / "packaging/ballonet.service"


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    found = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield found
    resource.setrlimit(resource.RLIMIT_NOFILE, found)


def test_the_soft_limit_is_raised(limits: tuple[int, int]) -> None:
    """Systemd gives 1,024 to programs that say nothing."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limits[1], limits[1])


def test_too_few_for_the_guests_are_told(limits: tuple[int, int]) -> None:
    """By number; the unit's own suffice for 10,000 guests and more."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
    assert "1000 guests can take 3150" in descriptor_findings(1000)[0].what
    assert descriptor_findings(10) == []
    assert "LimitNOFILE=65536" in UNIT.read_text()
