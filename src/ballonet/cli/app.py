"""The commands. Data goes to stdout, logs and progress to stderr.

Exit codes: 0 done; 1 it ran and what must hold did not; 2 wrong usage or settings; 3 this machine cannot do it.
"""

import os
import signal
import sys

import typer

import ballonet
from ballonet.cli import bench, daemon, lab
from ballonet.cli.console import UNAVAILABLE, UNMET, USAGE, ConfigPath, Json, for_our_own, out, tell, write_json
from ballonet.cli.decide import decide
from ballonet.cli.deflate import deflate
from ballonet.cli.doctor import doctor
from ballonet.cli.init import init
from ballonet.cli.replay import replay_history
from ballonet.cli.restore import restore
from ballonet.cli.simulate import simulate
from ballonet.cli.status import status
from ballonet.cli.trial import trial
from ballonet.control.messages import ControlError
from ballonet.daemon.config import PATH, Config, read_config
from ballonet.lab.errors import LabError, LabUnavailableError
from ballonet.model.settings import SettingsError
from ballonet.report.errors import ReportError
from ballonet.sense.host import SenseError

app = typer.Typer(
    help="Manages the memory of virtual machines by ballooning, so that a host runs more of them than it has memory for.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(lab.lab, name="lab")
app.add_typer(bench.bench, name="bench")
app.command()(lab.demo)
app.command("try")(trial)
app.command()(init)
app.command()(simulate)
app.command()(decide)
app.command()(status)
app.command()(doctor)
app.command()(daemon.top)
app.command()(daemon.explain)
app.command("set")(daemon.set_guest)
app.command()(daemon.hold)
app.command()(daemon.release)
app.command()(deflate)
app.command()(daemon.mode)
app.command()(daemon.history)
app.command("replay")(replay_history)
app.command()(restore)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(ballonet.__version__)


@app.command()
def run(config: ConfigPath = PATH) -> None:
    """Watch and balloon the guests of this host until SIGTERM or Ctrl-C. Guests stay as they are then.

    The default mode is `observe`: nothing is touched. Decisions are JSON lines on stderr. SIGHUP reads the configuration anew; a
    wrong one is told, and the last good one stays.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload must not end a daemon that starts; it answers once it can
    # As a process of its own, in place of this one: the commands' libraries are a seventh of the daemon's memory.
    words = [sys.executable, "-m", "ballonet.daemon", str(config)]
    os.execve(sys.executable, words, for_our_own())  # noqa: S606 no shell is wanted


@app.command()
def check_config(config: ConfigPath = PATH, json: Json = False) -> None:
    """Check a configuration, with the files of the conf.d beside it, and say what it comes to. Exits 2 when it is wrong."""
    found = read_config(config)
    if json:
        write_json(found)
        return
    out.print(f"{config}: good. Mode {found.loop.mode.value}, policy {found.loop.policy}, guests of {_whose(found)}")
    named = ", ".join(sorted(found.guest))
    out.print(f"settings for: {named}" if named else "no guest has settings of its own")


def _whose(found: Config) -> str:
    """Whose guests a configuration means."""
    if found.libvirt is not None:
        return found.libvirt.uri
    if found.vsphere is not None:
        return found.vsphere.server
    if found.hyperv is not None:
        return found.hyperv.server
    return "this Proxmox VE node" if found.proxmox is not None else ", ".join(found.qemu.sockets)


def main() -> None:
    """The program. An operator's mistake is one line, never a trace."""
    try:
        app()
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
