"""The program: `ballonet`, `python -m ballonet`."""

import signal
import sys


def main() -> None:
    """One command."""
    if sys.argv[1:2] == ["run"]:
        # Before anything takes time: a reload must not end a daemon that starts; it answers once it can.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from ballonet.cli.app import main as commands  # noqa: PLC0415 it takes a while to load

    commands()


if __name__ == "__main__":
    main()
