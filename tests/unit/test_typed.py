"""A command that is told to operators can be pasted into a shell, whatever guests call themselves."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballonet.model.text import typed, visible

NAMES = [
    "web-1",
    "my vm;id",
    " ",
    "*",
    "-x",
    "--all",
    "a'b",
    'a"b$(id)`id`',
    "x\r",
    "two\nlines",
    "\u202ecod",
    "\\",
    "~root",
    "!!",
]


def words_of(command: str) -> list[str]:
    """What a shell makes of it."""
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("no bash here")
    script = f'ballonet() {{ printf "%s\\0" "$@"; }}; {command}'
    done = subprocess.run([shell, "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": ""})
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_word_and_no_option(name: str) -> None:
    """As it is printed, too: what a terminal would not show is spelled."""
    command = typed("set", name, "--floor default")
    assert visible(command) == command
    words = words_of(command)
    assert words[0] == "set"
    assert words.count(name) == 1
    assert not name.startswith("-") or words[words.index(name) - 1] == "--"
    assert {"--floor", "default"} <= set(words)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_any_name(name: str) -> None:
    """Nothing of it is done."""
    assert words_of(typed("hold", name)) == ["hold", *(["--"] if name.startswith("-") else []), name]


def test_no_name() -> None:
    """Of all guests."""
    assert typed("release") == "ballonet release"
