"""Options of a command for what an operator may say of a guest: one for each field of `Terms`."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from ballonet.model.terms import FIELDS, describe, name_of

C = TypeVar("C", bound=Callable[..., Any])


def option_of(field: str) -> str:
    """How a field is called on the command line."""
    return f"--{name_of(field)}"


def with_terms(command: C) -> C:
    """Gives a command that takes `**terms` an option of text for each field, where typer looks for options: its signature."""
    signature = inspect.signature(command)
    guest, *rest = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            field,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None,
            annotation=Annotated[str | None, typer.Option(option_of(field), help=describe(field))],
        )
        for field in FIELDS
    ]
    parameters = [guest, *options, *rest]
    hints = {one.name: one.annotation for one in parameters} | {"return": signature.return_annotation}
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    return command
