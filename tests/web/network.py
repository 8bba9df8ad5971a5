"""A bad network between a web client and the service: it cuts, loses and delays by plan."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import repeat
from urllib.parse import urlsplit

import httpx

from service.access.signatures import HEADER
from tests.running import Signed

Page = Callable[[], Awaitable[tuple[str, bytes]]]
"""Makes a page of the network's own: its media type and its content."""

LOST = b""
"""In place of an answer: the request arrives, and the connection breaks before the answer."""


@dataclass
class BadNetwork:
    """Passes requests on as they are.

    `cuts` are the numbers of bytes after which the next streams break. `answers` has the next
    answers to requests that begin with a text, such as `POST /v1/chat-plan`; the service never gets
    these requests, unless the answer is `LOST`. While the network `is_down`, it breaks every
    connection. While it `is_mute`, it carries no bodies of answers. For clients that cannot sign,
    it `signs` each request as tenant t1.

    `requests` are the request lines that arrived, and `statuses` the statuses of the answers of the
    service. `refused` counts the connections that it broke while it was down.
    """

    target: str
    cuts: Iterator[int | None] = field(default_factory=lambda: repeat(None))
    answers: defaultdict[str, deque[bytes]] = field(default_factory=lambda: defaultdict(deque))
    pages: dict[str, Page] = field(default_factory=dict[str, Page])
    is_down: bool = False
    is_mute: bool = False
    signs: bool = False
    requests: list[str] = field(default_factory=list[str])
    statuses: list[int] = field(default_factory=list[int])
    refused: int = 0
    _ends: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    def next_answers(self, beginning: str, *answers: bytes) -> None:
        """Choose the next answers to requests that begin with a text."""
        self.answers[beginning].extend(answers)

    def cut_streams(self, after: Iterable[int]) -> None:
        """Cut the next streams, each after a number of bytes of its body."""
        self.cuts = iter([*after, *repeat(None, 1_000)])

    def go_down(self) -> None:
        """Break all connections, and every new one, until `come_up`."""
        self.is_down = True
        self.sever()

    def sever(self) -> None:
        """Break all connections."""
        for end in self._ends:
            end.transport.abort()

    def come_up(self) -> None:
        """Work again."""
        self.is_down = False

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._ends)

    def count(self, beginning: str) -> int:
        """The number of requests that begin with a text."""
        return sum(line.startswith(beginning) for line in self.requests)

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[str]:
        """Listen; yields the URL."""
        passing: set[asyncio.Task[None]] = set()

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._pass_on(reader, writer))
            passing.add(task)
            task.add_done_callback(passing.discard)
            await asyncio.wait([task])

        server = await asyncio.start_server(pass_on, "127.0.0.1", 0, limit=1 << 20)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                if self.is_down:
                    self.refused += 1
                    writer.transport.abort()
                    return
                head, body = await _read(reader)
                line = head.split(b" HTTP/1.1\r\n")[0].decode()
                answering = asyncio.create_task(self._answer(line, head, body, writer))
                leaving = asyncio.create_task(reader.read())
                try:
                    await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
                    if answering.done():
                        await answering
                        await writer.drain()
                finally:
                    for task in (answering, leaving):
                        task.cancel()
                    await asyncio.gather(answering, leaving, return_exceptions=True)
        finally:
            self._ends.discard(writer)
            writer.close()

    async def _answer(
        self, line: str, head: bytes, body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        path = line.split(" ")[1].partition("?")[0]
        if path in self.pages:
            writer.write(answer(200, *await self.pages[path]()))
            return
        self.requests.append(line)
        chosen = self._chosen(line)
        if chosen:
            writer.write(chosen)
            return
        added = b"Connection: close\r\n" + (_signature(line, body) if self.signs else b"")
        head = head.replace(b"\r\n", b"\r\n" + added, 1)
        await self._ask(head, body, writer, is_lost=chosen == LOST)

    def _chosen(self, line: str) -> bytes | None:
        for beginning, answers in self.answers.items():
            if line.startswith(beginning) and answers:
                return answers.popleft()
        return None

    async def _ask(
        self, head: bytes, body: bytes, writer: asyncio.StreamWriter, *, is_lost: bool
    ) -> None:
        target = urlsplit(self.target)
        upstream, there = await asyncio.open_connection(target.hostname, target.port)
        try:
            there.write(head + body)
            begun = await upstream.readuntil(b"\r\n\r\n")
            self.statuses.append(int(begun.split(b" ")[1]))
            if is_lost:
                writer.transport.abort()
                return
            writer.write(begun)
            left = next(self.cuts) if b"text/event-stream" in begun else None
            await self._copied(upstream, writer, left)
        finally:
            there.close()

    async def _copied(
        self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None
    ) -> None:
        """Pass the body on, and break the connection after `left` bytes.

        A mute network does not pass the end on either.
        """
        was_mute = False
        while data := await upstream.read(1 << 16):
            if self.is_mute:
                was_mute = True
                continue
            writer.write(data if left is None else data[:left])
            await writer.drain()
            if left is not None and (left := left - len(data)) <= 0:
                writer.transport.abort()
                return
        if was_mute:
            await asyncio.Event().wait()  # until the client leaves


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of a request, as one connection for each request."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = [
        line
        for line in head[:-4].split(b"\r\n")
        if not line.lower().startswith((b"connection:", b"accept-encoding:"))
    ]
    sizes = [line for line in lines if line.lower().startswith(b"content-length:")]
    size = int(sizes[0].split(b":")[1]) if sizes else 0
    return b"\r\n".join(lines) + b"\r\n\r\n", await reader.readexactly(size)


def _signature(line: str, body: bytes) -> bytes:
    """The header that signs a request, from its method and path."""
    method, path = line.split(" ")
    request = httpx.Request(method, f"http://service{path}", content=body)
    next(Signed().auth_flow(request))
    return f"{HEADER}: {request.headers[HEADER]}\r\n".encode()


def answer(status: int, media_type: str, content: bytes, *headers: str) -> bytes:
    """An answer of the network's own."""
    head = "".join(f"{line}\r\n" for line in headers)
    return (
        f"HTTP/1.1 {status} So\r\nContent-Type: {media_type}\r\nConnection: close\r\n"
        f"Content-Length: {len(content)}\r\n{head}\r\n"
    ).encode() + content


def problem(status: int, code: str, *headers: str) -> bytes:
    """A refusal as the service writes it."""
    content = f'{{"status":{status},"code":"{code}","detail":"Not now."}}'.encode()
    return answer(status, "application/problem+json", content, *headers)
