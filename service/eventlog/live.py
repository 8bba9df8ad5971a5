"""The live tail of the log: what this process or another one commits, for everyone who follows.

Followers share one ring of the newest events, bounded by number and by bytes. Each follower holds a
cursor and nothing else, so a slow follower costs no memory: a follower that has fallen out of the
ring reads the table until it is back in it. A follower gets position N after N - 1, wherever it
reads from, so that there are no gaps.

The followers of one tenant share another ring, of its events alone: an event of a tenant costs
nothing for the followers of other tenants.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from operator import length_hint
from typing import Final
from weakref import WeakValueDictionary

import psycopg
import structlog

from domain.events import ERASURES
from service.concurrency.retry import retrying
from service.concurrency.ring import Ring
from service.eventlog.errors import DATABASE_AWAY
from service.eventlog.store import PAGE, EventStore, Recorded, head_of, is_lost, page
from service.postgres.connections import Connect, Connection
from service.postgres.moves import answered
from service.wire import position_of

RING: Final = 10_000
RING_BYTES: Final = 32 * 1024 * 1024
"""What the ring holds at the most: events, and bytes of their states and metadata."""

TENANT_RING: Final = 1_000
TENANT_RING_BYTES: Final = 1024 * 1024
"""What the ring of one tenant holds at the most. There are as many as tenants with a follower."""

POLL: Final = 1.0
"""Poll interval in seconds, which covers a lost NOTIFY."""


class HistoryLost(RuntimeError):
    """The log does not have an event that this process knows: it lost its last events in a restore
    or a failover. What the process remembers may be of these events. Start it again."""


_ERASURES: Final = frozenset(kind.__name__ for kind in ERASURES)
_log = structlog.stdlib.get_logger(__name__)


class LiveLog:
    """Owned by the service's loop. The writer publishes; `run` listens for other processes.

    The ring goes up to the head of the log as this process knows it; 0 means that it knows none.
    """

    def __init__(
        self, store: EventStore, *, most: int = RING, most_bytes: int = RING_BYTES
    ) -> None:
        self._store = store
        self._ring: Ring[Recorded] = Ring(most, most_bytes)
        self._tails: WeakValueDictionary[str, Ring[Recorded]] = WeakValueDictionary()
        self._last: str | None = None
        self._is_lost = False
        self.followers = 0
        self.writer_pid = 0
        self.listening = asyncio.Event()
        """Set while the process hears what other processes commit."""

    @property
    def head(self) -> int:
        """The highest position known here."""
        return self._ring.upto

    @property
    def known_head(self) -> int | None:
        """The same; None while this process does not hear what others append."""
        return self.head if self.head and self.listening.is_set() else None

    async def require_same_history(self, connection: Connection) -> None:
        """Raises HistoryLost where the log does not have the last event that is known here. Then
        all followers end with the same error."""
        if self._last is not None and await is_lost(connection, self._last):
            self._is_lost = True
            for ring in self._rings:
                ring.wake()
        if self._is_lost:
            raise HistoryLost

    @property
    def _rings(self) -> list[Ring[Recorded]]:
        return [self._ring, *self._tails.values()]

    def publish(self, events: Sequence[Recorded]) -> None:
        """Pass on committed events, in order; events at or below the head are left out."""
        fresh = [event for event in events if event.position > self.head]
        if not fresh:
            return
        if fresh[0].position != self.head + 1:
            self._restart(fresh[0].position - 1)
        self._last = fresh[-1].cursor
        by_tenant: defaultdict[str, list[Recorded]] = defaultdict(list)
        for event in fresh if self._tails else ():
            by_tenant[event.tenant_id].append(event)
        for tenant_id, theirs in by_tenant.items():
            if (tail := self._tails.get(tenant_id)) is not None:
                _extend(tail, theirs)
        _extend(self._ring, fresh)

    def skip_to(self, cursor: str) -> None:
        """Know that the log goes up to this event, while nobody in this process follows it."""
        position = position_of(cursor)
        if position > self.head:
            self._last = cursor
            self._restart(position)

    def _restart(self, position: int) -> None:
        """Go on after this position, and leave all events before it to the table."""
        for ring in self._rings:
            ring.restart(position)

    async def wait(self, position: int, *, seconds: float) -> bool:
        """Wait until the log is known to have come to `position`. False when it has not in time."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while self.head < position:
            if not await self._ring.wait(deadline - clock()) and clock() >= deadline:
                return False
        return True

    async def follow(self, after: int) -> AsyncGenerator[list[Recorded], None]:
        """All events after a position, in order, without end: stored events, then new ones.

        Yields an empty page after each silent second, so that the caller can do something else.
        Raises HistoryLost where the log loses events that the caller has.
        """
        self.followers += 1
        last: str | None = None
        try:
            while True:
                events = self._from_ring(after)
                if events is None:
                    events = await self._stored(after, last)
                if not events:
                    await self.wait(after + 1, seconds=POLL)
                    events = self._from_ring(after) or []
                if self._is_lost:
                    raise HistoryLost
                if events:
                    if events[0].position != after + 1:
                        raise RuntimeError(f"the log has a gap after position {after}")
                    after, last = events[-1].position, events[-1].cursor
                yield events
        finally:
            self.followers -= 1

    def tail(self, tenant_id: str) -> Ring[Recorded]:
        """The newest events of a tenant: all events above the floor of the ring, as long as the
        caller holds it. A tail that is new begins at the head."""
        known = self._tails.get(tenant_id)
        if known is not None:
            return known
        tail: Ring[Recorded] = Ring(TENANT_RING, TENANT_RING_BYTES, floor=self.head)
        self._tails[tenant_id] = tail
        return tail

    async def follow_tail(
        self, tail: Ring[Recorded], after: int
    ) -> AsyncGenerator[list[Recorded], None]:
        """The events of a tenant after a position, in order, as long as its tail has them; the end
        says that only the table has the next events.

        Yields an empty page after each silent second. Raises HistoryLost as `follow` does.
        """
        self.followers += 1
        try:
            while (events := tail.after(after)) is not None:
                if not events:
                    await tail.wait(POLL)
                    events = tail.after(after) or []
                if self._is_lost:
                    raise HistoryLost
                if events:
                    after = events[-1].position
                yield events
        finally:
            self.followers -= 1

    async def _stored(self, after: int, last: str | None) -> list[Recorded]:
        """The table's events after a position; none while the database is away.

        Raises HistoryLost where the event before them is not `last`.
        """
        known = 0 if last is None else 1
        try:
            events = await self._store.range(after=after - known, limit=PAGE + known)
            if last is not None and [each.cursor for each in events[:1]] != [last]:
                if await self._store.is_lost(last):
                    raise HistoryLost
                return []  # the answer was of a former primary, which lacks the newest events
            return events[known:]
        except DATABASE_AWAY as error:
            _log.warning("follower_waits", error=type(error).__name__)
            await asyncio.sleep(POLL)
            return []

    def _from_ring(self, after: int) -> list[Recorded] | None:
        """The ring's events after a position; None where only the table has them."""
        return self._ring.after(after, PAGE) if self.head else None

    async def run(self, connect: Connect) -> None:
        """Listen for what other processes commit; connect again when the connection is lost."""

        async def listen() -> None:
            try:
                async with await connect() as connection, await connect() as reader:
                    await connection.execute("listen throughline")
                    self.listening.set()
                    await self._listen(connection, reader, connect)
            finally:
                self.listening.clear()

        lost = (psycopg.OperationalError, OSError)
        await retrying(listen, lost, event="listener_lost_its_connection", pauses=(POLL,))

    async def _listen(self, connection: Connection, reader: Connection, connect: Connect) -> None:
        while True:
            await answered(self._poll(reader), reader, connect)
            async for notification in connection.notifies(timeout=POLL):
                # Any role that may connect may notify: the payload is at most a hint.
                if notification.pid != self.writer_pid and _is_position(notification.payload):
                    caught_up = self._catch_up(int(notification.payload), reader)
                    await answered(caught_up, reader, connect)

    async def _poll(self, reader: Connection) -> None:
        await self.require_same_history(reader)
        await self._catch_up(position_of(await head_of(reader)), reader)

    async def _catch_up(self, position: int, reader: Connection) -> None:
        """Bring the ring up to what others wrote: one read for all followers."""
        while self.head < position:
            if not self.followers or not self.head:
                self.skip_to(await head_of(reader))
                return
            # All there is, not only up to `position`: a process that reads slower than others write
            # must not read once for each of their commits.
            events = await page(reader, after=self.head)
            if not events:
                return
            self.publish(events)


def _extend(ring: Ring[Recorded], events: Sequence[Recorded]) -> None:
    """Add events that follow. The texts before an erasure may be blank in the table by now, so the
    ring begins anew with the last erasure."""
    for n in reversed(range(len(events))):
        if events[n].type in _ERASURES:
            events = events[n:]
            ring.restart(events[0].position - 1)
            break
    ring.extend(
        [event.position for event in events],
        events,
        [len(event.state) + len(event.metadata) for event in events],
    )


def pass_on(page: Sequence[Recorded], hook: Callable[[Iterable[Recorded]], None]) -> None:
    """Call a hook with the events of a page, in order.

    The hook passes over an event that it cannot read: other applications may keep events in the
    log, with a type that is unknown here or with other fields.
    """
    rest = iter(page)
    while True:
        try:
            hook(rest)
        except Exception as error:  # noqa: BLE001 - one event must not take the others away
            event = page[-1 - length_hint(rest)]
            _log.warning(
                "event_passed_over",
                position=event.position,
                type=event.type,
                error=type(error).__name__,
            )
        else:
            return


def _is_position(payload: str) -> bool:
    return payload.isascii() and payload.isdigit() and len(payload) <= 18
