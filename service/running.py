"""The replies of a project while they are written, as one source of a live stream.

A tab that watches a project sees its replies grow on the same connection. Their events have no ids
there, for the ids of that stream are places in the timeline: each names its reply instead, and
who comes back is told a running reply from its beginning, or from a snapshot.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import structlog

from projections.replies import Place, running
from service.database import Pool
from service.feeds import Key
from service.frames import frame, told
from service.store import AWAY
from service.tails import Tails

QUEUE: Final = 16
"""Pieces that wait for a reader; a slow one makes its own pumps wait, nobody else."""

_log = structlog.stdlib.get_logger(__name__)


class RunningReplies:
    """Of one reader. Its tasks end with `follow`."""

    def __init__(self, pool: Pool, tails: Tails) -> None:
        self._pool = pool
        self._tails = tails
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(QUEUE)
        self._pumps: dict[str, asyncio.Task[None]] = {}

    async def follow(self, key: Key, begun: asyncio.Queue[Place]) -> AsyncGenerator[bytes]:
        """The events of all replies that run now or begin later, without end."""
        finding = asyncio.create_task(self._find(key, begun))
        try:
            while True:
                yield await self._pieces.get()
        finally:
            tasks = [finding, *self._pumps.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _find(self, key: Key, begun: asyncio.Queue[Place]) -> None:
        """Those that run already, then those that begin; who begins twice is followed once."""
        tenant_id, project_id = key
        async with self._pool.connection() as connection:
            rows = await running(connection, tenant_id=tenant_id, project_id=project_id)
        for row in rows:
            self._pump(row.place)
        while True:
            self._pump(await begun.get())

    def _pump(self, place: Place) -> None:
        if place.message_id not in self._pumps:
            task = asyncio.create_task(self._told(place))
            self._pumps[place.message_id] = task
            task.add_done_callback(lambda _: self._pumps.pop(place.message_id, None))

    async def _told(self, place: Place) -> None:
        try:
            tail = await self._tails.find(place, has_ended=False)
            async for events in tail.watch(self._tails.chunks.after):
                if named := _named(events, place.message_id):
                    await self._pieces.put(named)
        except AWAY as error:
            _log.warning("running_reply_lost", error=type(error).__name__)


def _named(events: bytes, message_id: str) -> bytes:
    """The events that have an id, without it, each with the id of its reply in its data."""
    named: list[bytes] = []
    for each in events.split(b"\n\n"):
        if each.startswith(b"id: "):
            event, data = told(each)
            named.append(frame(event, {"messageId": message_id, **data}))
    return b"".join(named)
