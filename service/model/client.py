"""The model, through the official `anthropic` SDK: one call at a time, its text as it comes.

The SDK retries nothing for us (`max_retries=0`): whether a call may be made again depends on what
the reader has been shown, which only the turn knows. Every way in which a call can end badly
becomes one `ModelError`, whose kind says what can be done about it.
"""

import asyncio
import re
import ssl
from asyncio import CancelledError
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from time import monotonic_ns
from types import MappingProxyType
from typing import Any, Final, Literal, cast

import anthropic
import httpx2
import orjson
import structlog
from anthropic import AsyncStream
from anthropic.types import (
    Message,
    MessageParam,
    RawMessageStreamEvent,
    TextBlockParam,
    ToolParam,
)
from anthropic.types.message_create_params import MessageCreateParamsStreaming

from domain.metering import Usage
from domain.replies.contracts import reply_schema
from domain.replies.questions import Question
from domain.replies.tools import LOOKS_A_ROUND, ToolCall, ToolUse
from service.concurrency.retry import retry_after
from service.model.events import ServerSentEvent, Splitter
from service.model.surrogates import Pairs
from service.ops import tracing
from service.ops.tracing import Span, Value

TIMEOUT: Final = httpx2.Timeout(None, connect=5.0)
"""The limits of the SDK's HTTP client: only the time to connect has a limit. `ModelClient` limits
how long the provider may be silent. A limit in the HTTP client would move a timer with every piece
of data that the client reads."""

Kind = Literal["transient", "permanent", "refused", "truncated"]

_PASSING: Final = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
_LATE_ERRORS: Final = frozenset({"overloaded_error", "rate_limit_error", "api_error"})
_MOST_TOKENS: Final = 2**28
_LARGEST_INPUT: Final = 64 * 1024
_LONGEST_RETRY_AFTER: Final = 24 * 60 * 60.0
_GRAIN_SECONDS: Final = 0.05
_KEY_SECONDS: Final = 5.0
_LONGEST_MESSAGE: Final = 200
_KEYS: Final = re.compile(r"\bsk-[\w*-]+|\b[\w-]{32,}")
_REFUSED_KEY: Final = frozenset({401, 403})
_KEY_ERRORS: Final = frozenset({"authentication_error", "permission_error"})
_ENDED: Final = frozenset({"end_turn", "stop_sequence"})
_IGNORED: Final = frozenset({b"", b"ping"})
_TRUNCATED: Final = frozenset({"max_tokens", "model_context_window_exceeded"})

_Stream = AsyncStream[RawMessageStreamEvent]

_log = structlog.stdlib.get_logger(__name__)


@cache
def trusted_certificates() -> ssl.SSLContext:
    """The certificates that this machine trusts, for the SDK's HTTP client.

    A process loads them once: it takes 30 ms. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
    """
    return httpx2.create_ssl_context()


async def refused_key(client: anthropic.AsyncAnthropic) -> str | None:
    """A line about a key that the provider refuses, asked by a list of one model; else None.

    Everything else is no fault of the key, and is logged as one warning.
    """
    try:
        await client.models.list(limit=1, timeout=_KEY_SECONDS)
    except (anthropic.AuthenticationError, anthropic.PermissionDeniedError) as error:
        said = " ".join(str(each) for each in described(error).values())
        _log.error("provider_refused_key", **described(error))
        return f"The provider refuses the key ({said}): replies will fail. Set ANTHROPIC_API_KEY."
    except anthropic.NotFoundError:
        return None  # a gateway that only knows messages
    except anthropic.APIError as error:
        _log.warning("model_not_asked", **described(error))
    return None


def described(error: BaseException) -> dict[str, Any]:
    """What the provider said of a failed call, for the log: its status, its own message, at most
    200 characters long, and its id of the request."""
    if not isinstance(error, anthropic.APIError):
        return {"why": type(error).__name__}
    if isinstance(error, anthropic.APIStatusError):
        body: Any = error.body
        inner: Any = _member(body, "error") or body
        said = str(_member(inner, "message") or "")
        facts = {
            "answer_status": error.status_code,
            "answer_text": _one_line(said),
            "answer_id": (error.request_id or "")[:_LONGEST_MESSAGE],
        }
        return {name: value for name, value in facts.items() if value}
    cause = error.__cause__ or error
    return {"why": f"{type(cause).__name__}: {_one_line(str(cause))}"}


def _member(value: Any, name: str) -> Any:
    return cast(dict[str, Any], value).get(name) if isinstance(value, dict) else None


def _one_line(text: str) -> str:
    """A text of the provider in one line, without anything that looks like a key."""
    return _KEYS.sub("***", " ".join(text.split()))[:_LONGEST_MESSAGE]


class ModelError(Exception):
    """A model call ended badly. `transient`: the same call may go well later.

    `retry_after` is for how many seconds the provider does not want to be asked, if it said so.
    `said` is what the log gets of the provider's own answer.
    """

    def __init__(
        self,
        kind: Kind,
        code: str,
        retry_after: float | None = None,
        said: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(code)
        self.kind, self.code, self.retry_after, self.said = kind, code, retry_after, said


@dataclass(slots=True)
class ModelCall:
    """What one call came to, filled in while it runs. Times are of the monotonic clock, in ns.

    `uses` are the tools that the model calls; its answer comes after them, in another call.
    """

    started_ns: int = field(default_factory=monotonic_ns)
    ended_ns: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    stop_reason: str | None = None
    uses: list[ToolUse] = field(default_factory=list[ToolUse])

    @property
    def duration_ns(self) -> int:
        """How long the call has taken, until its end or until now."""
        return (self.ended_ns or monotonic_ns()) - self.started_ns

    @property
    def has_ended_its_turn(self) -> bool:
        """Whether the model wrote all that it wanted to write."""
        return self.stop_reason in _ENDED

    @property
    def usage(self) -> Usage:
        """The tokens that the provider reported."""
        return Usage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cache_read_tokens=self.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens,
        )


class ModelClient:
    """Asks the model. Owned by the service's loop; calls are independent of each other."""

    def __init__(
        self,
        client: anthropic.AsyncAnthropic,
        *,
        model: str,
        max_tokens: int,
        first_text_seconds: float,
        next_text_seconds: float,
    ) -> None:
        self.model = model
        self._client = client
        self._max_tokens = max_tokens
        self._first_text_seconds = first_text_seconds
        self._next_text_seconds = next_text_seconds

    async def ask(self, question: Question, call: ModelCall) -> AsyncGenerator[str, None]:
        """The pieces of the reply's text as they come; returns when the model ended its turn.

        Where the model calls tools, they are in `call.uses`. Raises ModelError for every other end.
        Silence is measured in what the model writes: pings do not break it, and the time that the
        caller takes between two pieces does not count.
        """
        call.started_ns = monotonic_ns()
        written: dict[int, _Written] = {}
        pairs = Pairs()
        silence = _Silence(self._first_text_seconds)
        model = question.model or self.model
        span = tracing.span(f"chat {model}", kind="client")
        try:
            async with silence, await self._open(question, span) as stream:
                splitter = Splitter()
                async for data in body(stream.response):
                    for event in _events(splitter.feed(data), stream.response):
                        if event["type"] == "content_block_delta":
                            silence.restart(self._next_text_seconds)
                        text = pairs.join(_read(event, call, written))
                        if event["type"] == "content_block_stop":
                            text = pairs.end()
                        if text:
                            silence.pause()
                            yield text
                            silence.resume()
            _require_good_end(call)
            call.uses += _uses(written, call)
        except Exception as error:
            # The provider's name for the error is ours from here on; the cause goes along.
            failed = _model_error(error)
            span.fail(failed.code)
            raise failed from error
        finally:
            call.ended_ns = monotonic_ns()
            span.set(_span_attributes(call, model))
            span.end()

    async def _open(self, question: Question, span: Span) -> _Stream:
        """The SDK would copy each part of the body before it encodes the body, which takes longer
        than all else for a long session. So the SDK gets the body as bytes."""
        sent = span.traceparent
        return await self._client.post(
            "/v1/messages",
            content=orjson.dumps(self._body(question)),
            options={} if sent is None else {"headers": {"traceparent": sent}},
            cast_to=Message,
            stream=True,
            stream_cls=_Stream,
        )

    def _body(self, question: Question) -> MessageCreateParamsStreaming:
        body: MessageCreateParamsStreaming = {
            "model": question.model or self.model,
            "max_tokens": question.max_tokens or self._max_tokens,
            "system": _system(question),
            "messages": _messages(question),
            "stream": True,
        }
        if question.contracts:
            schema = reply_schema(question.contracts)
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if question.tools:
            body["tools"] = _tools(question)
            if not question.may_call_tools:
                # Once tools were called they must go along, also when none may be called any more.
                body["tool_choice"] = {"type": "none"}
        return body


def _span_attributes(call: ModelCall, model: str) -> dict[str, Value]:
    """What the conventions for generative AI say of a call (opentelemetry.io, "GenAI spans")."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": model,
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": [call.stop_reason] if call.stop_reason else None,
        **usage_attributes(call.usage),
    }


def usage_attributes(usage: Usage) -> dict[str, Value]:
    """The tokens by the same conventions: there the input includes what the cache has of it."""
    parts = (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
    return {
        "gen_ai.usage.input_tokens": None if parts[0] is None else sum(each or 0 for each in parts),
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
    }


class _Silence:
    """Limits how long the provider may write nothing. Raises TimeoutError where it is entered.

    `asyncio.timeout` would go on while the caller works, and would then cancel the caller. Its
    timer is also moved for every piece, which costs more than reading the piece. Here the timer is
    never later than `_deadline`, and moves itself when it comes too early. While the caller works,
    `_paused_at` is set, and the deadline moves on afterwards.
    """

    _task: asyncio.Task[Any]
    _timer: asyncio.TimerHandle

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._paused_at: float | None = None
        self._is_over = False

    def restart(self, seconds: float) -> None:
        """Give the next text its time, from now on."""
        self._deadline = self._loop.time() + seconds
        if self._deadline < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def pause(self) -> None:
        """Stop the clock: the caller works."""
        self._paused_at = self._loop.time()

    def resume(self) -> None:
        """Start the clock again: the provider is waited for."""
        assert self._paused_at is not None
        self._deadline += self._loop.time() - self._paused_at
        self._paused_at = None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._is_over and self._task.uncancel() <= self._cancelling and kind is CancelledError:
            raise TimeoutError

    def _on_timer(self) -> None:
        if self._paused_at is not None:
            left = max(self._deadline - self._paused_at, _GRAIN_SECONDS)
            self._timer = self._loop.call_later(left, self._on_timer)
        elif self._deadline > self._loop.time():
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
        else:
            self._is_over = True
            self._task.cancel()


def _system(question: Question) -> list[TextBlockParam]:
    """Two cache marks: after what all share, and after what a project shares."""
    return [
        {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
        for text in (question.rules, question.project)
        if text
    ]


def _messages(question: Question) -> list[MessageParam]:
    """The turns, with a cache mark on the last turn that the next question will share.

    A turn is a plain string, the API's short form of one text block: in a long session the SDK
    takes seven times longer for blocks.
    """
    messages = [
        cast(MessageParam, {"role": turn.role, "content": turn.text}) for turn in question.turns
    ]
    if len(messages) > 1:
        block: TextBlockParam = {
            "type": "text",
            "text": question.turns[-2].text,
            "cache_control": {"type": "ephemeral"},
        }
        messages[-2]["content"] = [block]
    for calls in question.rounds:
        messages += _round(calls)
    return messages


def _round(calls: tuple[ToolCall, ...]) -> tuple[MessageParam, MessageParam]:
    """The tools that the model called, and their results."""
    asked: list[Any] = [
        {"type": "tool_use", "id": each.use.id, "name": each.use.name, "input": each.use.input}
        for each in calls
    ]
    results: list[Any] = [
        {
            "type": "tool_result",
            "tool_use_id": each.use.id,
            "content": each.text,
            "is_error": each.is_error,
        }
        for each in calls
    ]
    return {"role": "assistant", "content": asked}, {"role": "user", "content": results}


def _tools(question: Question) -> list[ToolParam]:
    return [
        {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
        for tool in question.tools
    ]


@dataclass(slots=True)
class _Written:
    """A tool that the model is calling: its input is JSON in the making."""

    id: str
    name: str
    json: str = ""
    pairs: Pairs = field(default_factory=Pairs)


def _uses(written: dict[int, _Written], call: ModelCall) -> list[ToolUse]:
    """The tools that are called, if the model waits for them. Raises what reading their inputs
    raises."""
    if call.stop_reason != "tool_use":
        return []
    if not written:
        raise ModelError("transient", "provider_unreadable")
    return [
        ToolUse(id=each.id, name=each.name, input=orjson.loads(each.json or "{}"))
        for each in list(written.values())[:LOOKS_A_ROUND]
    ]


def body(response: httpx2.Response) -> AsyncIterable[bytes]:
    """The bytes of a response. Bytes that are not compressed come from the stream of the response
    itself: the HTTP client's own reading would put several generators around this stream."""
    if "content-encoding" in response.headers or not isinstance(
        response.stream, httpx2.AsyncByteStream
    ):
        return response.aiter_bytes()
    return response.stream


def _events(
    found: Iterable[ServerSentEvent], response: httpx2.Response
) -> Iterator[dict[str, Any]]:
    """The events of a reply, as JSON and not as the SDK's models: to build a model takes longer
    than all other work on the event.

    An error event raises what the SDK's stream raises.
    """
    for each in found:
        if each.name == b"error":
            raise _late_error(each.data, response)
        if each.name not in _IGNORED and each.data:
            yield each.json()


def _late_error(data: bytes, response: httpx2.Response) -> anthropic.APIStatusError:
    text = data.decode(errors="replace")
    try:
        body = orjson.loads(data)
    except ValueError:
        body = text
    return anthropic.APIStatusError(text, response=response, body=body)


def _read(event: dict[str, Any], call: ModelCall, written: dict[int, _Written]) -> str:
    """Note what the event says of the call; returns the text that it brings, or nothing.

    Raises whatever reading raises where the event has another shape than it should have.
    """
    match event["type"]:
        case "content_block_delta":
            delta = event["delta"]
            if delta["type"] == "input_json_delta":
                _write(written[event["index"]], delta["partial_json"])
            # Joined, because nobody checked what was read: a value that is no text fails here.
            return "".join((delta.get("text") or "",)) if delta["type"] == "text_delta" else ""
        case "content_block_start" if event["content_block"]["type"] == "tool_use":
            block = event["content_block"]
            written[event["index"]] = _Written("".join((block["id"],)), "".join((block["name"],)))
        case "message_start":
            _count(event["message"].get("usage"), call)
            # The start has a placeholder for the output's count; only the end knows it.
            call.output_tokens = None
        case "message_delta":
            call.stop_reason = event["delta"].get("stop_reason")
            _count(event.get("usage"), call)
        case _:
            pass
    return ""


def _write(use: _Written, piece: str) -> None:
    use.json += use.pairs.join(piece)
    if len(use.json) > _LARGEST_INPUT:
        raise ModelError("transient", "provider_unreadable")


def _count(usage: Any, call: ModelCall) -> None:
    """Take over the counts that were sent; the later ones are cumulative. A value that is no count,
    or more than any call can use, is as good as not sent."""
    for ours, theirs in (
        ("input_tokens", "input_tokens"),
        ("output_tokens", "output_tokens"),
        ("cache_read_tokens", "cache_read_input_tokens"),
        ("cache_write_tokens", "cache_creation_input_tokens"),
    ):
        count: Any = _member(usage, theirs)
        if type(count) is int and 0 <= count <= _MOST_TOKENS:
            setattr(call, ours, count)


def _require_good_end(call: ModelCall) -> None:
    """A stream that merely stops looks like success to the SDK; a turn that ended says so."""
    if call.stop_reason is None:
        raise ModelError("transient", "provider_broke_off")
    if call.stop_reason == "refusal":
        raise ModelError("refused", "refused")
    if call.stop_reason in _TRUNCATED:
        raise ModelError("truncated", "truncated")


def _model_error(error: Exception) -> ModelError:
    match error:
        case ModelError():
            return error
        case TimeoutError() | anthropic.APITimeoutError():
            return ModelError("transient", "provider_silent")
        case anthropic.APIStatusError():
            return _status_error(error)
        case anthropic.APIConnectionError() | httpx2.HTTPError():
            return ModelError("transient", "provider_unreachable", said=described(error))
        case _:
            # Whatever the stream said, only reading it went wrong.
            return ModelError("transient", "provider_unreadable")


def _status_error(error: anthropic.APIStatusError) -> ModelError:
    """An error event in the stream comes as a status error with status 200: its type tells."""
    passing = error.status_code in _PASSING or (
        error.status_code == 200 and error.type in _LATE_ERRORS
    )
    if not passing:
        is_key = error.status_code in _REFUSED_KEY or error.type in _KEY_ERRORS
        code = "provider_refused_key" if is_key else "provider_refused_request"
        return ModelError("permanent", code, said=described(error))
    busy = error.status_code in (429, 529) or error.type in ("overloaded_error", "rate_limit_error")
    code = "provider_busy" if busy else "provider_failed"
    seconds = retry_after(error.response.headers.get("retry-after"), _LONGEST_RETRY_AFTER)
    return ModelError("transient", code, seconds, described(error))
