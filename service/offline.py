"""The offline model: the Messages API's wire format without a model, a key or a network.

It is an ASGI application. It answers `POST /v1/messages`, streamed or whole, from prepared texts,
so that a demonstration, a test or a benchmark goes through the real SDK over real HTTP. The same
request gives the same bytes, but for the tokens that were read from the cache meanwhile.

The user's message is the last paragraph of the last user text that comes with no tool result; what
stands before it is taken for context. `Reply in ar` in the system prompt chooses the language.

Trouble is chosen by the request, in that last user text, or by the model's `script`, which goes
first: one fault a request, until it is used up. A directive reads

    [[offline: NAME key=value ...]]

and may stand anywhere in the text; values with blanks stand in quotes. `times=1` makes any of them
hit only that often for the same message, so that a retry succeeds; the next directive, if there is
one, then has its turn. `after` counts text deltas and is 0 unless given. A directive that makes no
sense gets a 400 that says why.

    status code=529 retry_after=1       an error of the API before any stream: 400, 401, 402, 403,
                                        404, 413, 429, 500 or 529
    slow seconds=1                      silence before the headers
    slow_first seconds=1                headers at once, silence before the first text
    hang after=0 ping=1                 no more text, but a ping every so many seconds, for 600 s
    cut_before                          the connection is cut after the headers
    cut after=5                         the connection is cut after so much text
    eof after=5 stop=1                  a clean end without message_stop; with `stop=1` message_delta
                                        still comes, and without `after` all of the text
    error_event after=5 type=api_error  or overloaded_error, or rate_limit_error
    bad_json after=5                    an event whose data is no JSON
    html                                a web page with status 200
    refusal after=5                     stop_reason refusal, with its details
    max_tokens                          stop_reason max_tokens, the text cut in half
    broken_contract                     JSON that lacks a field and has a field with an unknown word
    prose, fenced, wrong_language       no JSON; JSON in a Markdown fence; English whatever is asked
    nul                                 U+0000 inside a string
    odd                                 one to three characters a delta, cut inside escapes; a body
                                        cut inside characters; surrogate pairs, raw and escaped
    no_usage                            no tokens in message_delta, none of the cache anywhere
    tool name=read_file path=a.py       asks for the tool with this input, if tools are offered;
                                        several of these ask one after the other, then the answer
                                        comes, with the fault there may be

A script may also hold `Fault("raw", pieces=(...))`, which sends exactly these deltas, and
`Fault("normal")`. Without a stream, what can only happen to a stream does not happen.
"""

import asyncio
import hashlib
import itertools
import json
import logging
import re
import socket
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.offline_replies import Json, intent_of, reply, subject_of
from service.offline_requests import ERRORS, MAX_SECONDS, Asked, Fault, Name, prefixes, read

__all__ = ["Fault", "OfflineModel", "serving"]

_MAX_BODY: Final = 8 * 1024 * 1024
_REMEMBERED: Final = 1024
_NORMAL: Final = Fault("normal")

Step: TypeAlias = bytes | float
"""Bytes to send, or seconds of silence."""


class OfflineModel:
    """The application.

    `delay` is the silence before the first text and `pace` the one between deltas, in seconds;
    `size` is a delta's length in characters; `script` holds the faults of the first requests.
    `requests` keeps the last bodies received, `calls` counts them all, `aborted` counts the
    clients that left before their answer's end, and `left` is set when one did.
    """

    def __init__(
        self,
        *,
        delay: float = 0.0,
        pace: float = 0.0,
        size: int = 12,
        script: Iterable[Fault] = (),
    ) -> None:
        self.calls = 0
        self.aborted = 0
        self.left = asyncio.Event()
        self.requests = deque[Json](maxlen=256)
        self._delay, self._pace, self._size = delay, pace, size
        self._script = deque(script)
        self._hits, self._cached = _Recent(), _Recent()
        route = Route("/v1/messages", self._messages, methods=["POST"])
        self._app = Starlette(routes=[route], max_body_size=_MAX_BODY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _messages(self, request: Request) -> Response:
        self.calls += 1
        try:
            asked = read(await request.body())
        except ValueError as error:
            return _refused(_NORMAL, 400, f"(offline model) {error}")
        self.requests.append(asked.body)
        fault = self._fault(asked)
        if fault.name == "status":
            return _refused(fault, fault.code, "(offline model) As the request asked.")
        return _Played(self._steps(asked, fault), self._on_left, *_head(asked, fault))

    def _fault(self, asked: Asked) -> Fault:
        if self._script:
            return self._script.popleft()
        if asked.tools:
            return asked.tools[0]
        return next((fault for fault in asked.faults if self._hits_again(asked, fault)), _NORMAL)

    def _hits_again(self, asked: Asked, fault: Fault) -> bool:
        key = hashlib.sha256(f"{asked.message}{fault}".encode()).hexdigest()
        return fault.times is None or self._hits.see(key) <= fault.times

    def _on_left(self) -> None:
        self.aborted += 1
        self.left.set()

    def _steps(self, asked: Asked, fault: Fault) -> Iterator[Step]:
        """All that goes over the wire after the status, and when."""
        if fault.name == "slow":
            yield fault.seconds
        if fault.name == "html":
            yield PAGE
            return
        answer = answer(asked, fault, self._size)
        message = message(asked, answer, self._input_usage(asked.body, fault))
        if asked.body.get("stream"):
            stream = self._stream(message, answer, fault)
            yield from splinters(stream) if fault.name == "odd" else stream
        else:
            yield orjson.dumps(message)

    def _input_usage(self, body: Json, fault: Fault) -> dict[str, int]:
        """Tokens sent, read from the cache and written to it, as an answer tells them."""
        known = list(prefixes(body))
        total = known[-1].length // 4
        if fault.name == "no_usage":
            return {"input_tokens": total}
        marked = [prefix for prefix in known if prefix.marked]
        last = marked[-1].length if marked else 0
        cached = (p.length for p in known if p.length <= last and p.digest in self._cached)
        read_from = max(cached, default=0) // 4
        for prefix in marked:
            self._cached.see(prefix.digest)
        return {
            "input_tokens": total - last // 4,
            "cache_creation_input_tokens": last // 4 - read_from,
            "cache_read_input_tokens": read_from,
        }

    def _stream(self, message: Json, answer: Answer, fault: Fault) -> Iterator[Step]:
        if fault.name == "cut_before":
            yield b""
            raise Cut
        yield event("message_start", message=begun(message))
        yield event("content_block_start", index=0, content_block=answer.opening())
        yield event("ping")
        yield fault.seconds if fault.name == "slow_first" else self._delay
        yield from self._deltas(itertools.islice(answer.pieces, fault.through), answer)
        if fault.breaks:
            yield from breaking_off(message, fault)
        else:
            yield closing(message, fault)
            yield event("message_stop")

    def _deltas(self, pieces: Iterable[str], answer: Answer) -> Iterator[Step]:
        for number, piece in enumerate(pieces):
            if number:
                yield self._pace
            yield event("content_block_delta", index=0, delta=answer.delta(piece))


class _Recent(OrderedDict[str, int]):
    """How often each key was seen, for the keys seen last."""

    def see(self, key: str) -> int:
        self[key] = self.get(key, 0) + 1
        self.move_to_end(key)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)
        return self[key]


def _head(asked: Asked, fault: Fault) -> tuple[str, Mapping[str, str]]:
    """Media type and headers of an answer with status 200."""
    whole = "text/event-stream" if asked.body.get("stream") else "application/json"
    return "text/html" if fault.name == "html" else whole, {"request-id": f"req_{asked.digest}"}


def _refused(fault: Fault, status: int, why: str) -> Response:
    error = {"type": ERRORS[status], "message": why}
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    body = orjson.dumps({"type": "error", "error": error, "request_id": "req_offline"})
    headers["request-id"] = "req_offline"
    return Response(body, status, headers, "application/json")


# How it is sent ----------------------------------------------------------------------------------


class Cut(Exception):  # noqa: N818
    """The connection ends here, in the middle of the answer."""


class _Played(Response):
    """Sends steps as they come; a client that leaves ends them at once.

    The headers go out with the first bytes. A cut returns before the body's end: the server then
    delivers what was sent and closes the connection, without the last chunk.
    """

    def __init__(
        self,
        steps: Iterator[Step],
        on_left: Callable[[], None],
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(None, 200, headers, media_type)
        del self.headers["content-length"]  # nobody knows it yet
        self._steps, self._on_left = steps, on_left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        left = asyncio.ensure_future(_disconnected(receive))
        try:
            await self._play(send, left)
        except Cut:
            return
        finally:
            left.cancel()

    async def _play(self, send: Send, left: asyncio.Future[None]) -> None:
        for message in self._sent():
            if isinstance(message, float):
                await _silence(message, left)
            else:
                await send(message)
            if left.done():
                return self._on_left()
        return await send({"type": "http.response.body"})

    def _sent(self) -> Iterator[Message | float]:
        head = [{"type": "http.response.start", "status": 200, "headers": self.raw_headers}]
        for step in self._steps:
            if isinstance(step, float):
                yield step
            else:
                yield from head
                head.clear()
                yield {"type": "http.response.body", "body": step, "more_body": True}


async def _silence(seconds: float, left: asyncio.Future[None]) -> None:
    if seconds > 0.0:
        await asyncio.wait({left}, timeout=seconds)
    else:
        await asyncio.sleep(0)  # so that a client that left is noticed between any two deltas


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


_log: Final = logging.getLogger(__name__)
_log.addFilter(lambda record: "without completing response" not in str(record.msg))


class _Connection(HttpToolsProtocol):
    """uvicorn's own; but a cut that was asked for is no error in anyone's log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self.access_log = False


@asynccontextmanager
async def serving(model: OfflineModel, *, port: int = 0) -> AsyncIterator[str]:
    """Serve `model` on the loopback, in the running loop; yields its base URL.

    At the end open streams are cut, and all of their tasks have ended. Raises OSError when `port`
    is taken; 0 takes any that is free.
    """
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        model, http=_Connection, ws="none", lifespan="off", log_config=None,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    config.load()
    server = uvicorn.Server(config)
    # The parts of `serve` without its signal handlers: they belong to who owns the process.
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await server.shutdown([listener])
