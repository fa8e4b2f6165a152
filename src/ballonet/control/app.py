"""The control API as an ASGI application, whatever it is served on."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as Served

from ballonet.control.answers import answer, trouble
from ballonet.control.openapi import openapi
from ballonet.control.routes import LIVE, METRICS, NAME, ROUTES, Asked, Param, Route
from ballonet.control.service import ControlService
from ballonet.model.settings import explain, from_text
from ballonet.model.wire import whole
from ballonet.status.errors import ControlError

log = logging.getLogger(__name__)

LARGEST_BYTES: Final = 64 << 10
"""Of a request's body: orders are some hundred bytes."""
LONGEST_S: Final = 5.0
"""A body comes within this time, or is not waited for."""
PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Anything(StringConvertor):
    """A name: slashes, sent as %2F, and lines' ends are in it as any other character."""

    regex = "(?s:.+)"


register_url_convertor("anything", _Anything())


def api(service: ControlService) -> Starlette:
    """The application."""
    routes = [Served(_with_any_name(route.path), _served(route, service), methods=[route.method]) for route in ROUTES]

    async def live(_request: Request) -> Response:
        return StreamingResponse(_events(service), media_type="text/event-stream")

    async def metrics(_request: Request) -> Response:
        return Response(service.metrics(), media_type=PROMETHEUS)

    description = functools.cache(lambda: msgspec.Raw(msgspec.json.encode(openapi())))

    async def described(_request: Request) -> Response:
        return answer(description())

    routes += [Served(LIVE, live), Served(METRICS, metrics), Served("/v1/openapi.json", described)]
    return Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _failed})


def _with_any_name(path: str) -> str:
    """Names are values: whatever is in one, it is a guest's as any other."""
    return path.replace("{name}", "{name:anything}")


def _served(route: Route[Any], service: ControlService) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        try:
            asked = Asked(service, _values(route, request), await _body(route, request), getattr(request.state, "who", ""))
            return answer(await route.do(asked))
        except ControlError as error:
            return trouble(error.status, str(error))

    return serve


def _values(route: Route[Any], request: Request) -> dict[str, Any]:
    in_path = Param("name", NAME, "")
    values: dict[str, Any] = {name: _value(in_path, text) for name, text in request.path_params.items()}
    known = {param.name: param for param in route.query}
    for name, text in request.query_params.multi_items():
        if name not in known:
            raise ControlError(f"no parameter {name!r}; there are: {', '.join(known) or 'none'}")
        if name in values:
            raise ControlError(f"{name}: given twice")
        values[name] = _value(known[name], text)
    return values


def _value(param: Param, text: str) -> Any:
    schema = param.schema
    if schema["type"] == "string":
        if not schema["minLength"] <= len(text) <= schema["maxLength"]:
            raise ControlError(f"{param.name}: give {schema['minLength']} to {schema['maxLength']} characters")
        return text
    kind = int if schema["type"] == "integer" else float
    try:
        value = kind(text)
    except ValueError as error:
        raise ControlError(f"{param.name}: {text!r} is no number") from error
    if not schema["minimum"] <= value <= schema["maximum"]:
        raise ControlError(f"{param.name}: {text} is not within {schema['minimum']} and {schema['maximum']:.0f}")
    return value


async def _body(route: Route[Any], request: Request) -> Any:
    if route.body is None:
        return None
    data = b""
    try:
        async with asyncio.timeout(LONGEST_S):
            async for part in request.stream():
                data += part
                if len(data) > LARGEST_BYTES:
                    raise ControlError(f"the body is larger than {LARGEST_BYTES} bytes")
    except TimeoutError as error:
        raise ControlError(f"the body has not come within {LONGEST_S:.0f} s") from error
    try:
        return msgspec.convert(whole(msgspec.json.decode(data)), route.body, dec_hook=from_text)
    except msgspec.ValidationError as error:
        raise ControlError(explain(str(error), route.body)) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ControlError(f"the body is not JSON: {error}") from error


async def _events(service: ControlService) -> AsyncIterator[bytes]:
    async for status in service.lives():
        yield b"data: " + status + b"\n\n"


async def _refused(request: Request, error: Exception) -> Response:
    """No such path, or a method that it does not have."""
    assert isinstance(error, HTTPException)
    refusal = trouble(error.status_code, f"{request.method} {request.url.path}: {error.detail}; see /v1/openapi.json")
    refusal.headers.update(error.headers or {})
    return refusal


async def _failed(request: Request, error: Exception) -> Response:
    log.error("control request failed", exc_info=error, extra={"path": request.url.path})
    return trouble(500, "a fault of ballonet; its log has more")
