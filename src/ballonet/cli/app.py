"""The commands. Data goes to stdout, logs and progress to stderr.

Exit codes: 0 done; 1 it ran and what must hold did not; 2 wrong usage or settings; 3 this machine cannot do it.

A command's module is loaded when it is called: together they take a second, and `status` is typed often.
"""

import contextlib
import os
import sys
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

from ballonet import __version__
from ballonet.cli.console import UNAVAILABLE, UNMET, USAGE, out, tell
from ballonet.lab.errors import LabError, LabUnavailableError
from ballonet.model.settings import SettingsError
from ballonet.report.errors import ReportError
from ballonet.sense.errors import SenseError
from ballonet.status.errors import ControlError


class Command(NamedTuple):
    """Where one is."""

    panel: str
    """Of the help."""
    module: str
    function: str


WATCH, UNDERSTAND, STEER, SET_UP, TRY = "Watch", "Understand", "Steer", "Set up", "Try and measure"
COMMANDS: Final = {
    "status": Command(WATCH, "status", "status"),
    "top": Command(WATCH, "daemon", "top"),
    "doctor": Command(WATCH, "doctor", "doctor"),
    "history": Command(WATCH, "daemon", "history"),
    "explain": Command(UNDERSTAND, "daemon", "explain"),
    "replay": Command(UNDERSTAND, "replay", "replay_history"),
    "mode": Command(STEER, "daemon", "mode"),
    "set": Command(STEER, "daemon", "set_guest"),
    "hold": Command(STEER, "daemon", "hold"),
    "release": Command(STEER, "daemon", "release"),
    "orders": Command(STEER, "daemon", "orders"),
    "room": Command(STEER, "room", "room"),
    "deflate": Command(STEER, "deflate", "deflate"),
    "restore": Command(STEER, "restore", "restore"),
    "hook": Command(SET_UP, "hook", "hook"),
    "init": Command(SET_UP, "init", "init"),
    "check-config": Command(SET_UP, "run", "check_config"),
    "run": Command(SET_UP, "run", "run"),
    "version": Command(SET_UP, "version", "version"),
    "try": Command(TRY, "trial", "trial"),
    "demo": Command(TRY, "lab", "demo"),
    "simulate": Command(TRY, "simulate", "simulate"),
    "decide": Command(TRY, "decide", "decide"),
    "lab": Command(TRY, "lab", "lab"),
    "bench": Command(TRY, "bench", "bench"),
}


class Commands(TyperGroup):
    """Those, each loaded when it is asked for."""

    def list_commands(self, _ctx: Any) -> list[str]:
        """As click says: in the order of the table."""
        return list(COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        """As click says."""
        if cmd_name not in self.commands and cmd_name in COMMANDS:
            self.commands[cmd_name] = _loaded(cmd_name)
        return self.commands.get(cmd_name)


def _loaded(name: str) -> Any:
    one = COMMANDS[name]
    found = getattr(import_module(f"ballonet.cli.{one.module}"), one.function)
    if isinstance(found, typer.Typer):  # with commands of its own
        group = get_command(found)
        group.name, group.rich_help_panel = name, one.panel  # type: ignore[attr-defined]  # Typer's own groups have one
        return group
    alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    alone.command(name, rich_help_panel=one.panel)(found)
    return get_command(alone)


app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def ballonet(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Manages the memory of virtual machines by ballooning, so that a host runs more of them than it has memory for."""
    if version:
        out.print(__version__)
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> None:
    """The program. An operator's mistake is one line, never a trace."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who read has enough; nor is it flushed again
        sys.exit(UNMET)
    except UnicodeError:
        tell("ballonet: a word of the command is no text in UTF-8: a guest whose name is bytes is named by its UUID")
        sys.exit(USAGE)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        where = f"{error.filename}: " if error.filename else ""
        tell(f"ballonet: {where}{error.strerror or error}; nothing more was written")
        sys.exit(UNMET)
    except SettingsError as error:
        tell(f"ballonet: {error}")
        sys.exit(USAGE)
    except (ControlError, SenseError) as error:
        tell(f"ballonet: {error}")
        sys.exit(UNMET)
    except LabUnavailableError as error:
        tell(f"ballonet: {error}")
        sys.exit(UNAVAILABLE)
    except (LabError, ReportError) as error:
        tell(f"ballonet: {error}")
        sys.exit(UNMET)
    except KeyboardInterrupt:
        sys.exit(130)
