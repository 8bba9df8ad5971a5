"""The replies of a project while they are written, as one source of a live stream.

A tab that watches a project sees its replies grow on the same connection. Their events have no ids
there, for the ids of that stream are places in the timeline: each names its reply instead, and
who comes back is told a running reply from its beginning, or from a snapshot.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import structlog

from projections.replies import ReplyRef, running
from service.eventlog.live import POLL
from service.eventlog.store import DATABASE_AWAY, Recorded
from service.eventlog.transactions import decode
from service.postgres.connections import Pool, tenant_transaction
from service.replies.directory import ReplyDirectory
from service.replies.sse import frame, told

QUEUE: Final = 16
"""Pieces that wait for a reader; a slow one makes its own pumps wait, nobody else."""

MOST: Final = 500
"""Replies that a reader is told of at first, and that may begin before it looks. Of more it sees
the ends, as items."""

Key = tuple[str, str]
"""A tenant and its project."""

_log = structlog.stdlib.get_logger(__name__)


class ProjectReplies:
    """Owned by the service's loop. Who follows the log tells it what was committed."""

    def __init__(self, pool: Pool, tails: ReplyDirectory) -> None:
        self._pool = pool
        self._directory = tails
        self._readers: defaultdict[Key, set[asyncio.Queue[ReplyRef]]] = defaultdict(set)

    def hear(self, events: Sequence[Recorded]) -> None:
        """Tell those who watch a project of the replies that began in it."""
        for event in events:
            key = (event.tenant_id, event.project_id or "")
            if event.type == "ReplyStarted" and key in self._readers:
                started = decode(event.type, event.state)
                place = ReplyRef(
                    tenant_id=key[0],
                    project_id=key[1],
                    session_id=started.session_id,
                    reply_id=started.reply_id,
                )
                for begun in self._readers[key]:
                    if not begun.full():
                        begun.put_nowait(place)

    async def follow(self, key: Key) -> AsyncGenerator[bytes]:
        """The events of all replies that run now or begin later, without end."""
        begun: asyncio.Queue[ReplyRef] = asyncio.Queue(2 * MOST)
        pieces: asyncio.Queue[bytes] = asyncio.Queue(QUEUE)
        pumps: dict[str, asyncio.Task[None]] = {}
        self._readers[key].add(begun)
        finding = asyncio.create_task(self._find(key, begun, pieces, pumps))
        try:
            while True:
                yield await pieces.get()
        finally:
            self._readers[key].remove(begun)
            if not self._readers[key]:
                del self._readers[key]
            tasks = [finding, *pumps.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _find(
        self,
        key: Key,
        begun: asyncio.Queue[ReplyRef],
        pieces: asyncio.Queue[bytes],
        pumps: dict[str, asyncio.Task[None]],
    ) -> None:
        """Those that run already, then those that begin; each is followed once at a time."""
        present = await self._present(key)
        while True:
            place = present.pop() if present else await begun.get()
            for ended in [each for each, pump in pumps.items() if pump.done()]:
                del pumps[ended]
            if place.reply_id not in pumps:
                pumps[place.reply_id] = asyncio.create_task(self._pump(place, pieces))

    async def _present(self, key: Key) -> list[ReplyRef]:
        tenant_id, project_id = key
        while True:
            try:
                async with tenant_transaction(self._pool, tenant_id) as connection:
                    rows = await running(
                        connection, tenant_id=tenant_id, project_id=project_id, limit=MOST
                    )
                return [row.ref for row in rows]
            except DATABASE_AWAY as error:
                _log.warning("running_replies_wait", error=type(error).__name__)
                await asyncio.sleep(POLL)

    async def _pump(self, place: ReplyRef, pieces: asyncio.Queue[bytes]) -> None:
        try:
            tail = await self._directory.find(place, has_ended=False)
            async for events in tail.watch(self._directory.frame_store.after):
                if named := _named(events, place.reply_id):
                    await pieces.put(named)
        except DATABASE_AWAY as error:
            _log.warning("running_reply_lost", error=type(error).__name__)


def _named(events: bytes, reply_id: str) -> bytes:
    """The events that have an id, without it, each with the id of its reply in its data."""
    named: list[bytes] = []
    for each in events.split(b"\n\n"):
        if each.startswith(b"id: "):
            event, data = told(each)
            named.append(frame(event, {"messageId": reply_id, **data}))
    return b"".join(named)
