"""One name for each number: what the snapshot, the API, the metrics and the command line show is in the glossary."""

import re
from pathlib import Path

import pytest

from ballonet.cli.status import SIZES
from ballonet.model.snapshot import Budget, Guest, GuestStats, Host
from ballonet.status.metrics import GUEST_GAUGES, HOST_GAUGES
from ballonet.status.words import Change, GuestStatus, HostSample, HostStatus, LimitStatus, Sample

TEXT = (Path(__file__).parents[2] / "docs/glossary.md").read_text()
WORDS = set(re.findall(r"`([a-z0-9_]+)`", TEXT))
KINDS = (Guest, GuestStats, Host, Budget, GuestStatus, HostStatus, LimitStatus, Sample, HostSample, Change)
PLAIN = {"guest"}
"""What needs no entry."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.__name__)
def test_each_field_is_in_the_glossary(kind: type[Guest]) -> None:
    """A new number is named there, or has a name that is there."""
    assert set(kind.__struct_fields__) - WORDS - PLAIN == set()


def test_a_metric_has_the_name_of_its_field() -> None:
    """In base units: seconds and ratios are written out (https://prometheus.io/docs/practices/naming/)."""
    others = {"alarm": "is_alarming", "tick_duration_seconds": "tick_s", "last_tick_timestamp_seconds": "at"}
    for name, (field, _) in (GUEST_GAUGES | HOST_GAUGES).items():
        plain = name.replace("_seconds", "_s").replace("_ratio", "_share")
        assert others.get(name, plain) == field
        assert field in WORDS


def test_a_field_of_the_api_is_called_as_in_the_snapshot() -> None:
    """No number has two names: what the API adds is what the plan and the daemon know."""
    added = {
        "available_bytes",
        "used_bytes",
        "need_bytes",
        "short_bytes",
        "target_bytes",
        "is_command",
        "reason",
        "sentence",
        "trouble",
        "is_bound",
        "asked",
    }
    assert set(GuestStatus.__struct_fields__) - set(Guest.__struct_fields__) == added


def test_columns_are_called_as_fields() -> None:
    """Without their unit."""
    assert {f"{name}_bytes" for name in SIZES} <= set(GuestStatus.__struct_fields__)
