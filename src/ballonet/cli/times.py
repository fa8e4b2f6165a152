"""Times and spans as people write them."""

import re
import time
from datetime import datetime
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
        today = datetime.fromtimestamp(now).astimezone()
        hour, minute, second = (*map(int, text.split(":")), 0)[:3]
        try:
            at = today.replace(hour=hour, minute=minute, second=second, microsecond=0).timestamp()
        except ValueError as error:
            raise SettingsError(f"{text!r}: {error}") from error
        return at if at <= now else at - 86400.0
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        pass
    try:
        return now - parse_span(text)
    except SettingsError as error:
        raise SettingsError(
            f"{text!r} is no time; write it like 14:03, 2026-11-24 14:03:05, or 10m for ten minutes ago"
        ) from error


def format_time(at: float) -> str:
    """Of this place: `2026-11-24 14:03:05`."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
