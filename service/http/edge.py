"""The outermost part of each request and answer: an id, security headers, a log line."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http import security_headers
from service.http.operation import Operation, routed_path
from service.ids import new_id
from service.ops import metrics

_log = structlog.stdlib.get_logger(__name__)


class Edge:
    """What goes around each request and answer: an id, in the answer and in every log line, the
    headers that browsers keep to, and one line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, without a look at the query string and the bodies."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id()
        scope["path"] = routed_path(scope["raw_path"])
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        await self._app(scope, receive, _at_edge(scope, request_id, send))


def _at_edge(scope: Scope, request_id: str, send: Send) -> Callable[[Message], Awaitable[None]]:
    began = perf_counter()

    async def at_edge(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", [])
            message["headers"] = [
                *headers,
                *security_headers.missing(headers),
                (b"x-request-id", request_id.encode()),
            ]
            _count(scope, message["status"], perf_counter() - began)
        await send(message)

    return at_edge


def _count(scope: Scope, status_code: int, seconds: float) -> None:
    endpoint: Any = scope.get("endpoint")
    operation = endpoint.name if isinstance(endpoint, Operation) else "other"
    is_quiet = scope["state"].get("is_quiet", False)
    metrics.REQUESTS.labels(operation, scope["method"], str(status_code)).inc()
    if not is_quiet:
        metrics.REQUEST_SECONDS.labels(operation).observe(seconds)
    write = _log.debug if is_quiet else _log.info
    write(
        "request",
        operation=operation,
        method=scope["method"],
        status=status_code,
        milliseconds=round(seconds * 1_000, 1),
    )
