"""A trace begins at the caller and goes through request, turn and model into the events."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from structlog.testing import capture_logs

from service.cli import failures
from service.model.offline.app import OfflineModel
from service.ops import tracing
from tests.running import LiveService, events_of, running
from tests.service.law import GatedModel
from tests.service.webhooks.receiver import Receiver, receiving

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER: Final = "00f067aa0ba902b7"
SAMPLED: Final = f"00-{TRACE}-{CALLER}-01"
SAID: Final = "Add a login page for zebras"


class Asked(OfflineModel):
    """A model that keeps the traceparent of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.traceparents: list[str | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer."""
        headers = dict(scope["headers"])
        found = headers.get(b"traceparent")
        self.traceparents.append(found and found.decode())
        await super().__call__(scope, receive, send)


class Collector:
    """What a collector was sent by OTLP over HTTP."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.url = receiver.url.removesuffix("/take")

    def spans(self) -> list[Span]:
        """All spans so far."""
        requests = [
            ExportTraceServiceRequest.FromString(each.body) for each in self._receiver.deliveries
        ]
        resources = [each for request in requests for each in request.resource_spans]
        for each in resources:
            assert attributes(each.resource)["service.name"] == "throughline"
        return [span for each in resources for scope in each.scope_spans for span in scope.spans]

    def trace(self) -> dict[str, Span]:
        """The spans of the trace by their names."""
        return {each.name: each for each in self.spans() if each.trace_id.hex() == TRACE}

    def parents(self, name: str) -> set[bytes]:
        """The spans above all spans of this name in the trace."""
        return {
            each.parent_span_id
            for each in self.spans()
            if each.name == name and each.trace_id.hex() == TRACE
        }

    def sent(self) -> bytes:
        """All bytes that arrived."""
        return b"".join(each.body for each in self._receiver.deliveries)


def attributes(of: Any) -> dict[str, Any]:
    """The attributes of a span or a resource, by name."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@asynccontextmanager
async def collecting() -> AsyncGenerator[Collector]:
    """A collector on a port of its own."""
    async with receiving() as receiver:
        yield Collector(receiver)


async def ask(run: LiveService, traceparent: str, message: str = SAID) -> httpx.Response:
    body = {"userId": "u1", "projectId": "p1", "message": message}
    headers = {"traceparent": traceparent}
    return await run.client.post("/v1/chat-plan", json=body, headers=headers)


async def stored(run: LiveService) -> dict[str, str | None]:
    """The traceparent of the newest event of each type, as a CloudEvent has it."""
    page = (await run.client.get("/v1/events?limit=500")).json()["events"]
    return {each["type"]: each.get("traceparent") for each in page}


async def test_request_turn_and_model_call_are_one_trace_which_the_caller_began(url: str) -> None:
    model = Asked()
    async with collecting() as collector:
        async with running(url, model, otlp_endpoint=collector.url) as run:
            await run.project()
            await run.credit()
            answer = await ask(run, SAMPLED)
            events = await stored(run)
        spans = collector.trace()
        parents = collector.parents("append")
        sent = collector.sent()
    request, turn = spans["POST /v1/chat-plan"], spans["turn"]
    call = spans["chat offline"]
    assert spans.keys() == {request.name, "turn", "prepare", "append", call.name}
    assert request.parent_span_id.hex() == CALLER
    assert turn.parent_span_id == request.span_id
    assert spans["prepare"].parent_span_id == call.parent_span_id == turn.span_id
    assert parents == {request.span_id, turn.span_id}
    asked, written = attributes(request), attributes(turn)
    assert asked["http.route"] == "/v1/chat-plan"
    assert asked["http.response.status_code"] == 200
    assert asked["throughline.tenant.id"] == "t1"
    assert asked["throughline.request.id"] == answer.headers["x-request-id"]
    assert written["throughline.reply.id"] == answer.json()["messageId"]
    assert written["throughline.session.mode"] == "plan"
    assert written["throughline.reply.subtype"] == "success"
    assert written["throughline.reply.first_text_ms"] >= 0
    called = attributes(call)
    assert (called["gen_ai.request.model"], called["gen_ai.provider.name"]) == (
        "offline",
        "anthropic",
    )
    assert "end_turn" in str(called["gen_ai.response.finish_reasons"])
    for name in ("gen_ai.usage.output_tokens", "gen_ai.usage.input_tokens"):
        assert written[name] == called[name] > 0
    whole = written["gen_ai.usage.input_tokens"] + written["gen_ai.usage.output_tokens"]
    assert whole == answer.json()["metadata"]["tokens_used"]
    assert model.traceparents == [f"00-{TRACE}-{call.span_id.hex()}-01"]
    of_request = f"00-{TRACE}-{request.span_id.hex()}-01"
    assert events["UserMessagePosted"] == events["ReplyCompleted"] == of_request
    assert events["TimeConsumed"] == of_request
    assert events["ProjectRegistered"] not in (None, of_request), "a trace of its own"
    for text in (b"zebras", b"(offline model)"):
        assert text not in sent, "a span has no texts"


async def test_a_caller_that_does_not_sample_gets_no_spans_but_its_trace_in_the_events(
    url: str,
) -> None:
    async with collecting() as collector:
        async with running(url, otlp_endpoint=collector.url) as run:
            await run.project()
            await run.credit()
            await ask(run, f"00-{TRACE}-{CALLER}-00")
            events = await stored(run)
        assert collector.trace() == {}
        assert collector.spans(), "the other requests"
    found = events["ReplyCompleted"]
    assert found is not None
    assert (found[:36], found[-3:]) == (f"00-{TRACE}-", "-00")


async def test_a_reply_that_fails_and_a_request_without_a_route_are_marked(url: str) -> None:
    async with collecting() as collector:
        async with running(url, otlp_endpoint=collector.url) as run:
            await run.project()
            await run.credit()
            await ask(run, SAMPLED, "Hello [[offline: refusal]]")
            await run.client.get("/v1/zebras?ticket=zebras")
            await run.client.get("/healthz")
        turn, call = collector.trace()["turn"], collector.trace()["chat offline"]
        (lost,) = [each for each in collector.spans() if each.name == "GET"]
        sent = collector.sent()
    assert turn.status.code == call.status.code == Status.STATUS_CODE_ERROR
    assert attributes(turn)["error.type"] == attributes(call)["error.type"] == "refused"
    assert attributes(lost)["http.response.status_code"] == 404
    assert b"zebras" not in sent, "a path or a query may have a secret"


async def test_a_reply_that_another_server_begins_anew_stays_in_its_trace(url: str) -> None:
    model = GatedModel()
    async with collecting() as collector:
        async with running(url, model, otlp_endpoint=collector.url, grace_seconds=0.01) as run:
            await run.project()
            await run.credit()
            body = {"userId": "u1", "projectId": "p1", "message": SAID}
            headers = {"traceparent": SAMPLED, "Accept": "text/event-stream"}
            async with run.client.stream(
                "POST", "/v1/chat-plan", json=body, headers=headers
            ) as answer:
                await model.asked.wait()
                run.server.handle_exit(15, None)
                left = events_of((await answer.aread()).decode())
            model.go.set()
        assert left[-1][0] == "goaway"
        before = collector.trace()
        async with running(url, otlp_endpoint=collector.url) as run:
            ended = await run.join(answer.headers["Location"].rpartition("/")[2])
            events = await stored(run)
        turns = [each for each in collector.spans() if each.name == "turn"]
    assert ended[-1][1]["subtype"] == "success"
    assert [each.trace_id.hex() for each in turns] == [TRACE, TRACE]
    request = before["POST /v1/chat-plan"]
    assert {each.parent_span_id for each in turns} == {request.span_id}
    assert events["ReplyCompleted"] == f"00-{TRACE}-{request.span_id.hex()}-01"


async def test_without_a_collector_a_trace_is_in_the_log_and_the_events_and_goes_no_further(
    url: str,
) -> None:
    model = Asked()
    async with running(url, model) as run:
        await run.project()
        await run.credit()
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            await ask(run, SAMPLED)
        events = await stored(run)
        assert events["UserMessagePosted"] == events["ReplyCompleted"] == SAMPLED
        assert events["ProjectRegistered"] is None
        assert {each["event"] for each in lines if each.get("trace_id") == TRACE} == {
            "request",
            "reply_ended",
        }
        assert set(model.traceparents) == {None}
        await ask(run, "00-no-trace-01")
        assert (await stored(run))["ReplyCompleted"] is None


IDS = f"{TRACE}-{CALLER}-01"


@pytest.mark.parametrize(
    ("header", "read"),
    [
        (f"00-{IDS}", f"00-{IDS}"),
        (f"cc-{IDS}", f"00-{IDS}"),
        (f"cc-{IDS}-later", f"00-{IDS}"),
        (f"00-{IDS}-later", None),
        (f"ff-{IDS}", None),
        (f"00-{IDS}".upper(), None),
        (f"00-{'0' * 32}-{CALLER}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{IDS}\n", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(header: str, read: str | None) -> None:
    assert tracing.parsed(header) == read


def test_a_collector_without_the_packages_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracing.require_installed("http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    tracing.require_installed(None)
    with pytest.raises(tracing.TracingMissing) as missing:
        tracing.require_installed("http://127.0.0.1:4318")
    explained = failures.explained(missing.value)
    assert explained is not None
    assert explained[1] == failures.WRONG_USE
    assert "pip install opentelemetry-sdk" in explained[0][0]
