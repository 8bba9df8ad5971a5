"""The limits of connections: how many, how large and slow a request is, how long a reader is deaf.

Uvicorn reads what comes, for as long as it comes. Here a head has a size and a time, so that nobody
holds a connection or its memory by sending slowly, or without an end. An answer that is under way
is never cut by this: a stream may take its many minutes. But a reader that takes nothing of its
answer is cut, because what it does not take stays in memory.
"""

import asyncio
import resource
from functools import cache
from typing import Final

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.http import problems, security_headers
from service.http.problems import BadRequest
from service.ids import new_id
from service.ops import metrics

LONGEST_LINE: Final = 8 * 1024
LARGEST_HEADERS: Final = 32 * 1024
MOST_HEADERS: Final = 100
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 30.0
WRITE_SECONDS: Final = 15.0
"""How long a reader may take nothing while bytes wait for it. Shorter than `SEND_SECONDS`."""

RESERVED_DESCRIPTORS: Final = 256
"""File descriptors for the database, the provider and files; at most half of all descriptors."""

LAST_REQUEST_SECONDS: Final = 1.0
"""How long a server that stops waits for a request that is on its way, on each open connection."""

LATE_SECONDS: Final = 0.05
"""How long a loop that was busy has to read what came before a connection is closed as idle."""

LINGER_SECONDS: Final = 2.0
"""How long a refused client may go on sending: cut off at once, it would lose the answer."""

NOT_HTTP: Final = BadRequest(400, "not_http", "This is not a request in HTTP/1.1.")
BAD_HEAD: Final = BadRequest(
    400,
    "not_http",
    "Send HTTP/1.1 with one Host header, and with no Transfer-Encoding but chunked.",
)
TOO_MANY: Final = BadRequest(
    503, "overloaded", "Too many connections are open. Try again in a moment."
)
URI_TOO_LONG: Final = BadRequest(
    414, "uri_too_long", f"A request line has at most {LONGEST_LINE} bytes; send less."
)
HEADERS_TOO_LARGE: Final = BadRequest(
    431,
    "headers_too_large",
    f"The headers are at most {MOST_HEADERS} and {LARGEST_HEADERS} bytes; send less.",
)
HEAD_TOO_SLOW: Final = BadRequest(
    408, "head_too_slow", f"The head of a request is whole within {HEAD_SECONDS:.0f} seconds."
)
_LINE_REST: Final = len("  HTTP/1.1")
_log = structlog.stdlib.get_logger(__name__)


class _LimitReached(Exception):
    """Makes the parser stop."""


@cache
def most_connections() -> int:
    """The most connections of clients: the descriptors that the system allows, less the reserved.

    Without this limit the clients could use up all descriptors, and the service would lose its
    database.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return descriptors - min(RESERVED_DESCRIPTORS, descriptors // 2)


class WriteWatch:
    """Cuts a connection whose reader takes nothing for `WRITE_SECONDS` while bytes wait for it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0

    def start(self) -> None:
        """Watch from now on. While it watches, nobody adds to the bytes that wait."""
        if self._timer is None:
            self._waiting_bytes = self._transport.get_write_buffer_size()
            self._timer = self._loop.call_later(WRITE_SECONDS, self._on_timer)

    def stop(self) -> None:
        """The reader has taken nearly all, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._transport.get_write_buffer_size() < self._waiting_bytes:
            self.start()
        elif self._waiting_bytes:
            _log.info("reader_cut", waiting_bytes=self._waiting_bytes)
            # `close` would wait for the reader.
            self._transport.abort()


class LimitedProtocol(HttpToolsProtocol):
    """One connection. It has one timer, which is looked after when it rings, not at each request.

    A connection waits for a head, or reads a head (`_begun`), or reads a body (`_in_body`). A
    refused connection is answered at once. What the client still sends is dropped (`_is_deaf`)
    until the connection is closed.
    """

    _timer: asyncio.TimerHandle | None = None
    _deadline = 0.0
    _begun = _in_body = _is_deaf = _is_refused = _is_retiring = False
    _header_bytes = _untold_bytes = 0
    _refusal = NOT_HTTP
    _writes: WriteWatch

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give it time for its first head, unless there are too many connections."""
        super().connection_made(transport)
        self._writes = WriteWatch(transport, self.loop)
        self._allow(HEAD_SECONDS)
        if len(self.connections) > most_connections():
            self._refusal = TOO_MANY
            self._refuse()
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers, too."""
        super().connection_lost(exc)
        self._writes.stop()
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """Too many bytes wait for the reader."""
        super().pause_writing()
        self._writes.start()

    def resume_writing(self) -> None:
        """The reader has taken nearly all of them."""
        super().resume_writing()
        self._writes.stop()

    def data_received(self, data: bytes) -> None:
        """Read on. The parser holds what it cannot tell of yet: that has a limit as well."""
        if self._is_deaf:
            return
        self._untold_bytes += len(data)
        super().data_received(data)
        if self._untold_bytes > LARGEST_HEADERS and not self._is_deaf:
            self._refusal = HEADERS_TOO_LARGE
            self._give_up()

    # What the parser tells ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        super().on_message_begin()
        self._begun = True
        self._header_bytes = self._untold_bytes = 0
        self._allow(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        super().on_url(url)
        self._untold_bytes = 0
        assert self.parser is not None
        if len(self.parser.get_method()) + len(self.url) + _LINE_REST > LONGEST_LINE:
            self._refusal = URI_TOO_LONG
            raise _LimitReached

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. A header after the body has a size, but is no header of the request:
        what is decided by headers must not depend on how fast the last of them came."""
        if not self._in_body:
            super().on_header(name, value)
        self._untold_bytes = 0
        self._header_bytes += len(name) + len(value) + len(": \r\n")
        if self._header_bytes > LARGEST_HEADERS or len(self.headers) > MOST_HEADERS:
            self._refusal = HEADERS_TOO_LARGE
            raise _LimitReached

    def on_headers_complete(self) -> None:
        """The head is whole: the request begins."""
        if not self._is_proper():
            self._refusal = BAD_HEAD
            raise _LimitReached
        super().on_headers_complete()
        if self._is_retiring:
            self.cycle.keep_alive = False
        self._begun, self._in_body = False, True
        self._untold_bytes = 0
        self._allow(BODY_SECONDS)

    def _is_proper(self) -> bool:
        """Whether every server would understand the head in the same way."""
        assert self.parser is not None
        version = self.parser.get_http_version()
        hosts = [value for name, value in self.headers if name == b"host"]
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if version == "1.0":
            return len(hosts) <= 1 and not codings
        return version == "1.1" and len(hosts) == 1 and codings in ([], [b"chunked"])

    def on_body(self, body: bytes) -> None:
        """A piece of the body; its size and time are the application's."""
        super().on_body(body)
        self._untold_bytes = 0

    def on_message_complete(self) -> None:
        """The request is whole. If it is answered already, the next one is waited for."""
        super().on_message_complete()
        self._in_body = False
        self._untold_bytes = 0
        if not self._is_answering:
            self._allow(self._idle_seconds)

    def on_response_complete(self) -> None:
        """The answer is out: the next head is waited for, or the rest of a body that was not."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._writes.start()
        else:
            self._allow(BODY_SECONDS if self._in_body else self._idle_seconds)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it is the base's
        """The parser gave up, of itself or because of a limit here."""
        self._give_up()

    def _unsupported_upgrade_warning(self) -> None:
        """The parser takes what follows, even a body, for data of another protocol. The server has
        no other protocol, and must not read this data as the next request."""
        self._end_after_answer()

    # Time ---------------------------------------------------------------------------------------

    @property
    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    @property
    def _idle_seconds(self) -> float:
        """How long the connection may be without a request."""
        return LAST_REQUEST_SECONDS if self._is_retiring else HEAD_SECONDS

    def _allow(self, seconds: float) -> None:
        """Give it so long from now. The timer is left as it is if it rings before that."""
        self._deadline = self.loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        """The timer rang. While there is an answer under way nobody is late."""
        self._timer = None
        if self.transport.is_closing():
            self._writes.start()
            return
        if self._is_answering and not self._is_refused:
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._on_timer)
        elif self._is_refused:
            self.transport.abort()
        elif self._begun:
            self._refusal = HEAD_TOO_SLOW
            self._refuse()
        else:
            self.loop.call_later(LATE_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self._begun and not self._is_answering:
            self.transport.close()

    # Ends ---------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Make the next answer that begins the last one on this connection, because the server
        stops. Without a further request the connection is closed soon.

        Uvicorn would close it at once, also while a request is on its way.
        """
        self._is_retiring = True
        if not self._is_answering:
            if not self._begun:
                self._allow(LAST_REQUEST_SECONDS)
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False

    @property
    def is_asking(self) -> bool:
        """Whether a request is on its way, or may be, whose answer has not begun."""
        return not self.transport.is_closing() and not (
            self._is_answering and self.cycle.response_started
        )

    def _give_up(self) -> None:
        """There is no reading on. A request that was whole before is still answered."""
        whole = self._is_answering and not self.cycle.more_body
        if whole or self.pipeline:
            self._end_after_answer()
        else:
            self._refuse()

    def _end_after_answer(self) -> None:
        self._is_deaf = True
        self.cycle.keep_alive = False

    def _refuse(self) -> None:
        """Say why, unless this request was answered, then let the client read it."""
        self._is_deaf = self._is_refused = True
        self._unset_keepalive_if_required()
        is_answering = self._is_answering
        if not self._in_body or (is_answering and not self.cycle.response_started):
            self.transport.write(_answer(self._refusal, self.server_state.default_headers))
        if is_answering:
            self.cycle.disconnected = True
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._allow(LINGER_SECONDS)


def _answer(refusal: BadRequest, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """The whole answer. It passes by the application, which would name, count and log it."""
    request_id = new_id()
    _log.info("refused", status=refusal.status, code=refusal.code, request_id=request_id)
    metrics.REQUESTS.labels("other", "unknown", str(refusal.status)).inc()
    again = {"Retry-After": problems.RETRY_SECONDS} if refusal is TOO_MANY else None
    response = problems.answer(
        refusal.status,
        refusal.code,
        refusal.detail,
        stored="nothing" if refusal is TOO_MANY else None,
        headers=again,
    )
    headers = (
        *default_headers,
        *response.raw_headers,
        *security_headers.missing(response.raw_headers),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    )
    lines = (name + b": " + value + b"\r\n" for name, value in headers)
    return b"".join((STATUS_LINE[refusal.status], *lines, b"\r\n", bytes(response.body)))
