import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ballonet.daemon.config import read_config
from ballonet.hypervisors.libvirt.settings import kept, read
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Mode
from ballonet.model.terms import Terms, read_term
from ballonet.model.units import GIB
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
        (GOOD + '[guest.a]\nheadroom = "5 X"\n', 'a share of what the guest has, like "10%"'),
        (GOOD + '[guest.a]\nheadroom = "100%"\n', "guest"),
        (GOOD + '[loop]\npolicy = "best"\n', "there are adaptive"),
        ("[qemu]\n", "add [libvirt]"),
        (GOOD + "[libvirt]\n", "[qemu] and [libvirt]: keep one"),
        ("[proxmox]\n[libvirt]\n", "keep one"),
    ],
)
def test_bad_configuration_names_place_and_remedy(tmp_path: Path, text: str, says: str) -> None:
    """A bad configuration is refused whole, with its file, place and remedy."""
    path = tmp_path / "b.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"b\.toml") as error:
        read_config(path)
    assert says in str(error.value)


def test_files_of_conf_d_add_and_the_later_one_counts(tmp_path: Path) -> None:
    """Tables are joined, in the order of the names; an error names the very file."""
    path, folder = tmp_path / "b.toml", tmp_path / "conf.d"
    folder.mkdir()
    path.write_text(GOOD + '[guest.a]\nfloor = "1GiB"\n')
    (folder / "10-a.toml").write_text('[guest.a]\nshares = 5\n[loop]\nmode = "advise"\n')
    (folder / "20-b.toml").write_text("[guest.b]\nshares = 7\n[guest.a]\nshares = 6\n")
    config = read_config(path)
    assert (config.settings("a").floor_bytes, config.settings("a").shares, config.settings("b").shares) == (1 << 30, 6, 7)
    assert config.loop.mode is Mode.ADVISE
    (folder / "20-b.toml").write_text("[guest.b]\nshares = 0\n")
    with pytest.raises(SettingsError, match=r"20-b\.toml: at `guest\.b\.shares`|20-b\.toml"):
        read_config(path)


def test_check_config_says_what_it_comes_to(tmp_path: Path) -> None:
    """Good: 0 and a summary, or JSON; wrong: 2 and one line."""
    path = tmp_path / "b.toml"
    path.write_text(GOOD)
    words = [str(Path(sys.executable).with_name("ballonet")), "check-config", "-c", str(path)]
    good = subprocess.run(words, capture_output=True, text=True, check=False)
    assert good.returncode == 0
    assert "good. Mode observe" in good.stdout
    assert json.loads(subprocess.run([*words, "--json"], capture_output=True, check=True).stdout)["loop"]["mode"] == "observe"
    path.write_text(GOOD + "[lop]\n")
    bad = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "do you mean `loop`" in bad.stderr


def test_default_only_observes(tmp_path: Path) -> None:
    """A configuration that says no mode touches nothing, and no guest can be set to more than the loop."""
    path = tmp_path / "b.toml"
    path.write_text(GOOD + '[guest.a]\nmode = "act"\n')
    config = read_config(path)
    assert config.settings("a").mode is Mode.OBSERVE
    assert config.settings("other").mode is Mode.OBSERVE


def test_settings_of_a_domain_come_between_its_own_and_the_default(tmp_path: Path) -> None:
    """Setting by setting: what the file says of a guest by UUID or name counts before metadata, they before `guest.default`."""
    path = tmp_path / "b.toml"
    path.write_text('[libvirt]\n[loop]\nmode = "act"\n[guest.default]\nfloor = "1GiB"\nshares = 700\n[guest.a]\nfloor = "2GiB"\n')
    config, kept = read_config(path), Terms(floor_bytes=3 << 30, mode=Mode.ADVISE)
    assert config.settings("a", kept) == Terms(floor_bytes=2 << 30, guaranteed_bytes=0, shares=700, mode=Mode.ADVISE)
    assert config.settings("other", kept, uuid="a") == config.settings("a", kept)
    assert config.settings("b", kept) == Terms(floor_bytes=3 << 30, guaranteed_bytes=0, shares=700, mode=Mode.ADVISE)
    assert config.settings("b") == Terms(floor_bytes=1 << 30, guaranteed_bytes=0, shares=700, mode=Mode.ACT)


def test_metadata_of_a_domain_are_read() -> None:
    """All attributes, and priority as shares."""
    found = kept(read('<guest min="4GiB" max="12GiB" guaranteed="6GiB" priority="low" mode="act"/>', "a"))
    assert found == Terms(floor_bytes=4 << 30, ceiling_bytes=12 << 30, guaranteed_bytes=6 << 30, shares=500, mode=Mode.ACT)
    assert kept(read('<guest shares="300" priority="low"/>', "a")).shares == 300
    assert kept(read("<guest/>", "a")) == Terms()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<guest", "metadata of a"),
        ('<guest min="lots"/>', "at `min`"),
        ('<guest minimum="4GiB"/>', "do you mean"),
        ('<guest shares="0"/>', "at `shares`"),
        ('<guest shares="many"/>', "at `shares`"),
        ('<guest priority="urgent"/>', "at `priority`"),
        ('<guest min="4GiB" max="2GiB"/>', "above `max`"),
    ],
)
def test_metadata_that_cannot_be_read_are_refused(text: str, says: str) -> None:
    """With the domain, the attribute and the remedy."""
    with pytest.raises(SettingsError) as error:
        read(text, "a")
    assert says in str(error.value)


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


@pytest.mark.parametrize(("text", "free"), [("1GiB", GIB), ("10%", 8 * GIB // 10), ("2.5 %", 8 * GIB // 40)])
def test_headroom_is_a_size_or_a_share(tmp_path: Path, text: str, free: int) -> None:
    """Of one guest, or of all by default."""
    path = tmp_path / "b.toml"
    path.write_text(f'{GOOD}[guest.default]\nheadroom = "{text}"\n[guest.b]\nshares = 5\n')
    for name in ("a", "b"):
        assert read_config(path).settings(name).portions(8 * GIB)["headroom_bytes"] == free


def test_a_guest_s_own_table_leaves_the_default_s_other_settings(tmp_path: Path) -> None:
    """One setting of its own loses none of the rest; a floor above an inherited ceiling is a contradiction."""
    path = tmp_path / "b.toml"
    rest = '[guest.default]\nfloor = "1GiB"\nceiling = "3GiB"\nguaranteed = "512MiB"\nmode = "advise"\n'
    path.write_text(f'[libvirt]\n[loop]\nmode = "act"\n{rest}[guest.a]\nshares = 7\n')
    assert read_config(path).settings("a") == Terms(
        floor_bytes=1 << 30, ceiling_bytes=3 << 30, guaranteed_bytes=512 << 20, shares=7, mode=Mode.ADVISE
    )
    path.write_text(f'[libvirt]\n{rest}[guest.a]\nfloor = "4GiB"\n')
    with pytest.raises(SettingsError, match=r"guest\.a\.floor"):
        read_config(path)


@pytest.mark.parametrize("listen", ["0.0.0.0:9717", "127.0.0.1", "127.0.0.1:99999"])
def test_a_place_to_listen_that_cannot_be_is_told_before_the_start(tmp_path: Path, listen: str) -> None:
    """By check-config and a reload too."""
    path = tmp_path / "b.toml"
    path.write_text(f'[libvirt]\n[control]\nlisten = "{listen}"\n')
    with pytest.raises(SettingsError, match=r"control\.listen"):
        read_config(path)


def test_what_is_said_by_uuid_and_by_name_adds_up(tmp_path: Path) -> None:
    """However its letters are written."""
    path, uuid = tmp_path / "b.toml", "2c5dab00-0000-4000-8000-00000000000a"
    tables = ("default", "shares = 500"), ("web", "shares = 4000"), (f'"{uuid.upper()}"', 'floor = "1GiB"')
    path.write_text("[libvirt]\n" + "".join(f"[guest.{name}]\n{text}\n" for name, text in tables))
    found = read_config(path).settings("web", uuid=uuid)
    assert (found.floor_bytes, found.shares) == (1 << 30, 4000)


def test_a_pattern_is_for_all_guests_that_are_called_so(tmp_path: Path) -> None:
    """Setting by setting: by name, then what the hypervisor keeps, then patterns, the longest first, then the default."""
    path = tmp_path / "b.toml"
    path.write_text("""
            [loop]
            mode = "act"
            [libvirt]
            [guest.default]
            floor = "1GiB"
            shares = 100
            [guest."web-*"]
            floor = "2GiB"
            shares = 200
            guaranteed = "1GiB"
            [guest."web-?"]
            headroom = "10%"
            [guest."web-front-*"]
            shares = 300
            [guest.web-front-1]
            floor = "3GiB"
            """)
    config = read_config(path)
    one = config.settings("web-front-1", Terms(guaranteed_bytes=5 * GIB))
    assert (one.floor_bytes, one.guaranteed_bytes, one.shares) == (3 * GIB, 5 * GIB, 300)
    two = config.settings("web-2")
    assert (two.floor_bytes, two.guaranteed_bytes, two.shares, two.portions(10 * GIB)["headroom_bytes"]) == (
        2 * GIB,
        GIB,
        200,
        GIB,
    )
    other = config.settings("db")
    assert (other.floor_bytes, other.guaranteed_bytes, other.shares) == (GIB, 0, 100)


def test_brackets_in_a_pattern_are_letters(tmp_path: Path) -> None:
    """As in names, in which they stand."""
    path = tmp_path / "b.toml"
    path.write_text('[libvirt]\n[guest."web[1]-*"]\nshares = 300\n')
    config = read_config(path)
    assert (config.settings("web[1]-a").shares, config.settings("web1-a").shares) == (300, 1000)


@pytest.mark.parametrize("name", ["default", "tag:batch", "web-*"])
def test_a_guest_that_is_called_as_a_table_for_many_gets_nothing_by_that(tmp_path: Path, name: str) -> None:
    """What is written for many goes behind what its operator wrote down at the hypervisor, whatever a guest calls itself."""
    path = tmp_path / "b.toml"
    path.write_text(f'{GOOD}[guest."{name}"]\nshares = 100\n')
    assert read_config(path).settings(name, Terms(shares=5000)).shares == 5000


@pytest.mark.parametrize("by", [str.upper, str.lower])
@pytest.mark.parametrize("told", [str.upper, str.lower])
def test_a_uuid_counts_in_either_case(tmp_path: Path, by: Callable[[str], str], told: Callable[[str], str]) -> None:
    """Hypervisors say theirs in one or the other."""
    uuid = "5a3b0c1d-0e2f-4a5b-8c6d-7e8f90a1b2c3"
    path = tmp_path / "b.toml"
    path.write_text(f'{GOOD}[guest."{by(uuid)}"]\nshares = 7\n')
    assert read_config(path).settings("a", uuid=told(uuid)).shares == 7


@pytest.mark.parametrize(
    ("text", "place"), [('[qemu]\nsockets = [""]\n', "qemu.sockets"), (f'{GOOD}[guest."tag:ba*"]\nshares = 1\n', "guest.tag:ba*")]
)
def test_what_could_never_count_is_refused(tmp_path: Path, text: str, place: str) -> None:
    """With its place."""
    path = tmp_path / "b.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(f"at `{place}`")):
        read_config(path)


def test_shares_of_thousands_of_digits_are_a_wrong_setting() -> None:
    """And no exception of Python's, which would be taken for a fault of the guest's."""
    with pytest.raises(SettingsError, match="shares"):
        read(f'<guest shares="{"9" * 5000}"/>', "web")
    with pytest.raises(SettingsError):
        read_term("shares", "9" * 5000, "--shares")


@pytest.mark.parametrize("name", ["web", "web-*", "my vm", "tag:batch"])
@pytest.mark.parametrize(
    ("line", "says"), [('floor = "lots"', "floor"), ("flor = 1", "do you mean `floor`"), ("shares = 0", "shares")]
)
def test_a_wrong_table_of_a_guest_is_named(tmp_path: Path, name: str, line: str, says: str) -> None:
    """Among others that are right."""
    path = tmp_path / "b.toml"
    path.write_text(f'{GOOD}[guest.default]\nshares = 5\n[guest."{name}"]\n{line}\n[guest.zz]\nshares = 7\n')
    with pytest.raises(SettingsError, match=re.escape(f"at `guest.{name}")) as caught:
        read_config(path)
    assert says in str(caught.value)
    assert "[...]" not in str(caught.value)
