"""The program: `ballonet`, `python -m ballonet`."""

import signal
import sys

import ballonet


def main() -> None:
    """One command."""
    if sys.argv[1:2] == ["run"]:
        # Before anything takes time: a reload must not end a daemon that starts; it answers once it can.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.argv[1:] == ["version"]:
        sys.stdout.write(f"{ballonet.__version__}\n")  # scripts ask for it often; the commands take half a second to load
        return
    from ballonet.cli.app import main as commands  # noqa: PLC0415 it takes a while to load

    commands()


if __name__ == "__main__":
    main()
