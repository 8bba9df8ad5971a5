"""Traces: a span for each request, turn and append, for a collector that speaks OTLP over HTTP.

Off, nothing of OpenTelemetry is imported here, and a span does nothing. The `traceparent` of a
caller (w3.org/TR/trace-context) is followed on or off: the events and the log lines of its request
have it. On, the request's own span takes the caller's place in it.

An attribute is an id, a number or a name of ours, and never a text that somebody wrote.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

Value: TypeAlias = str | int | float | bool | Sequence[str] | None
Kind: TypeAlias = Literal["server", "internal", "client"]

_IDS: Final = "(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT: Final = re.compile(rf"(?:00(?=.{{53}}\Z)|(?!00|ff)[0-9a-f]{{2}})-({_IDS})(?:-.*)?")
"""Version 00 has nothing after the flags; what later versions have there is not for us."""

_followed: ContextVar[str | None] = ContextVar("traceparent", default=None)


class TracingMissing(RuntimeError):
    """The packages of OpenTelemetry are not installed."""


class Span:
    """A span that nobody records.

    Used with `with`, what begins inside of it is its child. Otherwise `end` ends it.
    """

    @property
    def traceparent(self) -> str | None:
        """What the next service is told; None where spans are not recorded."""
        return None

    def end(self) -> None:
        """It has ended."""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Note what is known by now. An attribute of None is left out."""

    def rename(self, name: str) -> None:
        """Give it another name than it began with."""

    def fail(self, reason: str) -> None:
        """Mark it as failed, for a reason that is a code."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        pass


_NONE: Final = Span()


class _Recorded(Span):
    """A span that is sent to the collector when it has ended."""

    def __init__(self, tracer: "Tracer", name: str, kind: Kind) -> None:
        from opentelemetry.trace import SpanKind

        self._span = tracer.start_span(name, kind=SpanKind[kind.upper()])

    @property
    def traceparent(self) -> str | None:
        from opentelemetry.trace import set_span_in_context

        return _written(set_span_in_context(self._span))

    def end(self) -> None:
        self._span.end()

    def set(self, attributes: Mapping[str, Value]) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("error.type", reason)
        self._span.set_status(Status(StatusCode.ERROR))

    def __enter__(self) -> Self:
        from opentelemetry import context, trace

        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        from opentelemetry import context

        context.detach(self._token)
        if kind is not None and not issubclass(kind, asyncio.CancelledError):
            self.fail(kind.__name__)  # its message may have a text
        self.end()


_providers: list["TracerProvider"] = []
"""Where spans go: to the last of them. Empty when tracing is off."""


def require_installed(endpoint: str | None) -> None:
    """Raises TracingMissing where traces are asked for and cannot be sent."""
    if endpoint is None:
        return
    try:
        import_module("opentelemetry.sdk.trace")
        import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ModuleNotFoundError:
        raise TracingMissing(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed."
            " Leave the variable out, or:"
            " pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        ) from None


@asynccontextmanager
async def exporting(endpoint: str | None, version: str) -> AsyncGenerator[None]:
    """Send spans to the collector. At the end, send the spans that are left.

    Everything else than the address is by the variables of OpenTelemetry's SDK.
    """
    if endpoint is None:
        yield
        return
    provider = _provider(endpoint, version)
    _providers.append(provider)
    try:
        yield
    finally:
        _providers.remove(provider)
        await asyncio.to_thread(provider.shutdown)


def _provider(endpoint: str, version: str) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.version": version})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "throughline"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def of_caller(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Where the caller is in a trace. What is no `traceparent` counts as none."""
    for name, value in headers:
        if name == b"traceparent":
            return parsed(value.decode("latin-1"))
    return None


def parsed(header: str) -> str | None:
    """The `traceparent` of a caller, as version 00; None where it is none."""
    found = _TRACEPARENT.fullmatch(header)
    return f"00-{found[1]}" if found else None


def follow(traceparent: str | None) -> None:
    """Let what this task begins from now on be of this trace; of none for None."""
    _followed.set(traceparent)
    if _providers:
        from opentelemetry import context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {} if traceparent is None else {"traceparent": traceparent}
        # Never detached: it ends with the task.
        context.attach(TraceContextTextMapPropagator().extract(carrier, context.Context()))


def traceparent() -> str | None:
    """Where this task is in its trace, if it is in one."""
    return _written(None) if _providers else _followed.get()


def _written(context: "Context | None") -> str | None:
    """The `traceparent` of a context, or of this task for None."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context)
    return carrier.get("traceparent")


def trace_id() -> str | None:
    """The id of the trace of this task, for the log."""
    here = traceparent()
    return None if here is None else here.split("-")[1]


def span(name: str, *, kind: Kind = "internal", begins_trace: bool = False) -> Span:
    """A span of the trace of this task. Without a trace there is none, unless it begins one."""
    if not _providers or not (begins_trace or traceparent()):
        return _NONE
    return _Recorded(_providers[-1].get_tracer("throughline"), name, kind)
