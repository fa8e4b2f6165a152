"""What an operator may say of a guest: one type, wherever it is said.

The configuration, a domain's metadata, Proxmox VE's tags, orders, scenarios, the API and the options of `ballonet set` all take
their keys from the fields of `Terms`, and all are joined by one rule: what the first source leaves open, the next one says.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar, cast, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ballonet.model.settings import MOST_BYTES, Portion, SettingsError, Size, convert
from ballonet.model.snapshot import NORMAL_SHARES, Mode
from ballonet.model.units import format_size

MOST_SHARES: Final = 50000
LONGEST_NUMBER: Final = 20
"""Digits; Python refuses to read a number of thousands of them."""
_SIZE: Final = "_bytes"
"""How the names of sizes end, where they are numbers of bytes and not text with a unit."""

Bytes = Annotated[int, Meta(ge=0, le=MOST_BYTES)]
Shares = Annotated[int, Meta(ge=1, le=MOST_SHARES)]


class Terms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The operator's word on one guest. None = nothing is said."""

    floor_bytes: Annotated[Bytes | None, Meta(description='The balloon leaves the guest at least this: "2GiB".')] = None
    ceiling_bytes: Annotated[Bytes | None, Meta(description="The guest gets at most this.")] = None
    guaranteed_bytes: Annotated[Bytes | None, Meta(description="The guest gets this first when not everything fits.")] = None
    shares: Annotated[Shares | None, Meta(description="Weight when memory is divided, 1 to 50000; 1000 is normal.")] = None
    headroom: Annotated[Portion | None, Meta(description='The guest has this free at any time: "1GiB" or "10%".')] = None
    cache: Annotated[Portion | None, Meta(description='Page cache that the guest lives on, and needs: "4GiB" or "20%".')] = None
    mode: Annotated[Mode | None, Meta(description="observe, advise or act; never more than the host's.")] = None

    def over(self, other: "Terms") -> "Terms":
        """These terms, and what `other` says where they say nothing. Sizes are plain integers then, whatever they came from."""
        both = {name: _first(getattr(self, name), getattr(other, name)) for name in FIELDS}
        return Terms(**both)

    def said(self) -> dict[str, Any]:
        """By name, what is said."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}

    def portions(self, ceiling_bytes: int) -> dict[str, int]:
        """Of a guest of this size, what is said as a size or a share, in bytes, by the names of `Guest`; 0 = nothing is said."""
        return {f"{name}{_SIZE}": portion.of(ceiling_bytes) if (portion := getattr(self, name)) else 0 for name in PORTIONS}

    def scaled(self, scale: int) -> "Terms":
        """The same for a guest that is `scale` times smaller."""
        sizes = {name: value // scale for name, value in self.said().items() if name.endswith(_SIZE)}
        for name in PORTIONS:
            if (portion := getattr(self, name)) is not None:
                sizes[name] = Portion(portion.bytes // scale, portion.share)
        return Terms(**sizes).over(self)


FIELDS: Final = Terms.__struct_fields__
PORTIONS: Final = tuple(one.name for one in msgspec.structs.fields(Terms) if Portion in get_args(get_args(one.type)[0]))
"""Fields that are a size or a share."""
UNSAID: Final = Terms()
NORMAL: Final = Terms(guaranteed_bytes=0, shares=NORMAL_SHARES)
"""What counts for a guest of which nobody says anything; floors go by its size (R6), and modes by the host's."""


class GuestSettings(Struct, frozen=True):
    """What counts for one guest at a tick."""

    terms: Terms = NORMAL
    hold: str = ""
    """Why nothing of it is to be moved, in words; empty = it may be."""
    deflates: bool = False
    """Whether a guest on hold gets all of its memory back first."""


T = TypeVar("T", bound=Terms)


def name_of(field: str) -> str:
    """What people call a field: without its unit."""
    return field.removesuffix(_SIZE)


@functools.cache
def _field(name: str) -> msgspec.structs.FieldInfo:
    return next(one for one in msgspec.structs.fields(Terms) if one.name == name)


def _metas(field: msgspec.structs.FieldInfo) -> list[Meta]:
    return [one for one in getattr(field.type, "__metadata__", ()) if isinstance(one, Meta)]


def written(**names: str) -> Callable[[type[T]], type[T]]:
    """Makes a kind of Terms one that people write: sizes are text with a unit, and their names say no unit.

    Args:
        names: by the name of a field of its own, or of one of `Terms` without its unit, another name that the source has for it.
    """

    def made(kind: type[T]) -> type[T]:
        fields = [
            (one.name, Annotated[Size | None, *_metas(one)] if one.name.endswith(_SIZE) else one.type, one.default)
            for one in msgspec.structs.fields(kind)
            if one.name in FIELDS or one.name in names
        ]
        spelled = msgspec.defstruct(
            kind.__name__,
            fields,
            bases=(kind,),
            module=kind.__module__,
            rename=lambda name: names.get(plain := name_of(name), plain),
            frozen=True,
            kw_only=True,
            forbid_unknown_fields=True,
        )
        spelled.__doc__ = kind.__doc__
        return cast("type[T]", spelled)

    return made


@written()
class WrittenTerms(Terms, frozen=True, kw_only=True):
    """`[guest.NAME]`; `[guest.default]` for all that are not named."""


Patch: Final[type[Struct]] = msgspec.defstruct(
    "GuestOrder",
    [(one.name, one.type | UnsetType, UNSET) for one in msgspec.structs.fields(Terms)],
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    namespace={
        "__doc__": "What to set for a guest until it is set otherwise. null goes back to the configuration; "
        "what is left out stays as it is."
    },
)
"""What the API takes: three things can be said of each field. `patched` gives what was."""


def patched(order: Struct) -> dict[str, Any]:
    """What an order names: a value, or None where the configuration is to count again."""
    return {name: value for name, value in msgspec.structs.asdict(order).items() if value is not UNSET}


def describe(field: str) -> str:
    """What a field says, in a sentence."""
    return next(str(one.description) for one in _metas(_field(field)) if one.description)


def read_term(field: str, text: str, origin: str) -> Any:
    """The value of one field that was written as text. Raises SettingsError."""
    name = name_of(field)
    is_number = text.isascii() and text.isdecimal() and len(text) < LONGEST_NUMBER
    value: Any = int(text) if field == "shares" and is_number else text
    try:
        return getattr(convert({name: value}, WrittenTerms, origin).over(UNSAID), field)
    except SettingsError as error:
        reason = str(error).removeprefix(f"{origin}: at `{name}`: ")
        value_too = "" if repr(text) in reason else f"{text!r}: "
        raise SettingsError(f"{origin}: {value_too}{reason}. {describe(field)}") from error


def in_words(field: str, value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, Mode):
        return value.value
    if isinstance(value, Portion) and not value.share:
        return format_size(value.bytes)
    return format_size(value) if field.endswith(_SIZE) else str(value)


def sentence(said: Mapping[str, Any], *, unsaid: str = "as configured") -> str:
    """Several of them: `floor 2 GiB, shares as configured`."""
    return ", ".join(f"{name_of(one)} {unsaid if value is None else in_words(one, value)}" for one, value in said.items())


def _first(one: Any, other: Any) -> Any:
    value = other if one is None else one
    return int(value) if isinstance(value, Size) else value
