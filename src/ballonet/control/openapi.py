"""The OpenAPI of the control API, made from its table (https://spec.openapis.org/oas/v3.1.0)."""

from typing import Any, Final

import msgspec

import ballonet
from ballonet.control.routes import LIVE, METRICS, NAME, ROUTES, Param, Route
from ballonet.model.settings import Portion
from ballonet.status.errors import Trouble
from ballonet.status.words import Status

TROUBLES: Final = {
    "400": "The request is wrong; the text says where",
    "401": "No token, or a wrong one (TCP only)",
    "404": "No such guest",
    "409": "It contradicts what stands, as a floor above a ceiling",
    "503": "Not yet, or not on this host",
}
PORTION: Final = r"^([0-9]{1,2}(\.[0-9]{1,8})?%|[0-9]{1,19}B|[0-9]{1,4}(\.[0-9]{1,3})?[KMGT]iB)$"
"""A part of what can be read (`model.settings`), that says how to write it."""
_SCHEMAS: Final = "#/components/schemas/{name}"


def openapi() -> dict[str, Any]:
    """The document."""
    kinds = [Status, Trouble, *(kind for route in ROUTES for kind in (route.returns, route.body) if kind is not None)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS, schema_hook=_text_schema)
    by_kind = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_kind)
    paths[LIVE] = {"get": _plain("Status at each tick, as server-sent events", "text/event-stream")}
    paths[METRICS] = {"get": _plain("Metrics for Prometheus", "text/plain")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ballonet", "version": ballonet.__version__, "description": "The memory of this host's VMs."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "Over TCP only"}},
        },
    }


def _text_schema(kind: type) -> dict[str, Any]:
    """Of types that are text as JSON."""
    if kind is Portion:
        return {"type": "string", "pattern": PORTION, "examples": ["1GiB", "10%"]}
    raise NotImplementedError(kind.__name__)


def _operation(route: Route[Any], by_kind: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.what,
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_').replace('{', '').replace('}', '')}",
        "responses": {"200": _json("Done; what stands now", by_kind[repr(route.returns)])} | _troubles(),
    }
    if params := [_param(one, "query") for one in route.query]:
        operation["parameters"] = params
    if "{name}" in route.path:
        operation.setdefault("parameters", []).append(_param(Param("name", NAME, "Of the guest"), "path"))
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": by_kind[repr(route.body)]}}}
    return operation


def _param(param: Param, where: str) -> dict[str, Any]:
    return {"name": param.name, "in": where, "required": where == "path", "schema": param.schema, "description": param.what}


def _json(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _troubles() -> dict[str, Any]:
    schema = {"$ref": _SCHEMAS.format(name="Trouble")}
    return {code: _json(what, schema) for code, what in TROUBLES.items()}


def _plain(what: str, kind: str) -> dict[str, Any]:
    return {
        "summary": what,
        "responses": {"200": {"description": what, "content": {kind: {"schema": {"type": "string"}}}}} | _troubles(),
    }
