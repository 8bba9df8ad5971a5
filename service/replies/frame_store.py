"""The table of frames: what replies show is stored there before it is sent.

A number in a reply is taken once, by the key. So the next number is a lock by itself: a process
that takes a reply over claims that number, and the former writer finds it taken and stops.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import psycopg
import structlog

import sql
from projections.replies import ReplyRef
from service.concurrency.retry import retrying
from service.eventlog import pg_arrays
from service.eventlog.errors import DATABASE_AWAY
from service.ids import new_id
from service.postgres.connections import (
    Connect,
    OwnConnection,
    Pool,
    service_transaction,
    tenant_transaction,
)

SQL: Final = sql.statements("frames.sql")
PAGE: Final = 1_000
_PURGE: Final = 10_000
_PURGE_SECONDS: Final = 600.0
_CONNECTION_LOST: Final = (psycopg.OperationalError, psycopg.InterfaceError, OSError)
_log = structlog.stdlib.get_logger(__name__)

Unstored: TypeAlias = tuple[ReplyRef, int, Sequence[bytes | None]]
"""What a reply has to store: the number of the first frame, and the frames in order. None claims
the number of the final event, whose text comes from the log."""


class StoredReply(NamedTuple):
    """What is stored of a reply, and when each frame was. `is_closed` when the number of its final
    event is taken."""

    frames: list[bytes]
    is_closed: bool
    stored_at: list[datetime]


class Newer(NamedTuple):
    """What is new of several replies: which have ended or are gone, and frames by reply and
    number."""

    ended: list[str]
    frames: list[tuple[str, int, bytes]]


class FrameStore:
    """Owned by the service's loop. `store` is called by one task, and has a connection of its own;
    everything else uses the pool."""

    def __init__(self, connect: Connect, pool: Pool, lease_id: int) -> None:
        self._connect = connect
        self._pool = pool
        self._lease_id = lease_id
        self._connection: OwnConnection | None = None

    async def store(self, batch: Sequence[Unstored]) -> list[bool]:
        """Store frames of several replies, however long the database takes.

        Returns for each reply whether its frames are stored; False when another process has
        claimed one of their numbers, and so the reply.
        """
        missing = {ref.reply_id: (ref, first, frames) for ref, first, frames in batch}
        lost: set[str] = set()
        store = partial(self._store, missing, lost)
        await retrying(store, _CONNECTION_LOST, event="frames_wait")
        return [ref.reply_id not in lost for ref, _, _ in batch]

    async def _store(self, missing: dict[str, Unstored], lost: set[str]) -> None:
        """Store what is `missing`, and move replies whose numbers are taken out of it."""
        try:
            while missing:
                try:
                    await self._insert(missing.values())
                    return
                except psycopg.errors.UniqueViolation:
                    await self._sort_out(missing, lost)
        except _CONNECTION_LOST:
            await self.disconnect()
            raise

    async def _insert(self, unstored: Iterable[Unstored]) -> None:
        columns = _columns(unstored) | {"lease_id": self._lease_id}
        connection = await self._connected()
        await connection.execute(SQL["store"], columns, binary=True)
        connection.require_kept()

    async def _sort_out(self, missing: dict[str, Unstored], lost: set[str]) -> None:
        """Numbers under this process's lease are stored, by an insert whose outcome was unknown.
        Other numbers belong to whichever process claimed them, and so do their replies."""
        columns = _columns(missing.values())
        asked = {"reply_id": columns["reply_id"], "n": columns["n"]}
        found = await (await self._connected()).execute(SQL["taken"], asked)
        for reply_id, _, lease_id in await found.fetchall():
            missing.pop(reply_id, None)
            if lease_id != self._lease_id:
                lost.add(reply_id)

    async def _connected(self) -> OwnConnection:
        if self._connection is None:
            self._connection = await self._connect()
            self._connection.can_cancel = False
            pg_arrays.register(self._connection)
        return self._connection

    async def disconnect(self) -> None:
        """Close the connection that frames are stored on."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def claim(self, ref: ReplyRef, number: int) -> bool:
        """Claim the number of the final event, which ends the reply for its writer. False when the
        number is taken."""
        async with service_transaction(self._pool) as connection:
            found = await connection.execute(
                SQL["claim"],
                {
                    "reply_id": ref.reply_id,
                    "n": number,
                    "tenant_id": ref.tenant_id,
                    "lease_id": self._lease_id,
                    "frame": None,
                },
            )
        return await found.fetchone() is not None

    async def purge(self, keep_seconds: float) -> None:
        """Delete the frames of older replies, again and again: those are read from the log."""
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

    async def after(self, ref: ReplyRef, number: int) -> list[bytes]:
        """The next page of a reply's frames after one of them; nothing where they are deleted."""
        asked = {"tenant_id": ref.tenant_id, "reply_id": ref.reply_id}
        async with tenant_transaction(self._pool, ref.tenant_id) as connection:
            found = await connection.execute(SQL["after"], asked | {"after": number, "limit": PAGE})
        rows = await found.fetchall()
        return [bytes(each) for _, each in rows] if rows and rows[0][0] == number + 1 else []

    async def whole(self, ref: ReplyRef) -> StoredReply:
        """All frames of a reply."""
        asked = {"tenant_id": ref.tenant_id, "reply_id": ref.reply_id}
        async with tenant_transaction(self._pool, ref.tenant_id) as connection:
            found = await connection.execute(SQL["whole"], asked)
        rows = await found.fetchall()
        frames = [bytes(each) for _, _, each in rows if each is not None]
        return StoredReply(frames, len(frames) < len(rows), [stored_at for _, stored_at, _ in rows])

    async def newer(self, known: Mapping[ReplyRef, int]) -> Newer:
        """What is new of replies of any tenants, each after the frame that is known of it."""
        asked = {
            "tenant_id": pg_arrays.text([ref.tenant_id for ref in known]),
            "reply_id": pg_arrays.text([ref.reply_id for ref in known]),
        }
        after = {"reply_id": asked["reply_id"], "after": pg_arrays.int4(list(known.values()))}
        async with service_transaction(self._pool) as connection:
            pg_arrays.register(connection)
            # First which replies have ended, then frames: so all frames of those are there.
            ended = await connection.execute(SQL["ended"], asked)
            newer = await connection.execute(SQL["newer"], after)
        rows = await newer.fetchall()
        return Newer(
            ended=[reply_id for (reply_id,) in await ended.fetchall()],
            frames=[(reply_id, number, bytes(frame)) for reply_id, number, frame in rows],
        )


def _columns(unstored: Iterable[Unstored]) -> dict[str, pg_arrays.Array]:
    rows = [
        (ref.reply_id, number, ref.tenant_id, frame)
        for ref, first, frames in unstored
        for number, frame in enumerate(frames, first)
    ]
    reply_ids, numbers, tenants, frames = zip(*rows, strict=True)
    return {
        "reply_id": pg_arrays.text(reply_ids),
        "n": pg_arrays.int4(numbers),
        "tenant_id": pg_arrays.text(tenants),
        "frame": pg_arrays.bytea(frames),
    }
