"""The control API, as one table: what is served, and what its OpenAPI says, come from the same lines."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec

from ballonet.control.desk import Desk
from ballonet.control.messages import (
    Change,
    Explanation,
    HoldOrder,
    HostSample,
    ModeOrder,
    Orders,
    Sample,
    Status,
)
from ballonet.model.finding import Finding
from ballonet.model.terms import Patch, patched

LIMIT: Final = 1000
"""Rows of history in one answer, unless another number is asked for."""
MOST: Final = 100_000
TIMES: Final = {"type": "number", "minimum": 0, "maximum": 1e11}
"""Seconds since 1970: three thousand years are enough."""
NAME: Final = {"type": "string", "minLength": 1, "maxLength": 255}


class Asked(NamedTuple):
    """What a request says, checked."""

    desk: Desk
    values: dict[str, Any]
    """Parameters of path and query, by name; those that were left out are missing."""
    body: Any
    by: str
    """Who asks: a user of this host, or whoever has the token."""


class Param(NamedTuple):
    """One parameter of a query."""

    name: str
    schema: dict[str, Any]
    what: str


class Route(NamedTuple):
    """One thing that can be asked."""

    method: str
    path: str
    what: str
    returns: Any
    do: Callable[[Asked], Awaitable[Any]]
    query: tuple[Param, ...] = ()
    body: Any = None


async def _status(asked: Asked) -> msgspec.Raw:
    return asked.desk.status_json()


async def _explain(asked: Asked) -> Explanation | msgspec.Raw:
    return await asked.desk.explain(asked.values["name"], asked.values.get("at"))


async def _orders(asked: Asked) -> Orders:
    return asked.desk.orders()


async def _set(asked: Asked) -> Orders:
    return await asked.desk.set_guest(asked.values["name"], patched(asked.body), asked.by)


async def _hold(asked: Asked) -> Orders:
    return await asked.desk.hold(asked.values.get("name", ""), asked.body, asked.by)


async def _release(asked: Asked) -> Orders:
    return await asked.desk.release(asked.values.get("name", ""), asked.by)


async def _mode(asked: Asked) -> Orders:
    return await asked.desk.set_mode(asked.body.mode, asked.by)


async def _changes(asked: Asked) -> msgspec.Raw:
    return await asked.desk.changes(asked.values.get("guest", ""), *_span(asked))


async def _samples(asked: Asked) -> msgspec.Raw:
    return await asked.desk.samples(asked.values.get("name", ""), *_span(asked))


async def _doctor(asked: Asked) -> list[Finding]:
    return await asked.desk.findings()


def _span(asked: Asked) -> tuple[float, float, int]:
    return asked.values.get("since", 0.0), asked.values.get("until", TIMES["maximum"]), asked.values.get("limit", LIMIT)


_SPAN: Final = (
    Param("since", TIMES, "Seconds since 1970; from the beginning without it"),
    Param("until", TIMES, "Seconds since 1970; to the end without it"),
    Param("limit", {"type": "integer", "minimum": 1, "maximum": MOST}, f"Rows at the most; {LIMIT} without it"),
)

ROUTES: Final = (
    Route("GET", "/v1/status", "The host and its guests at the last tick", Status, _status),
    Route("GET", "/v1/doctor", "What stands in the way on the host and in guests", list[Finding], _doctor),
    Route("GET", "/v1/orders", "What an operator has said: holds, modes, settings", Orders, _orders),
    Route("PUT", "/v1/mode", "Set the mode of the host", Orders, _mode, body=ModeOrder),
    Route("PUT", "/v1/hold", "Move nothing of any guest", Orders, _hold, body=HoldOrder),
    Route("DELETE", "/v1/hold", "Let all guests go", Orders, _release),
    Route("PUT", "/v1/guests/{name}/hold", "Move nothing of a guest", Orders, _hold, body=HoldOrder),
    Route("DELETE", "/v1/guests/{name}/hold", "Let a guest go", Orders, _release),
    Route("PATCH", "/v1/guests/{name}", "Set floor, ceiling, guarantee, shares or mode of a guest", Orders, _set, body=Patch),
    Route(
        "GET",
        "/v1/guests/{name}/explanation",
        "Why a guest keeps what it keeps, and what would change it",
        Explanation,
        _explain,
        (Param("at", TIMES, "Seconds since 1970; now without it"),),
    ),
    Route("GET", "/v1/guests/{name}/samples", "What a guest kept, used and needed", list[Sample], _samples, _SPAN),
    Route(
        "GET", "/v1/samples", "What the host had, and what its guests kept, used and needed", list[HostSample], _samples, _SPAN
    ),
    Route("GET", "/v1/history", "Decisions of the past", list[Change], _changes, (Param("guest", NAME, "Of one only"), *_SPAN)),
)

LIVE: Final = "/v1/live"
"""Status at each tick, as server-sent events."""
METRICS: Final = "/metrics"
