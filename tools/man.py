"""Man pages, from the commands themselves and from the reference: `tools/man.py FOLDER` writes ballonet.1 and ballonet.toml.5.

Our own: the generators that there are read click's commands, and Typer brings its own copy of click, whose options they miss.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import ballonet
from ballonet.cli.app import app

ROOT = Path(__file__).parent.parent
FILES = """.TP
.I /etc/ballonet/ballonet.toml
The configuration; ballonet.toml(5).
.TP
.I /run/ballonet/control.sock
Where the daemon listens; root and the group ballonet may use it.
.TP
.I /var/lib/ballonet
Orders that outlive restarts, and history.
"""
CODES = """.TP
0
Done.
.TP
1
It ran, and what must hold did not; or the daemon said no, or none runs.
.TP
2
Wrong usage or configuration.
.TP
3
This machine cannot do it.
"""


def text(words: str) -> str:
    """Plain words as roff."""
    lines = (line.strip().replace("\\", "\\e").replace("-", "\\-") for line in words.replace("`", "").strip().splitlines())
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line or ".PP" for line in lines)


def option(param: Any) -> str:
    """One option or argument."""
    if param.param_type_name == "argument":
        return f".TP\n.I {text(param.metavar or param.name.upper())}\n{text(param.help or '')}"
    names = ", ".join(f"\\fB{text(name)}\\fR" for name in (*param.opts, *param.secondary_opts))
    metavar = "" if param.is_flag else f" \\fI{text(param.name.upper())}\\fR"
    return f".TP\n{names}{metavar}\n{text(param.help or '')}"


def commands(group: Any, name: str) -> Iterator[str]:
    """Every command below a group."""
    for word in group.list_commands(None):
        command = group.get_command(None, word)
        full = f"{name} {word}"
        if hasattr(command, "commands"):
            yield from commands(command, full)
            continue
        params = [param for param in command.params if param.name != "help"]
        yield "\n".join((f".SS {text(full)}", text(command.help or ""), *map(option, params)))


def page(name: str, section: int, title: str, *parts: str) -> str:
    """A page with its heading."""
    head = f'.TH {name.upper()} {section} "" "ballonet {ballonet.__version__}"\n.SH NAME\n{text(name)} \\- {text(title)}'
    return "\n".join((head, *parts)) + "\n"


def program() -> str:
    """ballonet(1)."""
    group: Any = typer.main.get_command(app)
    return page(
        "ballonet",
        1,
        "manages the memory of virtual machines by ballooning",
        ".SH SYNOPSIS\n.B ballonet\n.I COMMAND\n[\\fIOPTIONS\\fR]",
        ".SH DESCRIPTION\n" + text(group.help or ""),
        ".SH COMMANDS",
        *commands(group, "ballonet"),
        ".SH EXIT STATUS\n" + CODES,
        ".SH FILES\n" + FILES,
        ".SH SEE ALSO\n.BR ballonet.toml (5),\n.BR virsh (1)",
    )


def configuration() -> str:
    """ballonet.toml(5), from docs/reference/config.md: its table as a list, its examples as they stand."""
    lines = (ROOT / "docs/reference/config.md").read_text().splitlines()
    parts = [".SH DESCRIPTION"]
    for line in lines[1:]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[0] != "key" and not cells[0].startswith("--"):
                parts.append(f".TP\n.B {text(cells[0])}\nDefault: {text(cells[1])}. {text(cells[2])}")
        elif line.startswith("    "):
            parts.append(f".RS\n.nf\n{text(line[4:])}\n.fi\n.RE")
        elif line.startswith("#"):
            parts.append(f".SH {text(line.lstrip('# ')).upper()}")
        else:
            parts.append(text(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)) if line else ".PP")
    return page("ballonet.toml", 5, "configuration of ballonet", *parts)


def main() -> None:
    """Writes both."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ballonet.1").write_text(program())
    (folder / "ballonet.toml.5").write_text(configuration())


if __name__ == "__main__":
    main()
