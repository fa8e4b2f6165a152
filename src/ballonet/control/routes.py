"""The control API, as one table: what is served, and what its OpenAPI says, come from the same lines."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from ballonet.control.messages import HoldOrder, ModeOrder, Orders, RoomOrder
from ballonet.control.service import ControlService
from ballonet.model.finding import Finding
from ballonet.model.terms import Patch, patched
from ballonet.status.words import Change, Explanation, HostSample, RoomStatus, Sample, Status

T = TypeVar("T")

LIMIT: Final = 1000
"""Rows of history in one answer, unless another number is asked for."""
MOST: Final = 100_000
TIMES: Final = {"type": "number", "minimum": 0, "maximum": 1e11}
"""Seconds since 1970: three thousand years are enough."""
LONGEST_NAME: Final = 255
NAME: Final = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}


class Asked(NamedTuple):
    """What a request says, checked."""

    service: ControlService
    values: dict[str, Any]
    """Parameters of path and query, by name; those that were left out are missing."""
    body: Any
    by: str
    """Who asks: a user of this host, or a client with the token."""


class Param(NamedTuple):
    """One parameter of a query."""

    name: str
    schema: dict[str, Any]
    what: str


class Route(NamedTuple, Generic[T]):
    """One thing that can be asked, and what comes back."""

    method: str
    path: str
    what: str
    returns: type[T]
    do: Callable[[Asked], Awaitable[Any]]
    query: tuple[Param, ...] = ()
    body: Any = None

    def of(self, guest: str) -> str:
        """Its path for one guest. A name stays a name whatever is in it: one of dots would lead elsewhere (RFC 3986, 5.2.4)."""
        return self.path.replace("{name}", quote(guest, safe="").replace(".", "%2E"))


async def _status(asked: Asked) -> msgspec.Raw:
    return asked.service.status_json()


async def _explain(asked: Asked) -> Explanation | msgspec.Raw:
    return await asked.service.explain(asked.values["name"], asked.values.get("at"))


async def _orders(asked: Asked) -> Orders:
    return asked.service.orders()


async def _set(asked: Asked) -> Orders:
    return await asked.service.set_guest(asked.values["name"], patched(asked.body), asked.by)


async def _hold(asked: Asked) -> Orders:
    return await asked.service.hold(asked.values.get("name", ""), asked.body, asked.by)


async def _release(asked: Asked) -> Orders:
    return await asked.service.release(asked.values.get("name", ""), asked.by)


async def _mode(asked: Asked) -> Orders:
    return await asked.service.set_mode(asked.body.mode, asked.by)


async def _rooms(asked: Asked) -> list[RoomStatus]:
    return asked.service.rooms()


async def _room(asked: Asked) -> RoomStatus:
    return asked.service.room(asked.values["name"])


async def _ask_room(asked: Asked) -> RoomStatus:
    return await asked.service.ask_room(asked.values["name"], asked.body, asked.by)


async def _cancel_room(asked: Asked) -> RoomStatus:
    return await asked.service.cancel_room(asked.values["name"], asked.by)


async def _changes(asked: Asked) -> msgspec.Raw:
    return await asked.service.changes(asked.values.get("guest", ""), *_span(asked))


async def _samples(asked: Asked) -> msgspec.Raw:
    return await asked.service.samples(asked.values.get("name", ""), *_span(asked))


async def _doctor(asked: Asked) -> list[Finding]:
    return await asked.service.findings()


def _span(asked: Asked) -> tuple[float, float, int]:
    return asked.values.get("since", 0.0), asked.values.get("until", TIMES["maximum"]), asked.values.get("limit", LIMIT)


_SPAN: Final = (
    Param("since", TIMES, "Seconds since 1970; from the beginning without it"),
    Param("until", TIMES, "Seconds since 1970; to the end without it"),
    Param("limit", {"type": "integer", "minimum": 1, "maximum": MOST}, f"At most this many rows; {LIMIT} without it"),
)

STATUS: Final = Route("GET", "/v1/status", "The host and its guests at the last tick", Status, _status)
DOCTOR: Final = Route("GET", "/v1/doctor", "What stands in the way on the host and in guests", list[Finding], _doctor)
ORDERS: Final = Route("GET", "/v1/orders", "What an operator has said: holds, modes, settings", Orders, _orders)
MODE: Final = Route("PUT", "/v1/mode", "Set the mode of the host", Orders, _mode, body=ModeOrder)
HOLD_ALL: Final = Route("PUT", "/v1/hold", "Move nothing of any guest", Orders, _hold, body=HoldOrder)
RELEASE_ALL: Final = Route("DELETE", "/v1/hold", "Let all guests go", Orders, _release)
HOLD: Final = Route("PUT", "/v1/guests/{name}/hold", "Move nothing of a guest", Orders, _hold, body=HoldOrder)
RELEASE: Final = Route("DELETE", "/v1/guests/{name}/hold", "Let a guest go", Orders, _release)
SET: Final = Route("PATCH", "/v1/guests/{name}", "Set what an operator may say of a guest", Orders, _set, body=Patch)
ROOMS: Final = Route("GET", "/v1/rooms", "Memory for VMs that are about to start", list[RoomStatus], _rooms)
ROOM: Final = Route("GET", "/v1/rooms/{name}", "One room, by its key or by the VM's name", RoomStatus, _room)
ASK_ROOM: Final = Route(
    "PUT",
    "/v1/rooms/{name}",
    "Gather memory for a VM that is about to start; the name is its UUID, or its name. The same name is the same room",
    RoomStatus,
    _ask_room,
    body=RoomOrder,
)
CANCEL_ROOM: Final = Route("DELETE", "/v1/rooms/{name}", "Take a room back", RoomStatus, _cancel_room)
EXPLANATION: Final = Route(
    "GET",
    "/v1/guests/{name}/explanation",
    "Why a guest keeps what it keeps, and what would change it",
    Explanation,
    _explain,
    (Param("at", TIMES, "Seconds since 1970; now without it"),),
)
SAMPLES: Final = Route("GET", "/v1/guests/{name}/samples", "What a guest kept, used and needed", list[Sample], _samples, _SPAN)
HOST_SAMPLES: Final = Route(
    "GET", "/v1/samples", "What the host had, and what its guests kept, used and needed", list[HostSample], _samples, _SPAN
)
HISTORY: Final = Route(
    "GET", "/v1/history", "Decisions of the past", list[Change], _changes, (Param("guest", NAME, "Of one only"), *_SPAN)
)
ROUTES: Final[tuple[Route[Any], ...]] = (
    STATUS,
    DOCTOR,
    ORDERS,
    MODE,
    HOLD_ALL,
    RELEASE_ALL,
    HOLD,
    RELEASE,
    SET,
    ROOMS,
    ROOM,
    ASK_ROOM,
    CANCEL_ROOM,
    EXPLANATION,
    SAMPLES,
    HOST_SAMPLES,
    HISTORY,
)

LIVE: Final = "/v1/live"
"""Status at each tick, as server-sent events."""
METRICS: Final = "/metrics"
