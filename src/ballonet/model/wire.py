"""Reading a `ballonet.snapshot/1` file: checked, with errors that name the place and the remedy."""

from collections import Counter
from typing import Any

import msgspec

from ballonet.model.settings import SettingsError, explain
from ballonet.model.snapshot import SNAPSHOT_SCHEMA, Guest, Snapshot


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
    for place, value in (
        ("host.total_bytes", snapshot.host.total_bytes),
        ("host.available_bytes", snapshot.host.available_bytes),
    ):
        if value < 0:
            raise SettingsError(f"{origin}: at `{place}`: {value} is negative; give bytes, or 0 when it is unknown")
    for number, guest in enumerate(snapshot.guests):
        _check_guest(guest, f"{origin}: at `guests[{number}]")


def _check_guest(guest: Guest, place: str) -> None:
    if guest.ceiling_bytes <= 0:
        raise SettingsError(
            f"{place}.ceiling_bytes`: {guest.ceiling_bytes} must be more than 0: what it has with its balloon empty"
        )
    sizes = {
        "keep_bytes": guest.keep_bytes,
        "resident_bytes": guest.resident_bytes,
        "floor_bytes": guest.floor_bytes,
        "guaranteed_bytes": guest.guaranteed_bytes,
        "shares": guest.shares,
    }
    for name, value in sizes.items():
        if value is not None and value < 0:
            raise SettingsError(f"{place}.{name}`: {value} is negative; leave it out when it is unknown")
