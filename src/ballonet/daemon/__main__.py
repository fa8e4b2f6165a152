"""`python -m ballonet.daemon CONFIG`: the daemon without the command line's libraries. `ballonet run` becomes this."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from ballonet.daemon.config import PATH
from ballonet.daemon.descriptors import raise_limit
from ballonet.daemon.run import run
from ballonet.model.settings import SettingsError

USAGE = 2


def main() -> None:
    """Runs until a signal ends it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can be answered: a reload must not end a daemon that starts
    os.umask(0o077)
    raise_limit()
    try:
        asyncio.run(run(Path(sys.argv[1]) if len(sys.argv) > 1 else PATH))
    except SettingsError as error:
        sys.stderr.write(f"ballonet: {error}\n")
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
