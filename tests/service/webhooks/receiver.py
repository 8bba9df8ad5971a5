"""A receiver of webhooks on a port of its own. It can refuse, be slow, cut and be killed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson

CUT: Final = 0
"""An answer that never comes: the receiver has the event and closes the connection."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request that arrived whole."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent."""
        return dict(orjson.loads(self.body))


class Receiver:
    """Answers 204 where `answers` has no other answer for the next request."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.deliveries: list[Delivery] = []
        self.connections = 0
        self.blocked = asyncio.Event()
        self.blocked.set()
        self.held = 0
        self.port = 0
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/take"

    async def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            self.blocked.set()
            await self._server.wait_closed()
            self._server = None

    async def until(self, count: int) -> None:
        """Wait until so many requests have arrived."""
        async with asyncio.timeout(20), self._arrived:
            await self._arrived.wait_for(lambda: len(self.deliveries) >= count)

    async def until_held(self) -> None:
        """Wait until a request has arrived that is not answered while `blocked` is not set."""
        async with asyncio.timeout(20), self._arrived:
            await self._arrived.wait_for(lambda: self.held > 0)

    async def _hold(self) -> None:
        async with self._arrived:
            self.held += 1
            self._arrived.notify_all()
        await self.blocked.wait()
        self.held -= 1

    async def until_position(self, position: int) -> None:
        """Wait until an event has arrived."""
        async with asyncio.timeout(30), self._arrived:
            await self._arrived.wait_for(lambda: position in self.positions())

    def positions(self) -> list[int]:
        """The positions that arrived, in order."""
        return [int(each.event["position"]) for each in self.deliveries]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")[1:-2]
                headers = dict(line.split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers["Content-Length"]))
                await self._hold()
                status, more = self.answers.pop(0) if self.answers else (204, {})
                async with self._arrived:
                    self.deliveries.append(Delivery(headers, body))
                    self._arrived.notify_all()
                if status == CUT:
                    return
                more = {"Content-Length": "0", **more}
                written = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{written}\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    """A running receiver."""
    receiver = Receiver()
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.kill()
