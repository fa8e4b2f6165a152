"""One type for the operator's word: each of its fields is taken by each source, and joined by one rule."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.main import get_command

from ballonet.cli.daemon import set_guest
from ballonet.control.messages import Orders
from ballonet.control.openapi import PORTION, openapi
from ballonet.control.orders import with_guest
from ballonet.daemon.config import read_config
from ballonet.hypervisors.libvirt.settings import kept, read
from ballonet.model.decode import decoded, encode
from ballonet.model.settings import Portion, SettingsError
from ballonet.model.snapshot import Mode
from ballonet.model.terms import FIELDS, NORMAL, UNSAID, Terms, describe, in_words, name_of, read_term
from ballonet.model.units import GIB, MIB
from ballonet.scenarios.scenario import Group

VALUES: dict[str, tuple[str, Any]] = {
    "Bytes": ("1GiB", GIB),
    "int": ("7", 7),
    "Portion": ("10%", Portion(share=0.1)),
    "Mode": ("advise", Mode.ADVISE),
}
"""By the kind of a field: how somebody writes a value, and the value. A field of a new kind fails until it has one."""


def kind_of(field: str) -> str:
    """Sizes by their unit, others by their type."""
    found = next(one for one in msgspec.structs.fields(Terms) if one.name == field)
    return "Bytes" if field.endswith("_bytes") else re.findall(r"Portion|Mode|int", str(found.type))[0]


SAID = {field: VALUES[kind_of(field)] for field in FIELDS}
THEIRS = {"floor": "min", "ceiling": "max"}
"""What a domain's metadata call them."""


def written(field: str) -> str:
    """As TOML has it."""
    return SAID[field][0] if field == "shares" else f'"{SAID[field][0]}"'


@pytest.mark.parametrize("field", FIELDS)
def test_each_source_takes_each_field(field: str, tmp_path: Path) -> None:
    """The file, metadata, orders, scenarios, the API and the command line, by the same name and with the same value."""
    text, value = SAID[field]
    name = name_of(field)
    path = tmp_path / "b.toml"
    path.write_text(f'[libvirt]\n[loop]\nmode = "act"\n[guest.a]\n{name} = {written(field)}\n')
    assert getattr(read_config(path).settings("a"), field) == value
    assert getattr(kept(read(f'<guest {THEIRS.get(name, name)}="{text}"/>', "a")), field) == value
    assert read_term(field, text, "--x") == value
    assert name in {one.lstrip("-") for option in command().params for one in option.opts}
    patch = openapi()["components"]["schemas"]["GuestOrder"]["properties"][field]
    assert describe(field) in str(patch)
    assert name in Group.__struct_encode_fields__


@pytest.mark.parametrize("field", FIELDS)
def test_an_order_outlives_a_restart(field: str) -> None:
    """Written down and read again it is the same; taken back, nothing is left."""
    orders = with_guest(Orders(), "a", {field: SAID[field][1]}, "a")
    assert decoded(encode(orders), Orders) == orders
    assert with_guest(orders, "a", {field: None}, "a").guests == {}


@pytest.mark.parametrize("field", FIELDS)
def test_the_first_source_that_says_something_counts(field: str) -> None:
    """Of this field alone; sizes of a file are plain numbers afterwards."""
    said = Terms(**{field: SAID[field][1]})
    assert getattr(said.over(NORMAL), field) == SAID[field][1]
    assert getattr(UNSAID.over(said), field) == SAID[field][1]
    rest = [one for one in FIELDS if one != field]
    assert [getattr(said.over(NORMAL), one) for one in rest] == [getattr(NORMAL, one) for one in rest]
    assert in_words(field, SAID[field][1])


def test_sizes_of_a_file_are_plain_numbers_once_joined() -> None:
    """So that they go over the wire and to disk as any other."""
    found = read('<guest min="1GiB"/>', "a").over(UNSAID)
    assert type(found.floor_bytes) is int


@pytest.mark.parametrize(
    ("field", "text"), [("floor_bytes", "lots"), ("shares", "0"), ("shares", "-1"), ("mode", "on"), ("headroom", "x")]
)
def test_a_wrong_option_names_itself(field: str, text: str) -> None:
    """And what would do."""
    with pytest.raises(SettingsError, match=f"--{name_of(field)}"):
        read_term(field, text, f"--{name_of(field)}")


def test_tags_stand_for_all_guests_that_have_them(tmp_path: Path) -> None:
    """After patterns of names, before the default."""
    path = tmp_path / "b.toml"
    tables = {"default": 1, '"tag:batch"': 2, '"web-*"': 3}
    path.write_text("[libvirt]\n" + "".join(f"[guest.{name}]\nshares = {shares}\n" for name, shares in tables.items()))
    config = read_config(path)
    assert [
        config.settings(name, tags=tags).shares for name, tags in (("a", ()), ("a", ("batch", "x")), ("web-1", ("batch",)))
    ] == [1, 2, 3]


def test_headroom_is_written_as_it_is_read() -> None:
    """Whatever its size."""
    for one in (Portion(share=0.07), Portion(share=0.025), Portion(3 * MIB + 1), Portion()):
        assert decoded(encode(Terms(headroom=one)), Terms).headroom == one


def command() -> Any:
    """`ballonet set`, as typer builds it."""
    app = typer.Typer()
    app.command()(set_guest)
    return get_command(app)


@pytest.mark.parametrize("text", ["10%", "0.00000001%", "5.123456789%", "99.99999999%", "1B", "4116TiB", "1.5 GiB", "0"])
def test_headroom_that_is_taken_is_given_back_in_a_form_that_is_taken(text: str) -> None:
    """Orders are kept in a file, and the API's answers are of its schema."""
    first = read_term("headroom", text, "--headroom")
    assert isinstance(first, Portion)
    again = read_term("headroom", str(first), "--headroom")
    assert str(again) == str(first)
    assert re.fullmatch(PORTION, str(first))
