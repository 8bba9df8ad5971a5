"""Streams as responses: their headers, a bounded send, a proper end."""

import asyncio
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Any, Final

import anyio
from sse_starlette import EventSourceResponse
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from service.access.stream_access import Permit
from service.ops.metrics import STREAMS
from service.replies.sse import encode, goaway

SEND_SECONDS: Final = 20.0
"""Seconds without progress after which a reader is disconnected. The reader can come back."""

HEADERS: Final = {"Cache-Control": "no-cache, no-store, no-transform"}
EVENT_STREAM: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"
PIECE_BYTES: Final = 64 * 1024


class EventStream(EventSourceResponse):
    """Encoded events for one reader. The source sends heartbeats and comes to an end by itself.

    When the service stops, the source has `grace_seconds` to come to its end. With a `permit` the
    reader is sent away when that ends.
    """

    def __init__(
        self,
        events: AsyncIterable[bytes],
        headers: dict[str, str],
        *,
        grace_seconds: float,
        permit: Permit | None = None,
    ) -> None:
        self._permit = permit
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - its own dict is bare
            events,
            headers=HEADERS | headers,
            ping=0,
            shutdown_event=anyio.Event(),
            shutdown_grace_period=grace_seconds,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end. The server cuts a reader that takes nothing, which is no error."""
        with STREAMS.track_inprogress():
            if self._permit is None:
                await super().__call__(scope, receive, send)
            else:
                await self._permitted(self._permit, scope, receive, send)

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        """Send without a time limit: a limit for each event costs a tenth of the event's CPU time,
        and the server looks after readers that take nothing (`WriteWatch`)."""
        await send(message)

    async def _permitted(self, permit: Permit, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the stream ends or the permit ends, whichever is first."""
        begun = asyncio.Event()

        async def sending(message: Message) -> None:
            await send(message)
            begun.set()

        async def on_expiring(expires_at: float) -> None:
            await say(encode("renew", {"expiresAt": expires_at}))

        async def say(event: bytes, *, is_last: bool = False) -> None:
            await begun.wait()
            await send({"type": "http.response.body", "body": event, "more_body": not is_last})

        stream = asyncio.create_task(super().__call__(scope, receive, sending))
        ending = asyncio.create_task(permit(on_expiring))
        try:
            await asyncio.wait((stream, ending), return_when=asyncio.FIRST_COMPLETED)
            if stream.done():
                await stream
                return
            reason = await ending
            await _ended(stream)
            await say(goaway(reason), is_last=True)
        finally:
            await _ended(stream, ending)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for them, also while this task is being cancelled."""
    with anyio.CancelScope(shield=True):
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class LineStream(StreamingResponse):
    """JSON values for one reader, one a line, or a document, sent as they are read."""

    def __init__(
        self, lines: AsyncIterable[bytes], headers: dict[str, str], media_type: str = LINES
    ) -> None:
        super().__init__(lines, headers=HEADERS | headers, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end. A reader that takes nothing is disconnected, which is no error."""

        async def bounded(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, bounded)
        except (TimeoutError, ClientDisconnect):
            return


def pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of about 64 KiB; the last piece is smaller."""
    gathered = bytearray()
    for part in parts:
        gathered += part
        if len(gathered) >= PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
