"""`ballonet run`, `check-config` and `version`."""

import os
import signal
import sys

from ballonet.cli.console import ConfigPath, Json, err, for_our_own, out, write_json
from ballonet.control.token import read_token
from ballonet.daemon.config import PATH, read_config
from ballonet.model.settings import SettingsError


def run(config: ConfigPath = PATH) -> None:
    """Watch and balloon the guests of this host until SIGTERM or Ctrl-C. Guests stay as they are then.

    The default mode is `observe`: nothing is touched. Decisions are JSON lines on stderr. SIGHUP reads the configuration anew; a
    wrong one is told, and the last good one stays.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload must not end a daemon that starts; it answers once it can
    # As a process of its own, in place of this one: the commands' libraries are a seventh of the daemon's memory.
    words = [sys.executable, "-P", "-m", "ballonet.daemon", str(config)]
    os.execve(sys.executable, words, for_our_own())  # noqa: S606 no shell is wanted


def check_config(config: ConfigPath = PATH, json: Json = False) -> None:
    """Check a configuration, with the files of its conf.d, and say what it comes to. Exits 2 when it is wrong."""
    found = read_config(config)
    found.source.hypervisor(found.around)  # whether what it needs is installed, and its secrets can be read; nothing is opened
    if found.control.listen:
        _warn_of_token(found.control.token_file)
    if json:
        write_json(found)
        return
    out.print(f"{config}: good. Mode {found.loop.mode.value}, policy {found.loop.policy}, guests of {found.source.guests_of()}")
    named = ", ".join(sorted(found.guest))
    out.print(f"settings for: {named}" if named else "no guest has settings of its own")


def _warn_of_token(path: str) -> None:
    """The daemon runs all the same, without this door."""
    try:
        read_token(path)
    except SettingsError as error:
        err.print(f"warning: no client can come over TCP: {error}")
