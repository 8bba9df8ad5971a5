"""Streams without an end of their own: they go on until the reader leaves or the service stops.

A stream merges sources, each an iterator of bytes. It greets at once, says that it is still there
where it is silent, and sends its reader away properly when the service stops.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import anyio

from service.eventlog.errors import Overloaded
from service.replies.sse import GREETING, HEARTBEAT, HEARTBEAT_SECONDS, goaway

MOST_OPEN: Final = 10_000
"""The most of these streams that one process keeps open."""

_CLOSING_SECONDS: Final = 5.0

Source = AsyncGenerator[bytes]


class MergedStreams:
    """The live streams of this process. Owned by the service's loop."""

    def __init__(self, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._heartbeat_seconds = heartbeat_seconds
        self._stopping = asyncio.Event()
        self.open = 0

    def stop(self) -> None:
        """End all open streams, and every stream that begins later, with `goaway`."""
        self._stopping.set()

    def merge(self, *sources: Source) -> Source:
        """The pieces of all sources as they come, until one source ends. Raises Overloaded."""
        if self.open >= MOST_OPEN:
            raise Overloaded("too many streams are open")
        return self._merged(sources)

    async def _merged(self, sources: tuple[Source, ...]) -> Source:
        self.open += 1
        stopped = asyncio.create_task(self._stopping.wait())
        upcoming = {_next_of(source): source for source in sources}
        try:
            yield GREETING
            while True:
                done, _ = await asyncio.wait(
                    (stopped, *upcoming),
                    timeout=self._heartbeat_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if stopped in done:
                    yield goaway("stopping")
                    return
                if not done:
                    yield HEARTBEAT
                for task in upcoming.keys() & done:
                    piece = task.result()
                    if piece is None:
                        return
                    yield piece
                    source = upcoming.pop(task)
                    upcoming[_next_of(source)] = source
        finally:
            self.open -= 1
            await _closed((stopped, *upcoming), sources)


def _next_of(source: Source) -> asyncio.Task[bytes | None]:
    async def upcoming() -> bytes | None:
        return await anext(source, None)

    return asyncio.create_task(upcoming())


async def _closed(tasks: tuple[asyncio.Task[Any], ...], sources: tuple[Source, ...]) -> None:
    """Close the sources, also while the reader's own task is being cancelled."""
    with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for source in sources:
            await source.aclose()
