"""Replies over server-sent events: headers, heartbeat, a bounded send, a proper end."""

from collections.abc import AsyncIterator
from typing import Final

import anyio
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from service.reply import Reply

SEND_SECONDS: Final = 20.0
"""How long a reader may take none of what is sent, before it is cut loose. It can come back."""

HEADERS: Final = {"Cache-Control": "no-cache, no-store, no-transform"}


class ReplyStream(EventSourceResponse):
    """A reply's events, to one reader."""

    def __init__(self, reply: Reply, headers: dict[str, str], *, grace_seconds: float) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - its own dict is bare
            _frames(reply),
            headers=HEADERS | headers,
            ping=0,
            send_timeout=SEND_SECONDS,
            shutdown_event=anyio.Event(),
            shutdown_grace_period=grace_seconds,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end. A reader that takes nothing is let go without ado."""
        try:
            await super().__call__(scope, receive, send)
        except TimeoutError:
            return


async def _frames(reply: Reply) -> AsyncIterator[bytes]:
    async for frames in reply.watch():
        yield frames
