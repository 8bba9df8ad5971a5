"""The offline model: the Messages API's wire format without a model, a key or a network.

It is an ASGI application. It answers `POST /v1/messages`, streamed or whole, from prepared texts,
so that a demonstration, a test or a benchmark goes through the real SDK over real HTTP. The same
request gives the same bytes, but for the tokens that were read from the cache meanwhile.

The user's message is the last paragraph of the last user text that comes with no tool result. The
text before it is context. `Reply in ar` in the system prompt chooses the language.

When the request offers tools to read a project, the model calls one first: for the file that the
message names, or else for the list of files. Its references are lines that a tool has shown.

Faults are chosen by directives in that last user text, or by the model's `script`, which goes
first: one fault for each request, until the script is used up. A directive reads

    [[offline: NAME key=value ...]]

and may stand anywhere in the text. Values with blanks are quoted. `times=1` limits a directive to
one request for the same message, so that a retry succeeds; then the next directive applies. `after`
counts text deltas and is 0 by default. A malformed directive gets a 400 with the reason.

    status code=529 retry_after=1       an error of the API before any stream: 400, 401, 402, 403,
                                        404, 413, 429, 500 or 529
    slow seconds=1                      silence before the headers
    slow_first seconds=1                headers at once, silence before the first text
    hang after=0 ping=1                 no more text, but a ping every so many seconds, for 600 s
    cut_before                          the connection is cut after the headers
    cut after=5                         the connection is cut after so much text
    eof after=5 stop=1                  a clean end without message_stop; with `stop=1` the
                                        message_delta still comes, and without `after` all text
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
import logging
import socket
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.model.offline.replies import Json
from service.model.offline.requests import ERRORS, Asked, Fault, prefixes, read
from service.model.offline.wire import Cut, Pace, Step, steps

__all__ = ["Fault", "OfflineModel", "serving"]

_MAX_BODY: Final = 8 * 1024 * 1024
_REMEMBERED: Final = 1024
_NORMAL: Final = Fault("normal")


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
        self._pace = Pace(delay, pace, size)
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
            return _refused(400, f"(offline model) {error}")
        except ClientDisconnect:
            self._on_left()
            return Response()  # the client has left
        self.requests.append(asked.body)
        return self._answer(asked, self._fault(asked))

    def _answer(self, asked: Asked, fault: Fault) -> Response:
        if fault.name == "status":
            return _refused(fault.code, "(offline model) As the request asked.", fault.retry_after)
        usage = self._input_usage(asked.body)
        kind = _media_type(asked, fault)
        return _Played(steps(asked, fault, usage, self._pace), kind, asked.digest, self._on_left)

    def _fault(self, asked: Asked) -> Fault:
        if self._script:
            return self._script.popleft()
        if asked.tools:
            return asked.tools[0]
        return next((fault for fault in asked.faults if self._hits_now(asked, fault)), _NORMAL)

    def _hits_now(self, asked: Asked, fault: Fault) -> bool:
        key = hashlib.sha256(f"{asked.message}{fault}".encode()).hexdigest()
        return fault.times is None or self._hits.see(key) <= fault.times

    def _input_usage(self, body: Json) -> dict[str, int]:
        """Tokens sent, written to the cache and read from it, a token being four characters."""
        known = list(prefixes(body))
        marked = [prefix for prefix in known if prefix.marked]
        last = marked[-1].length if marked else 0
        hits = (p.length for p in known if p.length <= last and p.digest in self._cached)
        reads = max(hits, default=0) // 4
        for prefix in marked:
            self._cached.see(prefix.digest)
        return {
            "input_tokens": known[-1].length // 4 - last // 4,
            "cache_creation_input_tokens": last // 4 - reads,
            "cache_read_input_tokens": reads,
        }

    def _on_left(self) -> None:
        self.aborted += 1
        self.left.set()


class _Recent(OrderedDict[str, int]):
    """The number of times that each key was seen, for the most recent keys."""

    def see(self, key: str) -> int:
        self[key] = self.get(key, 0) + 1
        self.move_to_end(key)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)
        return self[key]


def _media_type(asked: Asked, fault: Fault) -> str:
    if fault.name == "html":
        return "text/html"
    return "text/event-stream" if asked.body.get("stream") else "application/json"


def _refused(status: int, why: str, retry_after: int | None = None) -> Response:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    error = {"type": ERRORS[status], "message": why}
    body = {"type": "error", "error": error, "request_id": "req_offline"}
    headers["request-id"] = "req_offline"
    return Response(orjson.dumps(body), status, headers, "application/json")


class _Played(Response):
    """Sends the steps of an answer. They end at once when the client leaves.

    The headers go out with the first bytes. A cut returns before the body's end: the server then
    delivers what was sent and closes the connection, without the last chunk.
    """

    def __init__(
        self, played: Iterator[Step], media_type: str, digest: str, on_left: Callable[[], None]
    ) -> None:
        super().__init__(None, 200, {"request-id": f"req_{digest}"}, media_type)
        del self.headers["content-length"]  # not known yet
        self._steps, self._on_left = played, on_left
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        left = asyncio.ensure_future(_disconnected(receive))
        try:
            await self._play(send, left)
        except Cut:
            return
        finally:
            left.cancel()

    async def _play(self, send: Send, left: asyncio.Future[None]) -> None:
        for step in self._steps:
            if isinstance(step, bytes):
                await self._deliver(step, send)
            else:
                await _silence(step, left)
            if left.done():
                return self._on_left()
        return await send({"type": "http.response.body"})

    async def _deliver(self, data: bytes, send: Send) -> None:
        if not self._started:
            self._started = True
            head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(head)
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _silence(seconds: float, left: asyncio.Future[None]) -> None:
    if seconds > 0.0:
        await asyncio.wait({left}, timeout=seconds)
    else:
        await asyncio.sleep(0)  # notices between two deltas that a client has left


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


_log: Final = logging.getLogger(__name__)
_log.addFilter(lambda record: "without completing response" not in str(record.msg))


class _Connection(HttpToolsProtocol):
    """uvicorn's protocol, but it does not log an intended cut as an error."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self.access_log = False


@asynccontextmanager
async def serving(model: OfflineModel, *, port: int = 0) -> AsyncGenerator[str]:
    """Serve `model` on the loopback, in the running loop; yields its base URL.

    At the end open streams are cut, and all their tasks have ended. Raises OSError when `port` is
    in use; 0 chooses a free port.
    """
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(model, http=_Connection, ws="none", lifespan="off", log_config=None)
    config.load()
    server = uvicorn.Server(config)
    # The parts of `serve` without its signal handlers, which belong to the owner of the process.
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await _stop(server)


_STOP_SECONDS: Final = 10.0
"""How long the connections may take to end, on a busy machine too."""


async def _stop(server: uvicorn.Server) -> None:
    """Cut every connection, so that the tasks that answer on it end at once."""
    for listening in server.servers:
        listening.close()
    await asyncio.sleep(0.01)  # a socket that was accepted a moment ago becomes a connection
    async with asyncio.timeout(_STOP_SECONDS):
        while server.server_state.connections or server.server_state.tasks:
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)
