"""The live tail: what was committed, by this process or another, to everyone who follows.

Followers share one ring of the newest events and hold nothing but a cursor, so a slow one costs no
memory: who has fallen out of the ring reads the table until it is back in it. A follower takes
position N only after N - 1, wherever it reads from, so what it was given has no gaps.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import psycopg
import structlog

from domain.events import ERASURES
from service.eventlog.store import DATABASE_AWAY, PAGE, EventStore, Recorded, page
from service.postgres.connections import Connect, Connection

RING: Final = 10_000
POLL: Final = 1.0
"""Seconds until a wake-up that got lost is made good."""

_ERASURES: Final = frozenset(kind.__name__ for kind in ERASURES)
_log = structlog.stdlib.get_logger(__name__)


class LiveLog:
    """Owned by the service's loop. The writer publishes; `run` listens for other processes."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._ring: list[Recorded] = []
        self._news = asyncio.Event()
        self._head = 0
        self.followers = 0
        self.writer_pid = 0
        self.listening = asyncio.Event()
        """Set while what other processes commit is heard of."""

    @property
    def head(self) -> int:
        """The highest position known here."""
        return self._head

    def publish(self, events: Sequence[Recorded]) -> None:
        """Pass on events that were committed, in order; those that came in already are left out."""
        fresh = [event for event in events if event.position > self._head]
        if not fresh:
            return
        if fresh[0].position != self._head + 1 or not _ERASURES.isdisjoint(
            event.type for event in fresh
        ):
            # What came before is not here, or may be erased: the table knows.
            self._ring.clear()
        self._ring += fresh
        if len(self._ring) > 2 * RING:
            del self._ring[:-RING]
        self._advance(fresh[-1].position)

    def skip_to(self, position: int) -> None:
        """Know that the log has come this far, where nobody here follows it."""
        if position > self._head:
            self._ring.clear()
            self._advance(position)

    def _advance(self, position: int) -> None:
        self._head = position
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, position: int, *, seconds: float) -> bool:
        """Wait until the log is known to have come to `position`. False when it has not in time."""
        try:
            async with asyncio.timeout(seconds):
                while self._head < position:
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def follow(self, after: int) -> AsyncGenerator[list[Recorded], None]:
        """All events after a position, in order, without end: what is stored, then what happens.

        Yields no events after each silent second, so that the caller can do something else.
        """
        self.followers += 1
        try:
            while True:
                events = self._from_ring(after)
                if events is None:
                    events = await self._stored(after)
                if not events:
                    await self.wait(after + 1, seconds=POLL)
                    events = self._from_ring(after) or []
                if events:
                    if events[0].position != after + 1:
                        raise RuntimeError(f"the log has a gap after position {after}")
                    after = events[-1].position
                yield events
        finally:
            self.followers -= 1

    async def _stored(self, after: int) -> list[Recorded]:
        """What the table has after a position; nothing while the database is away."""
        try:
            return await self._store.range(after=after, limit=PAGE)
        except DATABASE_AWAY as error:
            _log.warning("follower_waits", error=type(error).__name__)
            await asyncio.sleep(POLL)
            return []

    def _from_ring(self, after: int) -> list[Recorded] | None:
        """What the ring has after a position; None when only the table can tell."""
        if after >= self._head > 0:
            return []
        if not self._ring or after + 1 < self._ring[0].position:
            return None
        start = after + 1 - self._ring[0].position
        return self._ring[start : start + PAGE]

    async def run(self, connect: Connect) -> None:
        """Listen for what other processes commit; again and again when the connection is lost."""
        while True:
            try:
                async with await connect() as connection, await connect() as reader:
                    await connection.execute("listen throughline")
                    self.listening.set()
                    await self._listen(connection, reader)
            except (psycopg.OperationalError, OSError) as error:
                self.listening.clear()
                _log.warning("listener_lost_its_connection", error=type(error).__name__)
                await asyncio.sleep(POLL)

    async def _listen(self, connection: Connection, reader: Connection) -> None:
        while True:
            await self._catch_up(await self._store.head(), reader)
            async for notification in connection.notifies(timeout=POLL):
                # Anybody who may connect may notify: what it says is a hint, if it says anything.
                if notification.pid != self.writer_pid and _is_position(notification.payload):
                    await self._catch_up(int(notification.payload), reader)

    async def _catch_up(self, position: int, reader: Connection) -> None:
        """Bring the ring up to what others wrote: one read for all who follow."""
        while self._head < position:
            if not self.followers or not self._head:
                self.skip_to(min(position, await self._store.head()))
                return
            # All there is, not only up to there: who reads slower than others write must not read
            # once for each of their commits.
            events = await page(reader, after=self._head)
            if not events:
                return
            self.publish(events)


def _is_position(payload: str) -> bool:
    return payload.isascii() and payload.isdigit() and len(payload) <= 18
