"""Reading what people write: TOML into checked values, with errors that name the file, the place and the remedy."""

import difflib
import re
import tomllib
from typing import Any, Final, TypeVar

import msgspec

from ballonet.model.units import SizeError, parse_size

T = TypeVar("T", bound=msgspec.Struct)


class SettingsError(Exception):
    """A file that people wrote cannot be used. Nothing of it was applied."""


_BOUND: Final = re.compile(r"Expected `\w+`( of length)? (<=|>=|<|>) (\S+)")
"""How msgspec names a bound."""
_BOUNDS: Final = {
    (">=", False): "be at least {}",
    ("<=", False): "be at most {}",
    (">", False): "be more than {}",
    ("<", False): "be less than {}",
    (">=", True): "have at least {} characters",
    ("<=", True): "have at most {} characters",
}
"""And how people do; of lengths it knows two."""

MOST_BYTES: Final = 1 << 60
"""An exbibyte: no host has more, and sums of many stay exact."""


class Size(int):
    """A size in bytes, written as text: `16GiB`."""


class Portion:
    """An amount of a guest's memory, written as a size, `1GiB`, or as a share of all that the guest has, `10%`."""

    __slots__ = ("bytes", "share")

    def __init__(self, size: int = 0, share: float = 0.0) -> None:
        """Args:
        size: in bytes.
        share: 0 to 1; the larger of the two counts.
        """
        self.bytes, self.share = int(size), share

    def of(self, size_bytes: int) -> int:
        """That in bytes, for a guest of this size."""
        return max(self.bytes, int(self.share * size_bytes))

    def __str__(self) -> str:
        """As `_decode_portion` reads it."""
        return f"{self.share * 100:.8f}".rstrip("0").rstrip(".") + "%" if self.share else f"{self.bytes}B"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Portion) and (self.bytes, self.share) == (other.bytes, other.share)

    def __hash__(self) -> int:
        return hash((self.bytes, self.share))


def decode_toml(text: str, kind: type[T], origin: str) -> T:
    """The checked value of a TOML text.

    Args:
        text: TOML.
        kind: what it must be; unknown keys are refused when the type says so.
        origin: the file, for errors.

    Raises:
        SettingsError: not TOML (with line and column), an unknown key (with what may be meant), or a wrong value
            (with its place).
    """
    return convert(parse_toml(text, origin), kind, origin)


def parse_toml(text: str, origin: str) -> dict[str, Any]:
    """What a TOML text says, not checked yet. Raises SettingsError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{origin}: {error}; see https://toml.io for the syntax") from error


def convert(data: object, kind: type[T], origin: str) -> T:
    """The checked value of what was read from elsewhere, as `decode_toml`. Raises SettingsError."""
    try:
        return msgspec.convert(data, kind, dec_hook=from_text)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{origin}: {explain(_with_name(str(error), data, kind), kind)}") from error


def _with_name(text: str, data: object, kind: type[T]) -> str:
    """The message of msgspec with the name of the table of many that is wrong: it says `guest[...]` of all of them."""
    match = re.search(r" - at `\$\.(\w+)(\[\.\.\.\])", text)
    if match is None or not isinstance(data, dict) or not isinstance(tables := data.get(match[1]), dict):
        return text
    for name, table in tables.items():
        try:
            msgspec.convert({**data, match[1]: {name: table}}, kind, dec_hook=from_text)
        except msgspec.ValidationError:
            return f"{text[: match.start(2)]}.{name}{text[match.end(2) :]}"
    return text


def from_text(kind: type, value: Any) -> Any:
    """What msgspec asks of types that it does not know: sizes and portions, written as text."""
    if kind is Portion:
        return _decode_portion(value)
    if kind is not Size:
        raise NotImplementedError
    return _decode_size(value)


def to_text(value: Any) -> Any:
    """The way back."""
    if isinstance(value, Portion):
        return str(value)
    if isinstance(value, Size):
        return int(value)
    raise NotImplementedError(type(value).__name__)


def _decode_size(value: Any) -> Size:
    if (size := _size_of(value)) > MOST_BYTES:
        raise ValueError(f"{value!r} is more than any host has; at most {MOST_BYTES >> 40}TiB")
    return Size(size)


def _size_of(value: Any) -> int:
    if not isinstance(value, str):
        raise TypeError('write a size as text with its unit, like "16GiB"')
    try:
        return parse_size(value)
    except SizeError as error:
        raise ValueError(str(error)) from error


def _decode_portion(value: Any) -> Portion:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9]{1,2}(?:\.[0-9]+)?)\s*%\s*", value)):
        return Portion(share=float(match[1]) / 100)
    try:
        return Portion(min(MOST_BYTES, _size_of(value)))
    except (TypeError, ValueError) as error:
        raise ValueError(f'{error}; or a share of what the guest has, like "10%"') from error


def explain(text: str, kind: type[msgspec.Struct]) -> str:
    """The message of msgspec, place first, with a guess at what an unknown key should have been."""
    place, key = "", ""
    if match := re.search(r" - at `([^`]*)`$", text):
        place, text = match[1].removeprefix("$").removeprefix("."), text[: match.start()]
    if match := re.search(r"unknown field `([^`]*)`", text):
        key = match[1]
        near = difflib.get_close_matches(key, sorted(_keys(kind)), n=1)
        text = f"unknown key `{key}`" + (f"; do you mean `{near[0]}`?" if near else "; remove it")
    if match := _BOUND.fullmatch(text):
        text = f"must {_BOUNDS[match[2], bool(match[1])].format(match[3].removesuffix('.0'))}"
    return f"at `{place}`: {text}" if place else text


def _keys(kind: Any, seen: frozenset[Any] = frozenset()) -> set[str]:
    """All keys that a structure and those inside it take."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind in seen:
            return set()
        fields = msgspec.structs.fields(kind)
        inner = [_keys(field.type, seen | {kind}) for field in fields]
        return {field.encode_name for field in fields}.union(*inner)
    return set().union(*(_keys(part, seen) for part in getattr(kind, "__args__", ())))
