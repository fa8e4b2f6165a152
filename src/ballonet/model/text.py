"""Text from outside, as a value to be read: names, reasons and errors that guests, hypervisors and operators chose."""

import shlex
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


def typed(verb: str, name: str = "", options: str = "") -> str:
    """A command of ballonet's as an operator can type or paste it, whatever a guest calls itself: a name is one word of the shell
    and no option, and none of its characters does anything there (bash, zsh: ANSI-C quoting).

    Args:
        verb: the command.
        name: of a guest; empty = it names none.
        options: what else it takes.
    """
    word = _word(name) if name else ""
    parts = (options, "--", word) if name.startswith("-") else (word, options)
    return " ".join(["ballonet", verb, *filter(None, parts)])


def _word(name: str) -> str:
    if not any(unicodedata.category(one) in _HIDDEN for one in name):
        return shlex.quote(name)
    spelled = (
        "".join(f"\\x{byte:02x}" for byte in one.encode(errors="surrogatepass"))
        if unicodedata.category(one) in _HIDDEN
        else f"\\{one}"
        if one in "\\'"
        else one
        for one in name
    )
    return f"$'{''.join(spelled)}'"


def _escape(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:  # noqa: PLR2004 the length of the escape
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004 as above


def is_called(name: str, pattern: str) -> bool:
    """Whether a name is of a pattern, in which `*` is any letters and `?` one. Brackets are letters: names have them."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))
