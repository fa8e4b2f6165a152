"""What all commands share: where data and messages go, exit codes, and the options that mean the same everywhere."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.text import Text

import ballonet
from ballonet.model.decode import encode
from ballonet.model.text import visible

UNMET, USAGE, UNAVAILABLE = 1, 2, 3
"""Exit codes: it ran and what must hold did not; wrong usage or settings; this machine cannot do it."""

OLD_S: Final = 70.0
"""Figures older than this are not of now: the loop looks each second, and at least each minute."""
FILE_COLUMNS = 140
"""Of tables that go to a file or a pipe, where no terminal says how wide it is."""


class Plain(Console):
    """Shows strings as they are, one line each: no markup, and no character that the terminal would obey. Names, reasons and
    errors come from outside. What is ours and has several lines is a `Text`.
    """

    def render_str(self, text: str, **how: Any) -> Text:
        """Whatever becomes of a string in rich, comes by here: cells of tables and lines."""
        return super().render_str(visible(text), **how)

    def print(self, *what: Any, **how: Any) -> None:
        """Sentences are broken for a terminal only: in a file or a pipe one is a line, to be searched for."""
        if not self.is_terminal and all(isinstance(one, str) for one in what):
            how.setdefault("soft_wrap", True)
        super().print(*what, **how)


err = Plain(stderr=True, highlight=False, markup=False, emoji=False)
out = Plain(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else FILE_COLUMNS)

ConfigPath = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="BALLONET_CONFIG", help="TOML file: man ballonet.toml."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of a table.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the JSON to a file too.")]
Plot = Annotated[Path | None, typer.Option(help="Write a chart here (.png, .svg).")]
HostShare = Annotated[float | None, typer.Option(help="Host memory as a share of what guests are promised.", min=0.05, max=2)]
Seed = Annotated[int, typer.Option(help="Of the scenario's variations. Simulated: same seed, same result, byte for byte.")]


def for_our_own() -> dict[str, str]:
    """The environment for a Python of ours: a package keeps this program, and what it needs, where none looks by itself."""
    home = str(Path(ballonet.__file__).parent.parent)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([home, *(one for one in sys.path if one.startswith(f"{home}/"))]))
    }


def write_json(value: object) -> None:
    """To stdout, for programs."""
    sys.stdout.write(msgspec.json.format(encode(value), indent=1).decode() + "\n")


def heading(text: str) -> Text:
    """Of a column, over as many lines as it has."""
    return Text(text)


def tell(text: str) -> None:
    """An error, each of its lines for itself, on stderr."""
    for line in text.splitlines() or [""]:
        err.print(line)


def tell_age(at: float, most_s: float = OLD_S) -> None:
    """Says when figures are not of now, and why that may be, and exits 1 then.

    Args:
        at: of the figures, seconds since 1970.
        most_s: the age that needs no word.
    """
    if (age_s := time.time() - at) > most_s:
        err.print(f"these figures are {age_s:.0f} s old: the daemon has not looked since; its log and `ballonet doctor` say why")
        raise typer.Exit(UNMET)
