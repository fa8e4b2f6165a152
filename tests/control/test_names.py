"""Names and reasons are text: no markup, no escapes to the terminal, no paths, whatever face shows them."""

import io
import string
import subprocess
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from textual.widgets import DataTable, Static

from ballonet.cli.console import Plain
from ballonet.control.client import Client
from ballonet.model.text import visible
from ballonet.tui.top import Top
from daemons import PROGRAM, Daemon, peers, until

HOSTILE = "[/x]\x1b[3m\u202e[b]"
"""Markup that closes nothing, an escape, letters from right to left, an emoji's name, markup."""


def is_harmless(text: str) -> bool:
    return not any(unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for one in text.replace("\n", ""))


@given(st.text(st.characters(exclude_categories=[]), max_size=40))
def test_every_text_becomes_one_harmless_line(text: str) -> None:
    """And what is harmless stays as it is."""
    told = visible(text)
    assert is_harmless(told)
    assert "\n" not in told
    assert told == text or not is_harmless(text) or "\n" in text


@given(st.text(string.printable + "[]/\x1b\u202e\u2028:", max_size=30))
def test_a_console_shows_each_string_as_it_is(text: str) -> None:
    """As a line, as a cell and as a heading; nothing is read as markup, nothing is lost."""
    file = io.StringIO()
    console = Plain(file=file, markup=False, emoji=False, highlight=False, width=400)
    table = Table(text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    told = file.getvalue()
    assert is_harmless(told)
    assert told.count(visible(text).strip()) >= 3


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("names")
    with peers(folder, 2, prefix=HOSTILE):
        one = Daemon(folder)
        one.start()
        try:
            one.until_up(2)
            yield one
        finally:
            one.process.kill() if one.process else None
            one.process.wait() if one.process else None


@pytest.mark.parametrize("words", [("status",), ("doctor",), ("history",), ("explain", f"{HOSTILE}-0")])
def test_no_face_reads_a_name_as_anything_but_a_name(daemon: Daemon, words: tuple[str, ...]) -> None:
    """A guest with such a name is shown, by it, and all others beside it."""
    until(lambda: daemon.tries("history", "--json") != "[]\n")
    told = daemon.cli(*words)
    assert is_harmless(told)
    if words[0] != "doctor":
        assert "[/x]" in told.replace("\n", "")


def test_reasons_are_shown_as_they_were_given(daemon: Daemon) -> None:
    """A hold's reason as much as a name."""
    why = "change [/etc/fstab] \x1b]0;x\x07 [backup]"
    for words in (("hold", f"{HOSTILE}-0", "--why", why), ("status",), ("release", f"{HOSTILE}-0")):
        assert is_harmless(daemon.cli(*words))
    daemon.cli("hold", "--why", why)
    until(lambda: "[/etc/fstab]" in " ".join(daemon.tries("status").split()))
    assert "[backup]" in " ".join(daemon.cli("mode").split())
    daemon.cli("release")


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "../..", "%2e%2e", "..%2Fhold", "a?b", "a#b", "a b", "hold", "/", "a\nb", "a\n"]
)
def test_a_name_is_never_a_path(daemon: Daemon, name: str) -> None:
    """Nothing else is held in the place of what is not there, the whole host least of all."""
    for command in ("release", "explain"):
        assert "no guest" in daemon.cli(command, name, code=1)
    code = 1 if set(name) == {"."} else 0  # what can be no VM's name is refused; others may come
    for words in (("hold", name), ("set", name, "--shares", "7")):
        done = subprocess.run([PROGRAM, *words, "-c", daemon.config], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert f"no guest {name!r}" in " ".join((done.stdout + done.stderr).split())
    status = daemon.status()
    assert not status.host.hold
    assert not any(guest.leave_alone.startswith("on hold") for guest in status.guests)
    if not code:
        daemon.cli("release", name)
        daemon.cli("set", name, "--shares", "default")


async def test_top_reads_a_name_as_nothing_but_a_name(daemon: Daemon) -> None:
    """In the table, below it, and in what it asks before a hold."""
    client = Client(daemon.folder / "control.sock")
    app = Top(client)
    async with app.run_test(size=(140, 30)) as pilot:
        table = app.query_one(DataTable)
        for _ in range(600):
            if table.row_count == 2:
                break
            await pilot.pause(0.1)
        await pilot.press("e", "H")
        await pilot.pause(0.5)
        shown = [str(cell) for row in range(table.row_count) for cell in table.get_row_at(row)]
        shown += [str(one.render()) for one in app.screen.query(Static)] + [str(one.render()) for one in app.query(Static)]
        assert any(visible(HOSTILE) in text for text in shown)
        assert all(is_harmless(text) for text in shown)
        await pilot.press("escape")
    client.close()
