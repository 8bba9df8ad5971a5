"""One operation of the API: what it accepts and answers, and the checks of every request.

A request passes these checks in order: signature, size of the body, proof of the caller, scope,
JSON, schema. The handler sees only a request that passed all of them. The OpenAPI document is
written from the same record.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast
from urllib.parse import unquote

import orjson
import psycopg
import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from domain.errors import LimitReached, ProjectUnknown, Refused
from projections.projection import Projection
from service.access.audit import Entry, Watch, truncated
from service.access.authentication import Caller, NotYours
from service.access.signatures import HEADER
from service.eventlog.errors import AuditLate, Overloaded
from service.eventlog.transactions import IdempotencyKey
from service.http import connection_limits, problems
from service.http.call import Call, Past, Route, Service
from service.http.problems import BadRequest
from service.http.reads import INCOMPLETE
from service.ops import metrics
from service.postgres.replica import ReplicaAway
from service.replies.events import REPLY_EVENTS
from service.settings import Scope
from service.wire import LOG_POSITION, Id, Query, dumped

COOKIE: Final = "throughline"
BROWSER_SESSION: Final = "throughline-browser-session"
TICKET: Final = "ticket"
LARGEST_BODY: Final = 256 * 1024
_KEY: Final = re.compile(r"[!-~]{1,255}")
_ID: Final[TypeAdapter[str]] = TypeAdapter(Id)
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Credential:
    """Another proof of the caller than a signature or a token: how the caller is found by it.

    `scheme` is its security scheme in the OpenAPI document; None where the body has it.
    """

    caller: Callable[[Service, Request, bytes], Awaitable[Caller]]
    scheme: str | None = None


B = TypeVar("B", bound=BaseModel | None)
Q = TypeVar("Q", bound=Query | None)
Handler: TypeAlias = Callable[[Call[B, Q]], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Success:
    """An answer under another status than the usual one: what it says, and its JSON, if any."""

    meaning: str
    answer: type[BaseModel] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[B, Q]):
    """An operation: `name` is its operationId, `problems` are the error statuses of its own.

    `body` and `query` are what its handler reads; NoneType where it reads none. `answer` is what it
    answers in JSON. If it streams, `events` maps the names of its server-sent events to their data.
    `lines` is one line of its newline-delimited JSON, `documents` are the media types of its other
    forms.
    `others` are its other successes by status. `reads` are the read models that its answer is made
    from; the header X-Read-Model-Incomplete names each read model that lacks some of it.
    `browsers` may call it with their tokens. An operation with a `credential`
    takes this proof of the caller alone. An operation that `begins_reply` is refused first when the
    server has too much to do.
    """

    method: str
    path: str
    name: str
    summary: str
    scopes: tuple[Scope, ...]
    handle: Handler[B, Q]
    body: type[B]
    query: type[Q]
    answer: type[BaseModel] | None = None
    status: int = 200
    problems: tuple[int, ...] = ()
    streams: bool = False
    events: Mapping[str, type[BaseModel]] = field(default_factory=lambda: REPLY_EVENTS)
    lines: type[BaseModel] | None = None
    documents: tuple[str, ...] = ()
    others: Mapping[int, Success] = field(default_factory=dict[int, Success])
    reads: tuple[Projection, ...] = ()
    browsers: bool = False
    credential: Credential | None = None
    begins_reply: bool = False

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever it is."""
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        service: Service = request.app.state.service
        watch, entry = Watch(), None
        caller: Caller | None = None
        try:
            service.overload.require_capacity(begins_reply=self.begins_reply)
            caller, body = await self._authenticated(service, request)
            request.state.tenant_id = caller.tenant_id
            service.audit.require_capacity()
            entry = self._entry(request, caller, watch)
            call = self._admit(service, request, caller, body, entry)
            response = await self._handled(call)
        except Exception as error:  # noqa: BLE001 - the outermost place of a request
            response = problems.problem(error)
            if isinstance(error, LimitReached):
                metrics.LIMITED.labels(error.name).inc()
            if caller is None and isinstance(error, Overloaded):
                request.state.is_quiet = True  # `Overload.run` writes one line for all of a second
            if response.status_code == 500:
                _log.exception("request_failed", operation=self.name)
        finally:
            service.overload.admitted(request.state.request_id)
        if entry is None:
            return response
        if isinstance(response, IdleResponse):
            request.state.is_quiet = True
            return response
        entry.status, entry.milliseconds = response.status_code, watch.milliseconds
        if isinstance(response, problems.ProblemResponse):
            entry.code = response.code
        try:
            await service.audit.record(entry, is_write=self.method != "GET")
        except AuditLate as late:
            return _stored_but_late(late, response) if entry.code is None else response
        return response

    async def _handled(self, call: Call[B, Q]) -> Response:
        """The answer to a call, from the replica where that may answer.

        The replica can lack what the primary has, and can go away while it is read. So whatever
        fails there is done again on the primary: the primary alone refuses.
        """
        replica = call.route.replica
        if replica is not None:
            try:
                return _with_gaps(call, await replica.answer(self.handle(call)))
            except psycopg.errors.QueryCanceled:
                raise  # the primary is no quicker
            except Exception as error:  # the primary tells whether the call fails
                if not call.route.is_replica and not isinstance(error, ReplicaAway):
                    raise
                if not isinstance(error, Refused | BadRequest):
                    replica.doubt()
            metrics.REPLICA_READS.labels("primary").inc()
            call = replace(
                call, route=Route(), past=Past(), streams=set[str](), incomplete=set[str]()
            )
        return _with_gaps(call, await self.handle(call))

    def _entry(self, request: Request, caller: Caller, watch: Watch) -> Entry:
        """The audit's entry for a request, as far as it is known with the caller."""
        return Entry(
            tenant_id=caller.tenant_id,
            request_id=request.state.request_id,
            key_id=caller.key_id,
            operation=self.name,
            user_id=caller.user_id,
            project_id=caller.project_id,
            address=request.client.host if request.client else None,
            user_agent=truncated(request.headers.get("user-agent")),
            at=watch.at,
        )

    def _admit(
        self, service: Service, request: Request, caller: Caller, body: bytes, entry: Entry
    ) -> Call[B, Q]:
        # A token names its user. `browsers` says which operations tokens may call, not the scopes.
        if caller.user_id is None and not caller.scopes.intersection(self.scopes):
            caller.require(self.scopes[0])
        if caller.user_id is not None:
            caller.require("chat")
        path = _path(request)
        parsed = _parsed(self.body, request, body)
        query = _queried(self.query, request, caller)
        _name(entry, path, parsed, query)
        _require_own(caller, path, parsed, query)
        return Call(
            service=service,
            caller=caller,
            entry=entry,
            path=path,
            body=parsed,
            query=query,
            accept=request.headers.get("accept", ""),
            accept_language=request.headers.get("accept-language", ""),
            last_event_id=request.headers.get("last-event-id"),
            if_match=request.headers.get("if-match"),
            request_id=request.state.request_id,
            address=_address(request),
            named=None if request.method == "GET" else _named(request, body),
            reads=frozenset(each.name for each in self.reads),
            route=Route(service.replica if self._asks_replica(service) else None),
        )

    def _asks_replica(self, service: Service) -> bool:
        """Whether a replica keeps up, and this operation only reads."""
        return self.method == "GET" and service.replica is not None and service.replica.follows

    async def _authenticated(self, service: Service, request: Request) -> tuple[Caller, bytes]:
        """The caller, by a signature or else by a browser's token; and the body."""
        if self.credential is not None:
            body = await self._body(service, request)
            return await self.credential.caller(service, request, body), body
        token = None
        if self.browsers and HEADER not in request.headers:
            token = _token(request)
        if token is not None:
            return service.browser_tokens.read(token), await self._body(service, request)
        signature = service.authenticator.read(request.headers.get(HEADER))
        body = await self._body(service, request)
        caller = await service.authenticator.verify(
            signature,
            method=request.method,
            path=cast(bytes, request.scope["raw_path"]),
            query=cast(bytes, request.scope["query_string"]),
            body=body,
        )
        return caller, body

    async def _body(self, service: Service, request: Request) -> bytes:
        """The whole body. A message then waits for its place: a body that comes slowly has none."""
        body = await _body(request)
        if self.begins_reply:
            await service.overload.admit(request.state.request_id)
        return body


def _stored_but_late(late: AuditLate, response: Response) -> Response:
    """The problem in place of a response, with the position at which the write is stored."""
    answer = problems.problem(late)
    if (position := response.headers.get(LOG_POSITION)) is not None:
        answer.headers[LOG_POSITION] = position
    return answer


def _with_gaps(call: Call[Any, Any], response: Response) -> Response:
    """The answer with the read models that leave out something of it."""
    if call.incomplete:
        response.headers[INCOMPLETE] = ", ".join(sorted(call.incomplete))
    return response


def _address(request: Request) -> str:
    """Where the client found the service; nothing for a client of HTTP/1.0 that does not say it."""
    host = request.headers.get("host")
    return f"{request.scope['scheme']}://{host}" if host else ""


def _token(request: Request) -> str | None:
    """The token that a browser sends.

    A token in a cookie or in the address only reads: browsers send cookies by themselves, and
    others may keep addresses.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    if request.method != "GET":
        return None
    return request.query_params.get(TICKET) or request.cookies.get(COOKIE)


_AUDITED: Final = {
    "user_id": "user_id",
    "project_id": "project_id",
    "session_id": "session_id",
    "message_id": "reply_id",
}
"""The ids that requests name, and the fields of the audit entry that keep them."""


def _name(entry: Entry, path: dict[str, str], body: object, query: object) -> None:
    """Note in the audit which user, project, session and reply the request names."""
    for name, kept_as in _AUDITED.items():
        named = (path.get(to_camel(name)), getattr(body, name, None), getattr(query, name, None))
        if (known := next((each for each in named if each is not None), None)) is not None:
            setattr(entry, kept_as, known)


def _require_own(caller: Caller, path: dict[str, str], body: object, query: object) -> None:
    """A token is for one user, and for one project unless it names none. Raises NotYours,
    ProjectUnknown."""
    if caller.user_id is None:
        return
    users = {getattr(asked, "user_id", None) for asked in (body, query)}
    if not users | {path.get("userId")} <= {None, caller.user_id}:
        raise NotYours
    if caller.project_id is None:
        return
    projects = {getattr(asked, "project_id", None) for asked in (body, query)}
    if not projects | {path.get("projectId")} <= {None, caller.project_id}:
        raise ProjectUnknown


async def _body(request: Request) -> bytes:
    """The whole body. Raises BadRequest when it is cut off or too slow."""
    try:
        async with asyncio.timeout(connection_limits.BODY_SECONDS):
            return await _received(request)
    except TimeoutError:
        detail = f"Send the whole body within {connection_limits.BODY_SECONDS:.0f} seconds."
        raise BadRequest(408, "body_too_slow", detail) from None
    except ClientDisconnect:
        detail = "The connection ended before the body did."
        raise BadRequest(400, "body_cut_off", detail) from None


async def _received(request: Request) -> bytes:
    """The whole body. Raises BadRequest as soon as it is too large."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > LARGEST_BODY:
            raise BadRequest(
                413, "body_too_large", f"A body has at most {LARGEST_BODY} bytes; send less."
            )
    return bytes(received)


def _named(request: Request, body: bytes) -> IdempotencyKey | None:
    """The name that the client gave to the request, if any: the same key is the same request."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        detail = "An Idempotency-Key has 1 to 255 visible ASCII characters."
        raise BadRequest(422, "bad_idempotency_key", detail)
    scope = request.scope
    asked = (request.method.encode(), scope["raw_path"], scope["query_string"], body)
    fingerprint = sha256(b"\n".join(sha256(each).digest() for each in asked))
    return IdempotencyKey(key=key, fingerprint=fingerprint.hexdigest())


def routed_path(raw_path: bytes) -> str:
    """The path that routes are compared with: decoded, but for the slashes and per cent signs in
    its parts, so that an id may have any character."""
    parts = (unquote(part) for part in raw_path.decode("latin-1").split("/"))
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def _path(request: Request) -> dict[str, str]:
    try:
        return {
            name: _ID.validate_python(value.replace("%2F", "/").replace("%25", "%"))
            for name, value in request.path_params.items()
        }
    except ValidationError as error:
        raise problems.invalid(error) from None


def _parsed(model: type[B], request: Request, body: bytes) -> B:
    """The body as the operation declares it. Raises BadRequest."""
    if not issubclass(model, BaseModel):
        return cast(B, None)
    media_type = request.headers.get("content-type", "application/json").split(";")[0].strip()
    if media_type.lower() != "application/json":
        raise BadRequest(415, "not_json", "Send the body as application/json.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest(400, "bad_json", "The body is not JSON in UTF-8.") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise problems.invalid(error) from None


def _queried(model: type[Q], request: Request, caller: Caller) -> Q:
    """The query as the operation declares it. Raises BadRequest."""
    if not issubclass(model, Query):
        return cast(Q, None)
    try:
        asked: dict[str, Any] = dict(request.query_params)
        if caller.user_id is not None:
            asked.pop(TICKET, None)
            if "user_id" in model.model_fields:
                asked.setdefault("userId", caller.user_id)
        for name in model.repeated & asked.keys():
            asked[name] = request.query_params.getlist(name)
        if "min_position" in model.model_fields and "x-min-position" in request.headers:
            asked.setdefault("minPosition", request.headers["x-min-position"])
        return model.model_validate(asked)
    except ValidationError as error:
        raise problems.invalid(error) from None


AnyOperation: TypeAlias = Operation[Any, Any]
"""An operation among others: its handler was checked against its types where it was declared."""


class IdleResponse(Response):
    """The answer to a poll that has waited and found nothing. Such polls come for ever, so the
    audit has no entry of them, and the log has none at level info."""


def answered(
    answer: BaseModel,
    *,
    position: int,
    status: int = 200,
    headers: Mapping[str, str] = MappingProxyType({}),
    is_idle: bool = False,
) -> Response:
    """An answer in JSON, with the position of the log that it holds for."""
    kind = IdleResponse if is_idle else Response
    return kind(
        orjson.dumps(dumped(answer)),
        status,
        media_type="application/json",
        headers={LOG_POSITION: str(position), **headers},
    )
