"""The replies that are watched here: those written by this process, by others, and ended ones.

However many watch a reply, its frames are read once: what this process writes comes from the
writer, what others write is asked for in one query for all such replies.
"""

import asyncio
from collections.abc import Sequence
from typing import Final
from weakref import WeakValueDictionary

import structlog

from domain.events import ReplyCompleted, ReplyFailed
from projections.projects import project
from projections.replies import ReplyRef
from service.eventlog import pg_arrays
from service.eventlog.store import DATABASE_AWAY, EventStore, Recorded
from service.eventlog.transactions import decode, session_stream
from service.postgres.connections import Pool, service_transaction, tenant_transaction
from service.replies.envelope import final_envelope
from service.replies.frame_store import SQL, FrameStore
from service.replies.tail import End, ReplyTail

LOOK_SECONDS: Final = 0.05
"""How often the frames of replies that others write are asked for, while somebody watches."""

_ENDS: Final = ("ReplyCompleted", "ReplyFailed")
_log = structlog.stdlib.get_logger(__name__)


class ReplyDirectory:
    """Owned by the service's loop; `run` is its one task."""

    def __init__(self, pool: Pool, store: EventStore, frame_store: FrameStore) -> None:
        self.frame_store = frame_store
        self._pool = pool
        self._store = store
        # Held by those who watch, and by the turns that write.
        self._directory: WeakValueDictionary[str, ReplyTail] = WeakValueDictionary()
        self._elsewhere: WeakValueDictionary[str, ReplyTail] = WeakValueDictionary()
        self._watched = asyncio.Event()

    def begin(self, place: ReplyRef) -> ReplyTail:
        """The tail of a reply that this process has just begun."""
        tail = self._directory[place.reply_id] = ReplyTail(place)
        return tail

    async def adopt(self, place: ReplyRef) -> ReplyTail:
        """The tail of a reply that this process goes on with, up to what is stored of it."""
        tail = self._directory.get(place.reply_id)
        if tail is None:
            tail = self.begin(place)
        self._elsewhere.pop(place.reply_id, None)
        frames, _, _ = await self.frame_store.whole(place)
        tail.push(1, frames)
        return tail

    def let_go(self, tail: ReplyTail) -> None:
        """The reply is written elsewhere from here on."""
        self._elsewhere[tail.place.reply_id] = tail
        self._watched.set()

    async def find(self, place: ReplyRef, *, has_ended: bool) -> ReplyTail:
        """The reply, wherever it is written, up to what is stored of it; also one that ended."""
        known = self._directory.get(place.reply_id)
        if known is not None and not known.has_left:
            return known
        tail = ReplyTail(place)
        if has_ended:
            await self._finish(tail)
        else:
            tail.push(1, (await self.frame_store.whole(place))[0])
        if self._directory.get(place.reply_id) is not known:  # somebody else was faster
            return self._directory[place.reply_id]
        self._directory[place.reply_id] = tail
        if not has_ended:
            self.let_go(tail)
        return tail

    async def look(self, *directory: ReplyTail) -> None:
        """Bring replies that others write up to what is stored now."""
        by_id = {tail.place.reply_id: tail for tail in directory}
        async with service_transaction(self._pool) as connection:
            pg_arrays.register(connection)
            found = await connection.execute(SQL["ended"], _asked(directory))
            # First who has ended, then the frames: so the frames of those are all there.
            ended = [reply_id for (reply_id,) in await found.fetchall()]
            found = await connection.execute(SQL["newer"], _asked(directory, with_last=True))
            rows = await found.fetchall()
        for reply_id, n, frame in rows:
            # This process may have gone on with it meanwhile: then it numbers the frames.
            if reply_id in self._elsewhere:
                by_id[reply_id].push(n, [bytes(frame)])
        for reply_id in ended:
            await self._finish(by_id[reply_id])

    async def run(self) -> None:
        """Keep up with the replies that others write, as long as somebody here watches them."""
        while True:
            await self._watched.wait()
            if directory := list(self._elsewhere.values()):
                try:
                    await self.look(*directory)
                except DATABASE_AWAY as error:
                    _log.warning("tails_wait", error=type(error).__name__)
            else:
                self._watched.clear()
            del directory
            await asyncio.sleep(LOOK_SECONDS)

    async def end(self, place: ReplyRef) -> End | None:
        """How the reply ended, from the log; None while it runs."""
        stream = session_stream(place.session_id)
        for event in reversed(await self._store.stream(place.tenant_id, stream)):
            if event.type in _ENDS:
                ended: ReplyCompleted | ReplyFailed = decode(event.type, event.state)
                if ended.reply_id == place.reply_id:
                    return await self._told(place, ended, event)
        return None

    async def _told(
        self, place: ReplyRef, ended: ReplyCompleted | ReplyFailed, event: Recorded
    ) -> End:
        async with tenant_transaction(self._pool, place.tenant_id) as connection:
            known = await project(
                connection, tenant_id=place.tenant_id, project_id=place.project_id, user_id=None
            )
        registered_at = known.registered_at if known else event.recorded_at
        return End(
            frames=ended.frames, envelope=final_envelope(ended, event.recorded_at, registered_at)
        )

    async def _finish(self, tail: ReplyTail) -> None:
        end = await self.end(tail.place)
        if end is not None:
            self._elsewhere.pop(tail.place.reply_id, None)
            tail.finish(end)


def _asked(
    directory: Sequence[ReplyTail], *, with_last: bool = False
) -> dict[str, pg_arrays.Array]:
    asked = {"reply_id": pg_arrays.text([tail.place.reply_id for tail in directory])}
    if with_last:
        return asked | {"after": pg_arrays.int4([tail.last for tail in directory])}
    return asked | {"tenant_id": pg_arrays.text([tail.place.tenant_id for tail in directory])}
