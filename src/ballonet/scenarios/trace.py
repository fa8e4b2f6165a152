"""Demand that was recorded: a CSV with `time_s,guest,used_bytes,cache_bytes`, as a scenario."""

import csv
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace

from ballonet.model.settings import SettingsError, Size
from ballonet.scenarios.scenario import Group, HostPart, Phase, Scenario

Rows = list[tuple[float, int, int]]
"""Of one guest: seconds, bytes used, bytes of page cache."""
COLUMNS = ("time_s", "guest", "used_bytes", "cache_bytes")
HOST_SHARE = 0.75
"""Of what guests are promised, where nobody says what the host has."""


def load_trace(path: Path, scenario: Scenario | None = None) -> Scenario:
    """The demand of a trace as a scenario.

    Args:
        path: of the CSV; rows in rising time for each guest.
        scenario: guests (by the trace's names) and host to take over; None = each guest has the next power of two GiB
            above the most that it held, page cache too, and the host three quarters of their sum.

    Raises:
        SettingsError: not readable, a column missing, or a value that cannot be; the text names the line.
    """
    rows = _rows(path)
    known = {} if scenario is None else {f"{group.name}-{n}": group for group in scenario.guests for n in range(group.count)}
    if missing := sorted(set(known) - set(rows)) if known else []:
        raise SettingsError(f"{path}: no rows for guest {missing[0]!r} of scenario {scenario.name if scenario else ''!r}")
    return traced(path.stem, rows, known, scenario.host if scenario is not None else None)


def traced(name: str, rows: Mapping[str, Rows], known: Mapping[str, Group], host: HostPart | None = None) -> Scenario:
    """Recorded demand as a scenario.

    Args:
        name: of the scenario.
        rows: of each guest, in rising time: seconds, bytes used, bytes of page cache.
        known: guests that are known, by name.
        host: None = three quarters of what the guests have.
    """
    start = min((row[0][0] for row in rows.values()), default=0.0)
    end = max((row[-1][0] for row in rows.values()), default=0.0)
    groups = tuple(_group(one, found, known.get(one), start) for one, found in rows.items())
    host = host or HostPart(memory=Size(int(sum(group.memory for group in groups) * HOST_SHARE)))
    about = f"Recorded demand of {len(groups)} guests"
    return Scenario(name=name, about=about, duration_s=end - start, warmup_s=10.0, host=host, guests=groups)


def _rows(path: Path) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]:
                raise SettingsError(f"{path}: no column {missing[0]!r}; the first line must be {','.join(COLUMNS)}")
            for row in reader:
                _add(found, row, f"{path}, line {reader.line_num}")
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path}: not CSV: {error}") from error
    if not found:
        raise SettingsError(f"{path}: no rows")
    return found


def _add(found: dict[str, Rows], row: dict[str, str], place: str) -> None:
    try:
        name, at, used = row["guest"], float(row["time_s"]), int(float(row["used_bytes"]))
        cache = int(float(row.get("cache_bytes") or 0))
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(f"{place}: {error}; write seconds, a name, bytes, bytes") from error
    rows = found.setdefault(name, [])
    if used < 0 or cache < 0 or not math.isfinite(at) or (rows and at < rows[-1][0]):
        raise SettingsError(f"{place}: sizes must be >= 0 and times must rise for each guest")
    rows.append((at, used, cache))


def _group(name: str, rows: Rows, known: Group | None, start: float) -> Group:
    peak = max(used for _, used, _ in rows)
    held = max(used + cache for _, used, cache in rows)
    memory = Size(1 << max(30, (held - 1).bit_length())) if known is None else known.memory
    if peak > memory:
        raise SettingsError(f"guest {name!r} uses {peak} bytes in the trace, and has {memory} in the scenario")
    phases = tuple(_phases(rows, start))
    group = known or Group(name=name, memory=memory, phases=phases)
    cache = Size(rows[0][2])
    still = {"vary_share": 0.0, "vary_s": 0.0, "stagger_s": 0.0}
    return replace(group, name=name, count=1, is_exact=True, page_cache=cache, phases=phases, **still)


def _phases(rows: Rows, start: float) -> list[Phase]:
    """Straight from sample to sample; page cache is as large as its sample says from then on."""
    found = [Phase(at_s=0.0, used=Size(rows[0][1]))]
    known = rows[0][2]
    for (at, used, cache), (after, then, _) in pairwise(rows):
        if after > at and (then, cache) != (used, known):
            per_s = Size(max(1, int(abs(then - used) / (after - at)) + 1))
            found.append(Phase(at_s=at - start, used=Size(then), per_s=per_s, cache=Size(cache) if cache != known else None))
            known = cache
    last_s, used, cache = rows[-1]
    return found if cache == known else [*found, Phase(at_s=last_s - start, used=Size(used), cache=Size(cache))]
