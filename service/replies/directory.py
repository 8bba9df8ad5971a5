"""The replies that are watched here: those written by this process, by others, and ended ones.

However many readers watch a reply, its frames are read once: the writer pushes what this process
writes, and one query asks for what other processes write, for all such replies.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final
from weakref import WeakValueDictionary

import structlog

from domain.errors import ReplyUnknown
from domain.events import ReplyCompleted, ReplyFailed, ReplyStarted, SessionDeleted
from projections.projects import project
from projections.replies import ReplyRef
from service.concurrency.bounded import for_each
from service.eventlog.errors import DATABASE_AWAY
from service.eventlog.store import Entry, EventStore
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import decode
from service.postgres.connections import Pool, tenant_transaction
from service.replies.envelope import End, end_of
from service.replies.frame_store import FrameStore
from service.replies.tail import ERASED, ReplyTail
from service.replies.text_view import View
from service.replies.writer import Flusher, ReplyWriter

POLL_SECONDS: Final = 0.05
"""The pause between two reads of the replies that have readers here and a writer elsewhere."""

_FINISHED_AT_A_TIME: Final = 3
"""Replies whose ends are read from the log side by side, each on a connection of the pool."""

_ENDING: Final = ("ReplyStarted", "ReplyCompleted", "ReplyFailed", "SessionDeleted")
_log = structlog.stdlib.get_logger(__name__)


class ReplyDirectory:
    """Owned by the service's loop; `run` is its one task.

    Both dictionaries hold tails weakly: readers hold them, and so do the turns that write.
    `_elsewhere` has the tails that other processes write; they are polled.
    """

    def __init__(
        self, pool: Pool, store: EventStore, frame_store: FrameStore, flusher: Flusher
    ) -> None:
        self._pool = pool
        self._store = store
        self._frame_store = frame_store
        self._flusher = flusher
        self._tails: WeakValueDictionary[str, ReplyTail] = WeakValueDictionary()
        self._elsewhere: WeakValueDictionary[str, ReplyTail] = WeakValueDictionary()
        self._watched = asyncio.Event()

    # Writing -------------------------------------------------------------------------------------

    def begin(self, ref: ReplyRef) -> ReplyWriter:
        """The writer of a reply that this process has just begun."""
        tail = self._tails[ref.reply_id] = ReplyTail(ref, self._frame_store)
        return ReplyWriter(tail, self._flusher)

    async def adopt(self, ref: ReplyRef) -> ReplyWriter:
        """The writer of a reply that this process goes on with, after what is stored of it."""
        tail = self._tails.get(ref.reply_id)
        if tail is None:
            tail = self._tails[ref.reply_id] = ReplyTail(ref, self._frame_store)
        tail.push(1, (await self._frame_store.whole(ref)).frames)
        self._elsewhere.pop(ref.reply_id, None)
        return ReplyWriter(tail, self._flusher)

    def release(self, tail: ReplyTail) -> None:
        """Poll the reply from here on: another process writes it."""
        self._elsewhere[tail.ref.reply_id] = tail
        self._watched.set()

    # Reading -------------------------------------------------------------------------------------

    async def find(self, ref: ReplyRef, *, has_ended: bool) -> ReplyTail:
        """The reply, wherever it is written, up to what is stored of it; also a reply that has
        ended.

        Raises ReplyUnknown when it was erased.
        """
        known = self._tails.get(ref.reply_id)
        if known is not None and not known.has_left:
            return known
        tail = ReplyTail(ref, self._frame_store)
        if has_ended:
            await self._finish(tail)
        else:
            tail.push(1, (await self._frame_store.whole(ref)).frames)
        if self._tails.get(ref.reply_id) is not known:  # another reader was faster
            return self._tails[ref.reply_id]
        self._tails[ref.reply_id] = tail
        if not has_ended:
            self.release(tail)
        return tail

    async def find_running(self, refs: Sequence[ReplyRef]) -> list[ReplyTail]:
        """Replies that have not ended, as far as is known; one query for all of them."""
        tails: list[ReplyTail] = []
        for ref in refs:
            tail = self._tails.get(ref.reply_id)
            if tail is None or tail.has_left:
                tail = self._tails[ref.reply_id] = ReplyTail(ref, self._frame_store)
                self.release(tail)
            tails.append(tail)
        if elsewhere := [tail for tail in tails if tail.ref.reply_id in self._elsewhere]:
            await self.poll(*elsewhere)
        return tails

    def watch(self, ref: ReplyRef, after: int = 0, view: View = "ops") -> AsyncGenerator[bytes]:
        """All events of a reply after the frame `after`, to the last, as bytes to send.

        The caller holds the reply's tail; from here on the iterator holds it.
        """
        return self._tails[ref.reply_id].watch(after, view)

    async def poll(self, *tails: ReplyTail) -> None:
        """Bring replies that others write up to what is stored now."""
        by_id = {tail.ref.reply_id: tail for tail in tails}
        newer = await self._frame_store.newer({tail.ref: tail.last for tail in tails})
        for reply_id, number, frame in newer.frames:
            # This process may have gone on with the reply meanwhile: then it numbers the frames.
            if reply_id in self._elsewhere:
                by_id[reply_id].push(number, [frame])
        ended = [by_id[reply_id] for reply_id in newer.ended]
        await for_each(ended, self._finish_or_leave, most=_FINISHED_AT_A_TIME)

    async def run(self) -> None:
        """Keep up with the replies that others write, as long as they are watched here."""
        while True:
            await self._watched.wait()
            if tails := list(self._elsewhere.values()):
                try:
                    await self.poll(*tails)
                except DATABASE_AWAY as error:
                    _log.warning("watched_replies_wait", error=type(error).__name__)
            else:
                self._watched.clear()
            del tails
            await asyncio.sleep(POLL_SECONDS)

    # Ends ----------------------------------------------------------------------------------------

    async def end(self, ref: ReplyRef) -> End | None:
        """How the reply ended, from the log; None while it runs. Raises ReplyUnknown when its
        session was erased."""
        stream_id = str(session_stream(ref.session_id))
        stream = self._store.backwards(ref.tenant_id, stream_id, _ENDING)
        async with aclosing(stream) as pages:
            async for page in pages:
                for stored in page:
                    if stored.type == SessionDeleted.__name__:
                        raise ReplyUnknown
                    event: ReplyStarted | ReplyCompleted | ReplyFailed
                    event = decode(stored.type, stored.state)
                    if event.reply_id == ref.reply_id:
                        return await self._end(ref, event, stored)
        return None

    async def _end(
        self, ref: ReplyRef, event: ReplyStarted | ReplyCompleted | ReplyFailed, stored: Entry
    ) -> End | None:
        if isinstance(event, ReplyStarted):
            return None
        async with tenant_transaction(self._pool, ref.tenant_id) as connection:
            known = await project(
                connection, tenant_id=ref.tenant_id, project_id=ref.project_id, user_id=None
            )
        registered_at = known.registered_at if known else stored.recorded_at
        return end_of(event, stored.recorded_at, registered_at)

    async def _finish_or_leave(self, tail: ReplyTail) -> None:
        try:
            await self._finish(tail)
        except ReplyUnknown:
            self._elsewhere.pop(tail.ref.reply_id, None)
            tail.leave(ERASED)

    async def _finish(self, tail: ReplyTail) -> None:
        """Show the end, if the log has it. Raises ReplyUnknown."""
        end = await self.end(tail.ref)
        if end is not None:
            self._elsewhere.pop(tail.ref.reply_id, None)
            tail.finish(end)
