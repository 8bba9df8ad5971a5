"""The replies of a project, or of one session, while they are written: one source of a live stream.

A tab that watches a project sees its replies grow on the same connection. The replies of a private
session are in the stream of that session alone. Their events have no ids
there, because the ids of that stream are positions in the timeline: each event names its reply
instead. A reader that comes back gets a running reply from its beginning, or from a snapshot.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import structlog

from domain.events import ReplyStarted
from domain.modes import PRIVATE_ID
from projections.replies import ReplyRef, running
from service.concurrency.retry import retrying
from service.eventlog.errors import DATABASE_AWAY
from service.eventlog.live import POLL
from service.eventlog.store import Recorded
from service.eventlog.transactions import decode
from service.postgres.connections import Pool, tenant_transaction
from service.replies import sse
from service.replies.directory import ReplyDirectory
from service.replies.tail import ReplyTail

QUEUE: Final = 16
"""Pieces that wait for a reader. A slow reader makes only its own pumps wait."""

MOST: Final = 500
"""The most running replies that a reader gets on connecting, and the most replies that may begin
before the reader takes them. Of further replies the reader gets only the ends, as items of the
timeline."""

EVENTS_LOST: Final = "lost"
"""The reason that a reader is given when the events of a reply cannot be read any more. The reply
itself goes on."""

Key = tuple[str, str, str | None]
"""A tenant, its project, and one session of it or all that its members see."""

_log = structlog.stdlib.get_logger(__name__)


class ProjectReplies:
    """Owned by the service's loop. `on_events` is called with all that is committed, in order.

    `_readers` has a queue for each reader: replies that began and that it does not follow yet.
    """

    def __init__(self, pool: Pool, directory: ReplyDirectory) -> None:
        self._pool = pool
        self._directory = directory
        self._readers: defaultdict[Key, set[asyncio.Queue[ReplyRef]]] = defaultdict(set)

    def on_events(self, events: Iterable[Recorded]) -> None:
        """Announce the replies that began to the readers of their projects and sessions."""
        for event in events:
            if event.type == "ReplyStarted" and self._readers:
                started: ReplyStarted = decode(event.type, event.state)
                ref = ReplyRef(
                    tenant_id=event.tenant_id,
                    project_id=event.project_id or "",
                    session_id=started.session_id,
                    reply_id=started.reply_id,
                )
                for key in _readers_of(ref):
                    for begun in self._readers.get(key, ()):
                        if not begun.full():
                            begun.put_nowait(ref)

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
        """Follow the running replies, then each reply that begins; no reply twice at a time."""
        refs = await self._present(key)
        while True:
            for ended in [each for each, pump in pumps.items() if pump.done()]:
                del pumps[ended]
            fresh = {ref.reply_id: ref for ref in refs if ref.reply_id not in pumps}
            for tail in await self._tails(list(fresh.values())):
                events = self._directory.watch(tail.ref)
                pump = self._pump(tail.ref.reply_id, events, pieces)
                pumps[tail.ref.reply_id] = asyncio.create_task(pump)
            refs = [await begun.get()]
            while not begun.empty():
                refs.append(begun.get_nowait())

    async def _present(self, key: Key) -> list[ReplyRef]:
        """The replies that run now."""
        tenant_id, project_id, session_id = key

        async def read() -> list[ReplyRef]:
            async with tenant_transaction(self._pool, tenant_id) as connection:
                rows = await running(
                    connection,
                    tenant_id=tenant_id,
                    project_id=project_id,
                    session_id=session_id,
                    limit=MOST,
                )
            return [row.ref for row in rows]

        return await retrying(read, DATABASE_AWAY, event="running_replies_wait", pauses=(POLL,))

    async def _tails(self, refs: Sequence[ReplyRef]) -> list[ReplyTail]:
        find = partial(self._directory.find_running, refs)
        return await retrying(find, DATABASE_AWAY, event="running_replies_wait", pauses=(POLL,))

    async def _pump(
        self, reply_id: str, events: AsyncGenerator[bytes], pieces: asyncio.Queue[bytes]
    ) -> None:
        """Pass the events of one reply on, each with the reply's id."""
        try:
            async with aclosing(events):
                async for piece in events:
                    if named := _named(piece, reply_id):
                        await pieces.put(named)
        except DATABASE_AWAY as error:
            _log.warning("running_reply_lost", error=type(error).__name__)
            await pieces.put(sse.encode("goaway", {"messageId": reply_id, "reason": EVENTS_LOST}))


def _readers_of(ref: ReplyRef) -> Sequence[Key]:
    """The keys of the readers of a reply: its session, and its project unless that is private."""
    of_session = (ref.tenant_id, ref.project_id, ref.session_id)
    if ref.session_id.startswith(PRIVATE_ID):
        return (of_session,)
    return (of_session, (ref.tenant_id, ref.project_id, None))


def _named(events: bytes, reply_id: str) -> bytes:
    """The events without their ids, each with the id of its reply in its data; no comments.

    So `goaway` is of the one reply, and the reader is not sent away: its `retry` is left out.
    """
    named: list[bytes] = []
    for each in events.split(b"\n\n"):
        if b"event: " in each:
            event, data = sse.decode(each)
            named.append(sse.encode(event, {"messageId": reply_id, **data}))
    return b"".join(named)
