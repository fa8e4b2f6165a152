"""The commands. Data goes to stdout, logs and progress to stderr.

Exit codes: 0 done; 1 it ran and what must hold did not; 2 wrong usage or settings; 3 this machine cannot do it.
"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

import ballonet
from ballonet.cli import bench, lab
from ballonet.cli.console import UNAVAILABLE, UNMET, USAGE, err, out
from ballonet.cli.decide import decide
from ballonet.cli.simulate import simulate
from ballonet.cli.status import status
from ballonet.daemon.config import read_config
from ballonet.daemon.run import run as run_daemon
from ballonet.lab.errors import LabError, LabUnavailableError
from ballonet.model.settings import SettingsError
from ballonet.report.errors import ReportError

app = typer.Typer(
    help="Manages the memory of virtual machines by ballooning, so that a host runs more of them than it has memory for.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(lab.lab, name="lab")
app.add_typer(bench.bench, name="bench")
app.command()(lab.demo)
app.command()(simulate)
app.command()(decide)
app.command()(status)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(ballonet.__version__)


@app.command()
def run(config: Annotated[Path, typer.Option("--config", "-c", help="TOML file; docs/reference/config.md.")]) -> None:
    """Watch and balloon the guests of this host until SIGTERM or Ctrl-C. Guests stay as they are then.

    The default mode is `observe`: nothing is touched. Decisions are JSON lines on stderr.
    """
    asyncio.run(run_daemon(read_config(config)))


def main() -> None:
    """The program. An operator's mistake is one line, never a trace."""
    try:
        app()
    except SettingsError as error:
        err.print(f"ballonet: {error}", markup=False)
        sys.exit(USAGE)
    except LabUnavailableError as error:
        err.print(f"ballonet: {error}", markup=False)
        sys.exit(UNAVAILABLE)
    except (LabError, ReportError) as error:
        err.print(f"ballonet: {error}", markup=False)
        sys.exit(UNMET)
    except KeyboardInterrupt:
        sys.exit(130)
