"""A proxy between client and service that cuts connections, as networks do."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import count
from urllib.parse import urlsplit

from tests.running import Signed


class CuttingProxy:
    """Passes requests on, signed as tenant t1, and breaks the first `cuts` answers off: each after
    some more bytes than the one before.

    `requests` are the request lines that came, `statuses` what they were answered.
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
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (each.partition(": ") for each in fields)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = line.split(" ")
            if path in self.pages:
                page = self.pages[path]
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(page), page)
                )
            else:
                await self._ask(method, path, headers, body, writer)
            await writer.drain()
        writer.close()

    async def _ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.requests.append(f"{method} {path}")
        assert self._target.hostname is not None
        upstream, there = await asyncio.open_connection(self._target.hostname, self._target.port)
        kept = ("accept", "content-type", "last-event-id")
        passed = "".join(f"{name}: {headers[name]}\r\n" for name in kept if name in headers)
        there.write(
            f"{method} {path} HTTP/1.1\r\nHost: service\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n{signed(method, path, body)}\r\n{passed}\r\n".encode()
            + body
        )
        answer = await upstream.readuntil(b"\r\n\r\n")
        self.statuses.append(int(answer.split(b" ")[1]))
        writer.write(answer)
        is_stream = b"text/event-stream" in answer
        left = next(self._limits) if is_stream and self._takes_a_cut() else None
        while data := await upstream.read(64 if left is not None else 1 << 16):
            writer.write(data if left is None else data[:left])
            await writer.drain()
            if left is not None and (left := left - len(data)) <= 0:
                writer.transport.abort()
                break
        there.close()

    def _takes_a_cut(self) -> bool:
        self._cuts -= 1
        return self._cuts >= 0


def signed(method: str, path: str, body: bytes) -> str:
    """The signature header of a request."""
    import httpx

    request = httpx.Request(method, f"http://service{path}", content=body)
    next(Signed().auth_flow(request))
    return f"X-HMAC-Signature: {request.headers['X-HMAC-Signature']}"
