"""JSON from outside: whatever a decoder raises becomes one error of ours, so that nobody's line ends what reads it."""

from typing import Any, Final, TypeVar

import msgspec

from ballonet.model.settings import from_text, to_text

T = TypeVar("T")


def decode(data: "bytes | str | msgspec.Raw", form: type[T]) -> T:
    """The value in a JSON text of our own. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=form, dec_hook=from_text)


encode: Final = msgspec.json.Encoder(enc_hook=to_text).encode
"""The JSON of a value."""


class UndecodableError(ValueError):
    """A text that is not JSON, or not of the form that was asked for. Nothing is known of what it meant."""


def decoded(data: "bytes | msgspec.Raw", form: type[T]) -> T:
    """The value in a JSON text.

    Args:
        data: JSON, from any sender.
        form: what it must be, as msgspec takes it.

    Raises:
        UndecodableError: bytes that are no UTF-8, no JSON, brackets nested beyond what a decoder follows, or another form.
    """
    try:
        return decode(data, form)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as error:
        raise UndecodableError(str(error) or type(error).__name__) from error


def converted(value: Any, form: type[T]) -> T:
    """A decoded value in another form. Raises UndecodableError."""
    try:
        return msgspec.convert(value, form, dec_hook=from_text)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise UndecodableError(str(error) or type(error).__name__) from error
