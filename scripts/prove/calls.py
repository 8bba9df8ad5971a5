"""Signed requests over real HTTP to a random server. Every byte of the answers is kept."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import orjson

from scripts.prove.fleet import Fleet
from scripts.prove.observed import Event, Observed
from scripts.prove.tenants import Tenant
from service.access import signatures
from service.replies.sse import RETRY

SILENCE_SECONDS: Final = 30.0
CUT: Final = 0.08
"""The share of requests that a client cuts in the middle and sends again."""

STREAM: Final = {"Accept": "text/event-stream"}


class Signed(httpx.Auth):
    """Signs the bytes of each request."""

    requires_request_body = True

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def auth_flow(self, request: httpx.Request) -> Any:
        """Add the signature's header."""
        path, _, query = request.url.raw_path.partition(b"?")
        moment, nonce, key_id = int(time.time()), secrets.token_hex(16), self._tenant.key_id
        v1 = signatures.sign(
            self._tenant.secret,
            method=request.method,
            path=path,
            query=query,
            time=moment,
            nonce=nonce,
            key_id=key_id,
            body=request.content,
        )
        request.headers[signatures.HEADER] = f"t={moment},kid={key_id},n={nonce},v1={v1}"
        yield request


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `is_sure` is true when no earlier try of the request can still be done."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_sure: bool = True

    @property
    def json(self) -> Any:
        """The JSON value of the body."""
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem; "" for any other answer."""
        return code_of(self.status, self.body)

    @property
    def position(self) -> int:
        """The position of the log that the answer is valid for."""
        return int(self.headers["X-Log-Position"])


class Caller:
    """A client of one tenant. Each try goes to a random server."""

    def __init__(
        self, tenant: Tenant, fleet: Fleet, observed: Observed, random: Random, kept: Path
    ) -> None:
        self.tenant, self.observed, self.random = tenant, observed, random
        self._fleet = fleet
        self._kept = kept.open("ab")
        observed.received.setdefault(tenant.name, []).append(kept)
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=5)
        self._http = httpx.AsyncClient(auth=Signed(tenant), timeout=timeout, verify=False)  # noqa: S501

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        self._kept.close()

    @asynccontextmanager
    async def open(
        self,
        name: str,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] = {},
    ) -> AsyncGenerator[httpx.Response]:
        """One try of a request. To leave early cuts the connection. Raises httpx.TransportError."""
        content = b"" if body is None else orjson.dumps(body)
        url = self._fleet.any(self.random) + target
        typed = {"Content-Type": "application/json", **headers}
        async with self._http.stream(method, url, content=content, headers=typed) as response:
            self._kept.write(b"\n".join(value for _, value in response.headers.raw) + b"\n")
            if response.status_code == 200:
                self.observed.answers[name, 200, ""] += 1
            else:
                problem = await self.whole(response)
                code = code_of(response.status_code, problem)
                self.observed.answers[name, response.status_code, code] += 1
            yield response

    async def pieces(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """The body in the pieces in which it arrives."""
        received = bytearray()
        try:
            async for piece in response.aiter_raw():
                received += piece
                yield piece
        finally:
            self._kept.write(received + b"\n")

    async def whole(self, response: httpx.Response) -> bytes:
        """The whole body. A second call returns it again."""
        if "whole" not in response.extensions:
            async with aclosing(self.pieces(response)) as pieces:
                response.extensions["whole"] = b"".join([each async for each in pieces])
        return bytes(response.extensions["whole"])

    async def call(
        self, name: str, method: str, target: str, body: Any = None, *, key: str | None = None
    ) -> Answer:
        """The answer, after any number of tries. A write has an idempotency key."""
        headers = {} if key is None else {"Idempotency-Key": key}
        is_sure = True
        while True:
            try:
                async with (
                    asyncio.timeout(self._patience()),
                    self.open(name, method, target, body, headers) as response,
                ):
                    content = await self.whole(response)
                status = response.status_code
                if status != 503:
                    return Answer(status, response.headers, content, is_sure)
                is_sure &= stored_of(content) == "nothing"
            except TimeoutError:
                self.observed.counts["cuts"] += 1
                is_sure = False
            except httpx.TransportError as error:
                is_sure &= was_not_sent(error)
            await self.again()

    async def again(self) -> None:
        """Wait a moment before the next try."""
        self.observed.counts["retries"] += 1
        await asyncio.sleep(self.random.uniform(0.05, 0.3))

    def _patience(self) -> float | None:
        return self.random.uniform(0.005, 1) if self.random.random() < CUT else None

    async def events(self, response: httpx.Response) -> AsyncGenerator[Event]:
        """The server-sent events in the order in which they arrive."""
        rest = b""
        async with aclosing(self.pieces(response)) as pieces:
            async for piece in pieces:
                *blocks, rest = (rest + piece).split(b"\n\n")
                for block in blocks:
                    if b"event: " in block:
                        yield _event(block)


def was_not_sent(error: httpx.TransportError) -> bool:
    """Whether the request never reached a server, so that no server can still do it."""
    return isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))


def code_of(status: int, body: bytes) -> str:
    """The code of a problem; "" for any other answer."""
    return str(orjson.loads(body).get("code", "")) if status >= 400 and body else ""


def stored_of(body: bytes) -> str:
    """What of a request is stored, as a 503 tells it."""
    return str(orjson.loads(body).get("stored", ""))


def _event(block: bytes) -> Event:
    block = block.removeprefix(RETRY)  # it is the connection's, and not the event's
    head = block.partition(b"\ndata: ")[0].decode().split("\n")
    fields = dict(line.split(": ", 1) for line in head if ": " in line)
    # The id of an event of a reply ends with its number; the id of an event of the log is a cursor.
    is_of_reply = "id" in fields and fields["event"] != "event"
    number = int(fields["id"].rpartition(".")[2]) if is_of_reply else 0
    return Event(fields["event"], number, block)
