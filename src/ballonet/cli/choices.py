"""What commands have in common that run policies: which, and with which rules. Not in console.py: it takes a while to load."""

from collections.abc import Sequence
from typing import Annotated

import typer

from ballonet.decide.policies import POLICIES
from ballonet.lab.run import arm
from ballonet.model.limits import RULES, Limits
from ballonet.model.settings import SettingsError

PolicyNames = Annotated[list[str] | None, typer.Option("--policy", help=f"{', '.join(POLICIES)}; repeat to compare.")]
Without = Annotated[
    list[str] | None,
    typer.Option(help=f"Switch a safety off ({RULES[0]} to {RULES[-1]}) to see what it is for; docs/reference/rules.md."),
]
Unguarded = Annotated[bool, typer.Option("--unguarded", help="Without floors and budget on top: as a peer alone would decide.")]


def checked_policies(names: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """The names, when all are policies, or of `more`. Raises SettingsError."""
    if wrong := sorted(set(names) - set(POLICIES) - set(more)):
        raise SettingsError(f"no policy {wrong[0]!r}; there are {', '.join((*POLICIES, *more))}")
    return list(names)


def checked_arms(names: Sequence[str]) -> list[str]:
    """The names of arms of the lab, when all are such. Raises SettingsError."""
    return [name for name in names if arm(name)]


def limits(without: Sequence[str] | None = None, *, unguarded: bool = False) -> Limits:
    """Limits with these rules switched off. Raises SettingsError."""
    if unknown := sorted(set(without or ()) - set(RULES)):
        raise SettingsError(f"no rule {unknown[0]!r}; there are {RULES[0]} to {RULES[-1]}, see docs/reference/rules.md")
    return Limits(without=frozenset(without or ()) | (frozenset({"R4", "R6"}) if unguarded else frozenset()))
