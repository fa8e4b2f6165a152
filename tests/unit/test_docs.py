import json
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from msgspec.structs import replace

from ballonet.daemon.config import (
    Config,
    ControlConfig,
    EmergencyConfig,
    HistoryConfig,
    HostConfig,
    LoopConfig,
)
from ballonet.decide.policies import POLICIES
from ballonet.decide.step import START, step
from ballonet.hypervisors.libvirt.config import LibvirtConfig
from ballonet.hypervisors.proxmox.config import ProxmoxConfig
from ballonet.model.limits import RULES, Limits
from ballonet.model.result import Result
from ballonet.model.settings import SettingsError, convert, parse_toml
from ballonet.model.snapshot import Budget, Guest, GuestStats, Host
from ballonet.model.terms import WrittenTerms
from ballonet.model.wire import read_snapshot
from ballonet.scenarios.scenario import Fault, Group, HostPart, LimitPart, Phase, Scenario

NO_CEILING = b"""{"schema": "ballonet.snapshot/1", "host": {"total_bytes": 1, "available_bytes": 0},
 "guests": [{"name": "a", "ceiling_bytes": 0}]}"""
ROOT = Path(__file__).parents[2]
GUEST = {"name": "a", "ceiling_bytes": 4096}
TERMS = set(WrittenTerms.__struct_encode_fields__)
"""Named where the configuration is."""
PARTS = {"host", "guests", "phases", "faults", "limits", "expect", "expect_at_share"}


def test_reference_names_every_key() -> None:
    """Every key of the configuration is in its reference."""
    text = (ROOT / "docs/reference/config.md").read_text()
    parts = msgspec.structs.fields(Config)
    assert len(parts) > 8
    for part in parts:
        kinds = [WrittenTerms] if part.name == "guest" else [one for one in (part.type, *get_args(part.type)) if is_table(one)]
        place = "guest.NAME" if part.name == "guest" else part.name
        for field in kinds[0].__struct_encode_fields__:
            assert f"`{place}.{field}`" in text


def is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def test_the_packaged_configuration_has_every_key_at_its_default() -> None:
    """It says nothing but `observe` and whose guests; with every comment taken away it says the same again."""
    text = (ROOT / "src/ballonet/daemon/ballonet.toml").read_text()
    shipped = convert(parse_toml(text, "shipped"), Config, "shipped")
    assert shipped == Config.of(LibvirtConfig())
    bare = re.sub(r"(?m)^# (?=\[|[a-z_]+ = )", "", text)
    told = convert(parse_toml(bare, "bare"), Config, "bare")
    assert told.section(ProxmoxConfig) == ProxmoxConfig()
    assert told.control == replace(ControlConfig(), listen="127.0.0.1:9717")
    assert (told.history, told.emergency, told.loop) == (HistoryConfig(), EmergencyConfig(), LoopConfig())
    for kind in (ControlConfig, HistoryConfig, EmergencyConfig, LoopConfig, HostConfig, WrittenTerms):
        assert [field for field in kind.__struct_encode_fields__ if not re.search(rf"(?m)^(# )?{field} = ", text)] == []


def test_reference_names_every_rule() -> None:
    """Each rule has its line."""
    text = (ROOT / "docs/reference/rules.md").read_text()
    assert [rule for rule in RULES if f"| {rule} |" not in text] == []


def test_reference_names_every_key_of_scenarios() -> None:
    """Every key of a scenario is in its reference, but those of [expect], which are the result's."""
    text = (ROOT / "docs/reference/scenario.md").read_text()
    for kind in (Scenario, HostPart, Group, Phase, Fault, LimitPart):
        assert [key for key in kind.__struct_encode_fields__ if f"`{key}`" not in text and key not in PARTS | TERMS] == []


def test_the_example_of_a_result_is_one() -> None:
    """The example decodes, and every field of the code is in it."""
    text = (ROOT / "docs/reference/result.md").read_text()
    example = text.split("```json\n")[1].split("```")[0]
    result = msgspec.json.decode(example, type=Result)
    assert msgspec.json.decode(msgspec.json.encode(result)) == msgspec.json.decode(example)


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link of the front pages is a file of the repository."""
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_example_of_a_snapshot_is_one() -> None:
    """The example is read, and every policy decides on it."""
    text = (ROOT / "docs/reference/snapshot.md").read_text()
    snapshot = read_snapshot(text.split("```json\n")[1].split("```")[0].encode(), "snapshot.md")
    for name in POLICIES:
        assert f"`{name}`" in text or name == "ideal"
        _, plan = step(START, snapshot, Limits(), 0.0, name)
        assert [one.name for one in plan.guests] == ["a"]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (b"{", "not JSON"),
        (b"[]", "at `schema`"),
        (b'{"schema": "ballonet.snapshot/1"}', "host"),
        (b'{"schema": "ballonet.snapshot/1", "host": {"total_bytes": "x", "available_bytes": 0}}', "host.total_bytes"),
        (b'{"schema": "ballonet.snapshot/1", "host": {"total_bytes": -1, "available_bytes": 0}}', "host.total_bytes"),
        (NO_CEILING, "guests[0].ceiling_bytes"),
    ],
)
def test_a_snapshot_that_cannot_be_is_refused(broken: bytes, told: str) -> None:
    """The error names the place."""
    with pytest.raises(SettingsError, match=re.escape(told)):
        read_snapshot(broken, "x.json")


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (place, name)
        for place, kind in (("host", Host), ("host.budgets[0]", Budget), ("guests[0]", Guest), ("guests[0].stats", GuestStats))
        for name, of in get_type_hints(kind).items()
        if {int, float} & {of, *get_args(of)}
    ],
)
def test_no_number_of_a_snapshot_may_be_negative(place: str, name: str) -> None:
    """Whichever there are: none is read as something else."""
    budget = {"name": "slice", "limit_bytes": 1, "available_bytes": 1, "guests": ["a"]}
    host: dict[str, Any] = {"total_bytes": 4096, "available_bytes": 4096, "budgets": [budget]}
    guest: dict[str, Any] = GUEST | {"stats": {"total_bytes": 4096, "available_bytes": 1}}
    {"host": host, "host.budgets[0]": budget, "guests[0]": guest, "guests[0].stats": guest["stats"]}[place][name] = -1
    text = json.dumps({"schema": "ballonet.snapshot/1", "host": host, "guests": [guest]}).encode()
    with pytest.raises(SettingsError, match=re.escape(f"x.json: at `{place}.{name}`")):
        read_snapshot(text, "x.json")
