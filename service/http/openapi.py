"""The OpenAPI 3.2 document, written from the operations and their models.

3.2, because `itemSchema` describes the events of a stream only from there on.
"""

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from domain.reply_contracts import CONTRACTS
from service.access.signatures import HEADER
from service.http.operation import COOKIE, TICKET, AnyOperation
from service.http.problems import MEDIA_TYPE, TITLES, Problem

_REF: Final = "#/components/schemas/{model}"
_ALWAYS: Final = (401, 403, 408, 414, 431, 503)
_JSON: Final = {"type": "string", "contentMediaType": "application/json"}
_RESUME: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id of the last event that came: the stream goes on after it.",
    "schema": {"type": "string", "maxLength": 300},
}
_NAME: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The client's own name for this request: sent again, it is done once.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


def document(operations: Sequence[AnyOperation], *, version: str) -> dict[str, Any]:
    """The whole document."""
    models = _models(operations)
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "Throughline",
            "version": version,
            "summary": "A durable, ordered timeline of a project's conversation with an AI.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": HEADER,
                    "description": "t=<unix seconds>,kid=<key id>,n=<nonce>,v1=<hex>; see README.",
                },
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "ticket": {"type": "apiKey", "in": "query", "name": TICKET},
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
        "security": [{"signature": []}],
    }


def _models(operations: Sequence[AnyOperation]) -> list[type[BaseModel]]:
    used: dict[type[BaseModel], None] = {Problem: None}
    for operation in operations:
        known = (operation.answer, operation.body, operation.lines)
        used.update({model: None for model in known if model not in (None, NoneType)})
        if operation.streams:
            used.update(dict.fromkeys(operation.events.values()))
    used.update(dict.fromkeys(CONTRACTS.values()))
    return list(used)


def _described(operation: AnyOperation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {str(operation.status): _answer(operation)}
        | {str(status): _problem(status) for status in sorted({*operation.problems, *_ALWAYS})},
    }
    if operation.no_content is not None:
        described["responses"]["204"] = {"description": operation.no_content}
    if operation.browsers:
        ways = ("signature", "token", *(("ticket", "cookie") if operation.method == "GET" else ()))
        described["security"] = [{way: []} for way in ways]
    parameters = [*_path_parameters(operation), *_query_parameters(operation)]
    if operation.streams and operation.method == "GET":
        parameters.append(_RESUME)
    if operation.method != "GET":
        parameters.append(_NAME)
    if parameters:
        described["parameters"] = parameters
    if operation.body is not NoneType:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    return described


def _answer(operation: AnyOperation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer is not None:
        content["application/json"] = {"schema": _ref(operation.answer)}
    if operation.document is not None:
        content[operation.document] = {"schema": {"type": "string"}}
    if operation.lines is not None:
        content["application/x-ndjson"] = {"itemSchema": _ref(operation.lines)}
    if operation.streams:
        content["text/event-stream"] = {"itemSchema": _event(operation.events)}
    return {
        "description": operation.summary,
        "headers": {"X-Log-Position": {"schema": {"type": "integer"}}},
        "content": content,
    }


def _event(kinds: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """One of the events of a stream, each with what it carries."""
    return {
        "type": "object",
        "properties": {"id": {"type": "string"}, "retry": {"type": "integer"}},
        "required": ["event", "data"],
        "oneOf": [
            {
                "properties": {
                    "event": {"const": kind},
                    "data": _JSON | {"contentSchema": _ref(model)},
                }
            }
            for kind, model in kinds.items()
        ],
    }


def _problem(status: int) -> dict[str, Any]:
    return {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": _ref(Problem)}}}


def _path_parameters(operation: AnyOperation) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": 255}
    return [
        {"name": part[1:-1], "in": "path", "required": True, "schema": schema}
        for part in operation.path.split("/")
        if part.startswith("{")
    ]


def _query_parameters(operation: AnyOperation) -> list[dict[str, Any]]:
    if operation.query is NoneType:
        return []
    schema = operation.query.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": member}
        for name, member in schema["properties"].items()
    ]


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
