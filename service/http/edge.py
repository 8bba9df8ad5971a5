"""The outermost part of each request and answer: an id, security headers, a log line."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http import security_headers
from service.http.operation import Operation, routed_path
from service.ids import new_id
from service.ops import metrics, tracing
from service.ops.tracing import Span

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
        tracing.follow(tracing.of_caller(scope["headers"]))
        # Probes ask for the health every few seconds: their traces would hide all others.
        is_call = scope["path"].startswith("/v1/")
        with tracing.span("request", kind="server", begins_trace=is_call) as span:
            ids = {"request_id": request_id, "trace_id": tracing.trace_id()}
            known = {name: value for name, value in ids.items() if value is not None}
            structlog.contextvars.bind_contextvars(**known)
            await self._app(scope, receive, _at_edge(scope, request_id, send, span))


def _at_edge(
    scope: Scope, request_id: str, send: Send, span: Span
) -> Callable[[Message], Awaitable[None]]:
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
            _describe(span, scope, message["status"])
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


def _describe(span: Span, scope: Scope, status_code: int) -> None:
    """Say what was asked and answered. The path and the query are left out: a ticket may be in the
    one, and the token of a shared plan in the other."""
    endpoint: Any = scope.get("endpoint")
    method, state = scope["method"], scope["state"]
    route = endpoint.path if isinstance(endpoint, Operation) else None
    span.rename(f"{method} {route}" if route else method)
    span.set(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status_code,
            "throughline.request.id": state["request_id"],
            "throughline.tenant.id": state.get("tenant_id"),
        }
    )
    if status_code >= 500:
        span.fail(str(status_code))
