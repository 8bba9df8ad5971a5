"""A proxy between client and service that cuts connections, as networks do."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import count
from urllib.parse import urlsplit

import httpx

from tests.running import Signed

PASSED_ON = ("accept", "content-type", "last-event-id")


class CuttingProxy:
    """Passes requests on, signed as tenant t1, and cuts the first `cuts` streams, each after `step`
    more bytes than the stream before.

    `requests` are the received request lines, `statuses` the statuses of their answers.
    """

    def __init__(self, target: str, *, cuts: int, step: int = 700) -> None:
        self._target = urlsplit(target)
        self._limits = (step * n for n in count(1))
        self._cuts = cuts
        self.requests: list[str] = []
        self.statuses: list[int] = []
        self.pages: dict[str, bytes] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[str]:
        """Listen; yields the URL."""
        passing: set[asyncio.Task[None]] = set()

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._pass_on(reader, writer))
            passing.add(task)
            await task

        server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                method, path, headers, body = await _read(reader)
                if path in self.pages:
                    writer.write(_page(self.pages[path]))
                else:
                    await self._ask(_request(method, path, headers, body), writer)
                await writer.drain()
        finally:
            writer.close()

    async def _ask(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        self.requests.append(request.decode("latin-1").rpartition(" HTTP/1.1\r\nHost")[0])
        upstream, there = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            there.write(request)
            answer = await upstream.readuntil(b"\r\n\r\n")
            self.statuses.append(int(answer.split(b" ")[1]))
            writer.write(answer)
            is_stream = b"text/event-stream" in answer
            left = next(self._limits) if is_stream and self._must_cut() else None
            await _copied(upstream, writer, left)
        finally:
            there.close()

    def _must_cut(self) -> bool:
        self._cuts -= 1
        return self._cuts >= 0


async def _read(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes]:
    """A request: method, path, headers in lower case, body."""
    line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in fields)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = line.split(" ")
    return method, path, headers, body


def _request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The signed request for the service."""
    signed = httpx.Request(method, f"http://service{path}", content=body)
    next(Signed().auth_flow(signed))
    sent = {
        "Host": "service",
        "Connection": "close",
        "Content-Length": str(len(body)),
        "X-HMAC-Signature": signed.headers["X-HMAC-Signature"],
    }
    sent |= {name: headers[name] for name in PASSED_ON if name in headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _page(content: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
    )


async def _copied(
    upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None
) -> None:
    """Pass the answer's body on. Close the connection after `left` bytes."""
    while data := await upstream.read(64 if left is not None else 1 << 16):
        writer.write(data if left is None else data[:left])
        await writer.drain()
        if left is not None and (left := left - len(data)) <= 0:
            writer.transport.abort()
            return
