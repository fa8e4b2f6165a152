"""The policies, one file each. A policy sets the wish and the reason of each seat that may move; the guard follows."""

from collections.abc import Callable, Mapping
from typing import Final

from ballonet.decide.policies import adaptive, ideal, static
from ballonet.decide.table import Table

Policy = Callable[[Table], None]

POLICIES: Final[Mapping[str, Policy]] = {
    "adaptive": adaptive.divide,
    "static": static.divide,
    "ideal": ideal.divide,
}
"""By the name in the configuration."""
