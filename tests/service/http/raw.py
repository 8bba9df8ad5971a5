"""HTTP byte by byte: requests that no client library sends, and their answers."""

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from service.access import signatures
from tests.running import LiveService, signature

PATIENCE_SECONDS = 20.0
"""The longest wait for an answer; a longer wait is a failure."""
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a connection."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The body, which is a problem."""
        assert dict(self.headers)["content-type"] == "application/problem+json"
        return dict(orjson.loads(self.body))


def answers(received: bytes) -> list[Answer]:
    """All answers of a connection. The last one must be complete."""
    found: list[Answer] = []
    while received:
        head, received = received.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = status_line.split(" ")
        assert version == "HTTP/1.1", status_line
        headers = [(name, value) for name, value in (line.split(": ", 1) for line in lines)]
        if status == "100":
            continue
        body, received = _body(dict(headers), received)
        found.append(Answer(int(status), headers, body))
    return found


def statuses_in(received: bytes) -> list[int]:
    """The statuses of all answers, even if the answers are malformed."""
    return [int(status) for status in _STATUS.findall(received)]


def _body(headers: dict[str, str], received: bytes) -> tuple[bytes, bytes]:
    if "content-length" in headers:
        length = int(headers["content-length"])
        assert len(received) >= length, "an answer was cut off"
        return received[:length], received[length:]
    body = b""
    while headers.get("transfer-encoding") == "chunked":
        size, received = received.split(b"\r\n", 1)
        length = int(size, 16)
        body, received = body + received[:length], received[length + 2 :]
        if not length:
            break
    return body, received


class Connection:
    """A connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, live: LiveService) -> "Connection":
        """A new connection."""
        return cls(*await asyncio.open_connection("127.0.0.1", live.client.base_url.port))

    async def send(self, *pieces: bytes) -> None:
        """Send each piece by itself, until the other side stops reading."""
        with suppress(ConnectionError):
            for piece in pieces:
                # A transport that is closed already raises no ConnectionError.
                if self.writer.is_closing():
                    return
                self.writer.write(piece)
                await self.writer.drain()

    async def until(self, mark: bytes) -> bytes:
        """The received bytes up to the mark."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        """The received bytes until the service closes. Raises TimeoutError if it does not close."""
        received = bytearray()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while piece := await self.reader.read(64 * 1024):
                    received += piece
        except ConnectionError:
            pass
        finally:
            self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()
        return bytes(received)


async def exchange(live: LiveService, *pieces: bytes) -> list[Answer]:
    """The answers to these bytes on a new connection, which the service then closes."""
    connection = await Connection.open(live)
    await connection.send(*pieces)
    return answers(await connection.rest())


def request(
    method: str, target: str, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """A request with a signature of tenant t1."""
    path, _, query = target.encode("latin-1").partition(b"?")
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: throughline",
        f"{signatures.HEADER}: {signature(method, path, query, body)}",
        *([f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []),
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
