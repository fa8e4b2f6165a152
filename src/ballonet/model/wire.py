"""Reading a `ballonet.snapshot/1` file: checked, with errors that name the place and the remedy."""

from collections import Counter
from typing import Any

import msgspec
from msgspec import Struct

from ballonet.model.settings import SettingsError, explain
from ballonet.model.snapshot import SNAPSHOT_SCHEMA, Snapshot


def read_snapshot(data: bytes, origin: str) -> Snapshot:
    """The snapshot in a JSON text.

    Args:
        data: JSON. Whole numbers may be written as 1e9 or 1.0; numbers that are unknown are null or left out.
        origin: the file, for errors.

    Raises:
        SettingsError: not JSON, another schema, an unknown or missing key, or a value that cannot be.
    """
    try:
        raw: Any = msgspec.json.decode(data)
        schema = raw.get("schema") if isinstance(raw, dict) else None
        if schema != SNAPSHOT_SCHEMA:
            raise SettingsError(f"{origin}: at `schema`: {schema!r} is not {SNAPSHOT_SCHEMA!r}; see docs/reference/snapshot.md")
        snapshot = msgspec.convert(whole(raw), Snapshot)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{origin}: {explain(str(error), Snapshot)}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SettingsError(f"{origin}: not JSON: {error}") from error
    _check(snapshot, origin)
    return snapshot


def whole(value: Any) -> Any:
    """The same with 1e9 and 1.0 as integers: JSON knows one kind of number, and other programs write sizes so."""
    if isinstance(value, dict):
        return {key: whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check(snapshot: Snapshot, origin: str) -> None:
    """What types cannot say."""
    twice = [name for name, count in Counter(guest.name for guest in snapshot.guests).items() if count > 1]
    if twice:
        raise SettingsError(f"{origin}: at `guests`: {twice[0]!r} is there twice; a name stands for one guest")
    places: list[tuple[str, Struct | None]] = [("host", snapshot.host)]
    places += [(f"host.budgets[{number}]", budget) for number, budget in enumerate(snapshot.host.budgets)]
    for number, guest in enumerate(snapshot.guests):
        place = f"guests[{number}]"
        if guest.ceiling_bytes <= 0:
            what = f"{guest.ceiling_bytes} must be more than 0: what it has with its balloon empty"
            raise SettingsError(f"{origin}: at `{place}.ceiling_bytes`: {what}")
        places += [(place, guest), (f"{place}.stats", guest.stats)]
    for place, value in places:
        _check_sizes(value, f"{origin}: at `{place}")


def _check_sizes(value: Struct | None, place: str) -> None:
    """No size, count or time below 0."""
    for name in value.__struct_fields__ if value is not None else ():
        number = getattr(value, name)
        if isinstance(number, int | float) and number < 0:
            raise SettingsError(f"{place}.{name}`: {number} is negative; leave it out when it is unknown")
