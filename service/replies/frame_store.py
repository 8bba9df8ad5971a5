"""Storing what replies show: one insert at a time for all replies of the process, then it is sent.

A place in a reply is taken once, by the key. So the next place is a lock by itself: who takes a
reply over, takes it, and whoever wrote it before finds it taken and stops.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import psycopg
import structlog

import sql
from projections.replies import ReplyRef
from service.eventlog import pg_arrays
from service.eventlog.store import DATABASE_AWAY
from service.ids import new_id
from service.postgres.connections import Connect, Pool, service_transaction, tenant_transaction

if TYPE_CHECKING:
    from service.replies.writer import ReplyWriter

SQL: Final = sql.statements("frames.sql")
GATHER_SECONDS: Final = 0.05
PAGE: Final = 1_000
_BACK_OFF_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
_PURGE: Final = 10_000
_PURGE_SECONDS: Final = 600.0

_log = structlog.stdlib.get_logger(__name__)

Batch = dict["ReplyWriter", list["bytes | None"]]
"""What each reply has to store next, in order; None is the place of its final event."""


class FrameStore:
    """The table of frames. Owned by the service's loop; `run` is the one task that writes."""

    def __init__(self, connect: Connect, pool: Pool, lease_id: int) -> None:
        self._connect = connect
        self._pool = pool
        self._lease_id = lease_id
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._waiting: dict[ReplyWriter, None] = {}
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = False

    def soon(self, reply: "ReplyWriter") -> None:
        """The reply has something to store, together with what others have in the next moment."""
        self._waiting[reply] = None
        self._work.set()

    def now(self, reply: "ReplyWriter") -> None:
        """The reply has something to store that its readers wait for."""
        self.soon(reply)
        self._urgent.set()

    async def run(self) -> None:
        """Store until closed and nothing waits."""
        try:
            while self._waiting or not self._closing:
                if not self._waiting:
                    self._work.clear()
                    await self._work.wait()
                else:
                    await self._gather()
                    await self._store()
        finally:
            await self._disconnect()

    def close(self) -> None:
        """No more is to come; `run` ends when what waits is stored."""
        self._closing = True
        self._work.set()
        self._urgent.set()

    async def _gather(self) -> None:
        """Wait a moment for others, unless somebody's readers wait."""
        try:
            async with asyncio.timeout(GATHER_SECONDS):
                await self._urgent.wait()
        except TimeoutError:
            pass

    async def _store(self) -> None:
        """Store what waits, whatever it takes."""
        if not self._closing:
            self._urgent.clear()
        waiting, self._waiting = self._waiting, {}
        batch: Batch = {reply: frames for reply in waiting if (frames := reply.unstored())}
        failures = count()
        while batch:
            try:
                await self._insert(batch)
                break
            except psycopg.errors.UniqueViolation:
                await self._give_way(batch)
            except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
                await self._back_off(error, next(failures))
        for reply, frames in batch.items():
            reply.stored(len(frames))

    async def _insert(self, batch: Batch) -> None:
        await (await self._connected()).execute(
            SQL["store"],
            _columns(batch, ("reply_id", "n", "tenant_id", "frame")) | {"lease_id": self._lease_id},
            binary=True,
        )

    async def _give_way(self, batch: Batch) -> None:
        """Of the places that are taken, those taken here are stored; the others belong to whoever
        took them, and so do their replies."""
        connection = await self._connected()
        found = await connection.execute(SQL["taken"], _columns(batch, ("reply_id", "n")))
        taken = await found.fetchall()
        replies = {reply.tail.place.reply_id: reply for reply in batch}
        lost = {replies[reply_id] for reply_id, _, lease_id in taken if lease_id != self._lease_id}
        for reply in {replies[reply_id] for reply_id, _, _ in taken}:
            frames = batch.pop(reply)
            if reply in lost:
                reply.lose()
            else:  # by an insert whose outcome was unknown
                reply.stored(len(frames))

    async def _back_off(self, error: Exception, failures: int) -> None:
        _log.warning("chunks_lost_their_connection", error=type(error).__name__)
        await self._disconnect()
        await asyncio.sleep(_BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)])

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None:
            self._connection = await self._connect()
            pg_arrays.register(self._connection)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def purge(self, keep_seconds: float) -> None:
        """Forget replies that are older, again and again: those are read from the log."""
        while True:
            oldest = {"before": new_id(seconds_ago=keep_seconds), "limit": _PURGE}
            try:
                async with service_transaction(self._pool) as connection:
                    gone = await connection.execute(SQL["purge"], oldest)
                await asyncio.sleep(1 if gone.rowcount else _PURGE_SECONDS)
            except DATABASE_AWAY as error:
                _log.warning("purge_waits", error=type(error).__name__)
                await asyncio.sleep(_PURGE_SECONDS)

    # Reading -------------------------------------------------------------------------------------

    async def after(self, place: ReplyRef, n: int) -> list[bytes]:
        """The next page of a reply's frames after one of them; nothing where they are gone."""
        async with tenant_transaction(self._pool, place.tenant_id) as connection:
            found = await connection.execute(
                SQL["after"],
                {
                    "tenant_id": place.tenant_id,
                    "reply_id": place.reply_id,
                    "after": n,
                    "limit": PAGE,
                },
            )
            rows = await found.fetchall()
        return [bytes(each) for _, each in rows] if rows and rows[0][0] == n + 1 else []

    async def whole(self, place: ReplyRef) -> tuple[list[bytes], bool, datetime | None]:
        """All frames of a reply, whether the place of its final event is taken, and when the last
        one was stored."""
        async with tenant_transaction(self._pool, place.tenant_id) as connection:
            found = await connection.execute(
                SQL["whole"], {"tenant_id": place.tenant_id, "reply_id": place.reply_id}
            )
            rows = await found.fetchall()
        frames = [bytes(each) for _, _, each in rows if each is not None]
        return frames, len(frames) < len(rows), rows[-1][1] if rows else None

    async def take(self, place: ReplyRef, n: int, frame: bytes | None) -> bool:
        """Take a place in a reply that somebody else may be writing. False when it is taken."""
        async with service_transaction(self._pool) as connection:
            found = await connection.execute(
                SQL["claim"],
                {
                    "reply_id": place.reply_id,
                    "n": n,
                    "tenant_id": place.tenant_id,
                    "lease_id": self._lease_id,
                    "frame": frame,
                },
            )
            return await found.fetchone() is not None


def _columns(batch: Batch, names: Sequence[str]) -> dict[str, pg_arrays.Array]:
    rows = [
        (reply.tail.place.reply_id, n, reply.tail.place.tenant_id, frame)
        for reply, frames in batch.items()
        for n, frame in enumerate(frames, reply.tail.last + 1)
    ]
    reply_ids, ns, tenants, frames = zip(*rows, strict=True)
    columns = {
        "reply_id": pg_arrays.text(reply_ids),
        "n": pg_arrays.int4(ns),
        "tenant_id": pg_arrays.text(tenants),
        "frame": pg_arrays.bytea(frames),
    }
    return {name: columns[name] for name in names}
