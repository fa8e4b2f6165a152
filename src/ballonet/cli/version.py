"""`ballonet version`."""

import ballonet
from ballonet.cli.console import out


def version() -> None:
    """Print the version."""
    out.print(ballonet.__version__)
