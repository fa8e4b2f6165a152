"""Times and spans as people write them."""

import contextlib
import re
import time
from datetime import datetime, timedelta
from typing import Final

from ballonet.model.settings import SettingsError

_UNITS: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_span(text: str) -> float:
    """Seconds: `90s`, `10m`, `2h`, `1h30m`, `7d`. Raises SettingsError."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*(min|[smhd])", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", text.strip().lower()):
        raise SettingsError(f"{text!r} is no span of time; write it like 90s, 10m, 2h, 1h30m or 7d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def parse_time(text: str, now: float | None = None) -> float:
    """Seconds since 1970: `10m` (ago), `14:03`, `2026-11-24 14:03:05`, or the number itself. Raises SettingsError."""
    now = time.time() if now is None else now
    text = text.strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text):
        today = datetime.fromtimestamp(now)  # noqa: DTZ006 of this place, whose clock may change today
        hour, minute, second = (*map(int, text.split(":")), 0)[:3]
        try:
            wanted = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
        except ValueError as error:
            raise SettingsError(f"{text!r}: {error}; write it like 14:03, or 10m for ten minutes ago") from error
        return _latest(wanted, now) or _latest(wanted - timedelta(days=1), now) or wanted.timestamp()
    with contextlib.suppress(ValueError):
        found = datetime.fromisoformat(text)
        return found.timestamp() if found.tzinfo else _latest(found, now) or found.timestamp()
    try:
        return now - parse_span(text)
    except SettingsError as error:
        raise SettingsError(
            f"{text!r} is no time; write it like 14:03, 2026-11-24 14:03:05, or 10m for ten minutes ago"
        ) from error


def _latest(wanted: datetime, now: float) -> float | None:
    """When the clock of this place showed that last; twice in the hour in which summer ends. None = it has not yet."""
    found = [at for fold in (1, 0) if (at := wanted.replace(fold=fold).timestamp()) <= now]
    return max(found, default=None)


def format_time(at: float) -> str:
    """Of this place: `2026-11-24 14:03:05`."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
