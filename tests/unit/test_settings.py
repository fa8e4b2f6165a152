from pathlib import Path

import pytest

from ballonet.daemon.config import read_config
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Mode
from ballonet.scenarios.scenario import load, scripts, standard_names

GOOD = '[qemu]\nsockets = ["/x/*.sock"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "[loop\n", "line 3"),
        (GOOD + '[loop]\nmod = "act"\n', "do you mean `mode`"),
        (GOOD + '[loop]\nmode = "acting"\n', "loop.mode"),
        (GOOD + "[guest.a]\nfloor = 5\n", "guest"),
        (GOOD + '[guest.a]\nfloor = "5 X"\n', "unknown unit"),
        (GOOD + '[guest.a]\nfloor = "5G"\nceiling = "4G"\n', "above the ceiling"),
        (GOOD + '[loop]\npolicy = "best"\n', "there are adaptive"),
        ("[qemu]\n", "qemu.sockets"),
    ],
)
def test_bad_configuration_names_place_and_remedy(tmp_path: Path, text: str, says: str) -> None:
    """A bad configuration is refused whole, with its file, place and remedy."""
    path = tmp_path / "b.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"b\.toml") as error:
        read_config(path)
    assert says in str(error.value)


def test_default_only_observes(tmp_path: Path) -> None:
    """A configuration that says no mode touches nothing, and no guest can be set to more than the loop."""
    path = tmp_path / "b.toml"
    path.write_text(GOOD + '[guest.a]\nmode = "act"\n')
    config = read_config(path)
    assert config.settings("a").mode is Mode.OBSERVE
    assert config.settings("other").mode is Mode.OBSERVE


def test_standard_scenarios_load() -> None:
    """Every standard scenario loads and unfolds, the same for the same seed and another for another."""
    assert {"consolidation", "spike", "storm-3", "overinflate", "noswap", "stuck", "hang"} <= set(standard_names())
    for name in standard_names():
        assert scripts(load(name), 32, 1) == scripts(load(name), 32, 1)
    assert scripts(load("consolidation"), 32, 1) != scripts(load("consolidation"), 32, 2)


def test_scenario_with_unknown_guest_is_refused(tmp_path: Path) -> None:
    """A fault for a guest that is not there is refused."""
    path = tmp_path / "s.toml"
    text = (Path(__file__).parents[2] / "src/ballonet/scenarios/standard/hang.toml").read_text()
    path.write_text(text.replace('guest = "hung-0"', 'guest = "nobody"'))
    with pytest.raises(SettingsError, match="nobody"):
        load(str(path))
