"""The OpenAPI document, written from the operations and their models, in two versions.

OpenAPI 3.2 describes each event of a stream with `itemSchema`. Most generators of clients read 3.1
at most: there a stream is a text, and the extension `x-events` names the schemas of its events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from domain.replies.contracts import CONTRACTS
from service.access.signatures import HEADER
from service.http.operation import BROWSER_SESSION, COOKIE, TICKET, AnyOperation, Success
from service.http.problems import MEDIA_TYPE, TITLES, Problem
from service.http.reads import INCOMPLETE
from service.wire import LOG_POSITION

Version = Literal["3.2.0", "3.1.0"]

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
_MATCH: Final[dict[str, Any]] = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag that was read: a resource that has another one by now is not changed.",
    "schema": {"type": "string", "maxLength": 300},
}

_BEGIN: Final[dict[str, Any]] = {
    "description": "The cursor after which the stream begins.",
    "schema": {"type": "string"},
}
_INCOMPLETE: Final[dict[str, Any]] = {
    "description": "The read models which lack something of what the answer is about, if any.",
    "schema": {"type": "string"},
}

PARAMETERS: Final[Mapping[str, str]] = {
    "after": "A cursor of an earlier answer: what comes after it, oldest first.",
    "asOf": "A cursor, or a time with an offset from UTC: the answer is what a reader saw then, "
    "without what was erased since.",
    "before": "A cursor of an earlier answer: what comes before it, newest first.",
    "browserSessionId": "The browser session.",
    "buildId": "The build.",
    "cursor": "A cursor of an earlier answer: the list goes on there.",
    "format": "The form of the document.",
    "includeHidden": "Whether items and reports that are not for users come too.",
    "limit": "The most items of the page.",
    "locale": "The language of texts, such as en, fr, es or ar.",
    "messageId": "The reply, by the messageId of its answer.",
    "minPosition": "A position of the log: the answer waits until it holds for this position.",
    "mode": "The kind of items: of planning, of building, or all.",
    "number": "The number of a version of the prompt, counted from 1.",
    "offset": "How many of the newest items to leave out; a cursor costs less.",
    "operation": "The name of an operation: its operationId here.",
    "projectId": "The project.",
    "promptId": "The prompt.",
    "q": 'Words, as people write them: words that all must be there, "a phrase", or, -without.',
    "replies": "Whether the events of the running replies come too.",
    "sessionId": "The session.",
    "runId": "The run.",
    "share": "To end a share its shareId; to read a shared plan the token of its link.",
    "since": "The beginning of the span of time, with an offset from UTC.",
    "status": "The state of builds or runs.",
    "types": "Types of events; may be repeated.",
    "until": "The end of the span of time, with an offset from UTC; not part of it.",
    "userId": "The user that acts, or that the answer is about; a browser's token knows its user.",
    "view": "The form of chunks: operations on the reply's data, or the main prose alone.",
    "wait": "How many seconds the answer may wait for something to tell.",
    "webhookId": "The webhook.",
    "workerId": "The worker.",
}
"""What a parameter of a path or a query means, unless its own field says it."""

DATA: Final = (
    ("ChatPlanResponse", "data"),
    ("ExportedItem", "data"),
    ("ExportLine", "data"),
    ("ReplyExport", "data"),
    ("ReplyState", "data"),
    ("SharedPlan", "data"),
    ("Snapshot", "data"),
)
"""The members that hold the data of a reply."""

_DATA: Final = "ReplyData"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPath:
    """A path that is open to everyone: `content` are its answers by media type, in JSON a model."""

    path: str
    name: str
    summary: str
    content: Mapping[str, type[BaseModel] | None]
    problems: tuple[int, ...] = ()


def document(
    operations: Sequence[AnyOperation],
    open_paths: Sequence[OpenPath] = (),
    *,
    version: str,
    form: Version = "3.2.0",
) -> dict[str, Any]:
    """The whole document."""
    models = _models(operations, open_paths)
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF
    )
    schemas: dict[str, Any] = definitions["$defs"]
    _name_data(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _described(operation, form)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    for each in open_paths:
        paths.setdefault(each.path, {})["get"] = _open(each)
    return {
        "openapi": form,
        "info": {
            "title": "Throughline",
            "version": version,
            "summary": "A durable, ordered timeline of a project's conversation with an AI.",
            "description": "Signed calls for servers, and calls with short tokens for browsers.",
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The service that answers this document."}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SCHEMES},
        "security": [{"signature": []}],
    }


_SCHEMES: Final[dict[str, Any]] = {
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": HEADER,
        "description": "t=<unix seconds>,kid=<key id>,n=<nonce>,v1=<hex>. v1 is HMAC-SHA256, with "
        "the key's secret, over eight lines joined by LF: v1, method, raw path, raw query, t, n, "
        "kid, hex SHA-256 of the body.",
    },
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A short token for one user: see mintToken.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": TICKET,
        "description": "The same token in the address, for an EventSource; it only reads.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "The same token as the cookie that mintToken sets; it only reads.",
    },
    "browserSession": {
        "type": "apiKey",
        "in": "cookie",
        "name": BROWSER_SESSION,
        "description": "The cookie of a browser session, from a page of this service alone: see "
        "renewToken.",
    },
}


def _models(
    operations: Sequence[AnyOperation], open_paths: Sequence[OpenPath]
) -> list[type[BaseModel]]:
    used: dict[type[BaseModel], None] = {Problem: None}
    for operation in operations:
        others = (each.answer for each in operation.others.values())
        known = (operation.answer, operation.body, operation.lines, *others)
        used.update({model: None for model in known if model not in (None, NoneType)})
        if operation.streams:
            used.update(dict.fromkeys(operation.events.values()))
    for each in open_paths:
        used.update({model: None for model in each.content.values() if model is not None})
    used.update(dict.fromkeys(CONTRACTS.values()))
    return list(used)


def _name_data(schemas: dict[str, Any]) -> None:
    """Say what the data of a reply is: by the contract of its mode, or a part of that."""
    schemas[_DATA] = {
        "title": _DATA,
        "description": "The data of a reply by the contract of its mode. A reply that was cut off "
        "has an object with the part that was shown; a reply without content has null.",
        "anyOf": [
            *({"$ref": _REF.format(model=model.__name__)} for model in CONTRACTS.values()),
            {"type": "object", "title": "PartialReply", "additionalProperties": True},
            {"type": "null"},
        ],
    }
    for model, member in DATA:
        if model in schemas:
            schemas[model]["properties"][member] = {"$ref": _REF.format(model=_DATA)}


def _described(operation: AnyOperation, form: Version) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": _access(operation),
        "x-scopes": list(operation.scopes),
        "responses": {str(operation.status): _answer(operation, form)}
        | {str(status): _problem(status) for status in sorted({*operation.problems, *_ALWAYS})},
    }
    for status, other in operation.others.items():
        described["responses"][str(status)] = _other(operation, other)
    if operation.credential is not None:
        scheme = operation.credential.scheme
        described["security"] = [{} if scheme is None else {scheme: []}]
    if operation.browsers:
        ways = ("signature", "token", *(("ticket", "cookie") if operation.method == "GET" else ()))
        described["security"] = [{way: []} for way in ways]
    parameters = [*_path_parameters(operation.path), *_query_parameters(operation)]
    if operation.streams:
        parameters.append(_RESUME)
    if operation.method != "GET":
        parameters.append(_NAME)
    if operation.method == "PATCH":
        parameters.append(_MATCH)
    if parameters:
        described["parameters"] = parameters
    if operation.body is not NoneType:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    return described


def _access(operation: AnyOperation) -> str:
    """Which callers may call the operation, in words."""
    if operation.credential is not None:
        return "It needs no key."
    scopes = ", ".join(operation.scopes)
    needed = f"A key needs one of the scopes {scopes}." if "," in scopes else ""
    needed = needed or f"A key needs the scope {scopes}."
    return f"{needed} A browser's token may call it." if operation.browsers else needed


def _open(each: OpenPath) -> dict[str, Any]:
    content = {
        media_type: {"schema": {"type": "string"} if model is None else _ref(model)}
        for media_type, model in each.content.items()
    }
    described: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "description": "Open to everyone: it needs no signature.",
        "security": [],
        "responses": {"200": {"description": each.summary, "content": content}}
        | {str(status): _problem(status) for status in sorted({*each.problems, 408, 414, 431})},
    }
    if parameters := _path_parameters(each.path):
        described["parameters"] = parameters
    return described


def _other(operation: AnyOperation, other: Success) -> dict[str, Any]:
    if other.answer is None:
        return {"description": other.meaning}
    content = {"application/json": {"schema": _ref(other.answer)}}
    return {"description": other.meaning, "headers": _headers(operation), "content": content}


def _answer(operation: AnyOperation, form: Version) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer is not None:
        content["application/json"] = {"schema": _ref(operation.answer)}
    for document in operation.documents:
        content[document] = {"schema": {"type": "string"}}
    if operation.lines is not None:
        content["application/x-ndjson"] = _items(_ref(operation.lines), form, "x-lines")
    if operation.streams:
        content["text/event-stream"] = _stream(operation.events, form)
    return {
        "description": operation.summary,
        "headers": _headers(operation),
        "content": content,
    }


def _headers(operation: AnyOperation) -> dict[str, Any]:
    position = {"description": "A position of the log.", "schema": {"type": "integer"}}
    incomplete = {INCOMPLETE: _INCOMPLETE} if operation.reads else {}
    begin = {"X-Log-Cursor": _BEGIN} if "item" in operation.events else {}
    return {LOG_POSITION: position} | begin | incomplete


def _items(schema: dict[str, str], form: Version, extension: str) -> dict[str, Any]:
    """A sequence of items: by `itemSchema`, or as a text with the schema in an extension."""
    if form == "3.2.0":
        return {"itemSchema": schema}
    return {
        "schema": {"type": "string", "description": "One JSON value a line."},
        extension: schema,
    }


def _stream(kinds: Mapping[str, type[BaseModel]], form: Version) -> dict[str, Any]:
    """The events of a stream."""
    if form == "3.2.0":
        return {"itemSchema": _event(kinds)}
    named = ", ".join(f"{kind} ({model.__name__})" for kind, model in kinds.items())
    said = f"Server-sent events, each with JSON as its data, by the schema in brackets: {named}."
    return {
        "schema": {"type": "string", "description": said},
        "x-events": {kind: _ref(model) for kind, model in kinds.items()},
    }


def _event(kinds: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """One of the events of a stream, each with what it carries."""
    return {
        "type": "object",
        "properties": {"id": {"type": "string"}, "retry": {"type": "integer"}},
        "required": ["event", "data"],
        "oneOf": [
            {
                "description": " ".join((model.__doc__ or "").split()),
                "properties": {
                    "event": {"const": kind},
                    "data": _JSON | {"contentSchema": _ref(model)},
                },
                "required": ["event"],
            }
            for kind, model in kinds.items()
        ],
    }


def _problem(status: int) -> dict[str, Any]:
    return {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": _ref(Problem)}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": 255}
    return [
        {
            "name": part[1:-1],
            "in": "path",
            "required": True,
            "description": PARAMETERS[part[1:-1]],
            "schema": schema,
        }
        for part in path.split("/")
        if part.startswith("{")
    ]


def _query_parameters(operation: AnyOperation) -> list[dict[str, Any]]:
    if operation.query is NoneType:
        return []
    schema = operation.query.model_json_schema()
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": member.pop("description", None) or PARAMETERS[name],
            "schema": member,
        }
        for name, member in schema["properties"].items()
    ]


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
