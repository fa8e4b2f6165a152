"""Text from outside, as a value to be read: names, reasons and errors that guests, hypervisors and operators chose."""

import unicodedata
from fnmatch import fnmatchcase
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, formats (among them those that turn the direction of writing), halves of pairs, separators of lines
(Unicode Standard Annex 44; what they can do to a reader: Unicode Technical Report 36)."""


def visible(text: str) -> str:
    """The text on one line, with each character that a terminal would obey, or not show, as its escape: ESC becomes its
    number in hexadecimal behind a backslash and an x.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(one) if unicodedata.category(one) in _HIDDEN else one for one in text)


def _escape(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:  # noqa: PLR2004 the length of the escape
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004 as above


def is_called(name: str, pattern: str) -> bool:
    """Whether a name is of a pattern, in which `*` is any letters and `?` one. Brackets are letters: names have them."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))
