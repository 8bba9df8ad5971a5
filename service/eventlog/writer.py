"""Appends to the log: each process has one writer, which commits many appends at once.

Callers wait while the writer, one task on the service's loop, drains a bounded queue: up to 256
appends, at most one a stream, go into one transaction. Gapless positions are a lock by themselves:
a batch is inserted at the head that the writer remembers, and where the primary key accepts it,
nobody else wrote, so the remembered stream versions were right as well. If not, the same batch goes
through a function that takes a lock and answers each append by itself.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import chain, count
from math import inf
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
import structlog
from psycopg.types.numeric import Int8

from service.concurrency.lru import LRU
from service.concurrency.retry import PAUSES_SECONDS
from service.eventlog import pg_arrays
from service.eventlog.errors import DatabaseAway, OutcomeUnknown, Overloaded, Stopping
from service.eventlog.live import HistoryLost, LiveLog
from service.eventlog.store import SQL, NewEvent, Recorded, WrongVersion
from service.postgres.connections import Connect, OwnConnection
from service.wire import cursor

BATCH: Final = 256
QUEUE: Final = 4_096
QUEUE_BYTES: Final = 64 * 1024 * 1024
HEADS: Final = 100_000
PATIENCE: Final = 10.0
"""Seconds that a caller waits for its append, unless the caller gives another number."""

_PATIENCE_GRAIN: Final = 0.02
_STATEMENT_SECONDS: Final = 30.0
_SERVER_SECONDS: Final = 25
"""After so many seconds PostgreSQL ends a statement, for example a statement that waits for a lock.
PostgreSQL never ends a commit that waits for a standby."""
_log = structlog.stdlib.get_logger(__name__)

_COLUMNS: Final[tuple[tuple[str, Callable[[Any], pg_arrays.Array]], ...]] = (
    ("tenant_id", pg_arrays.text),
    ("stream_id", pg_arrays.text),
    ("version", pg_arrays.int4),
    ("type", pg_arrays.text),
    ("state", pg_arrays.bytea),
    ("project_id", pg_arrays.text),
    ("schema_version", pg_arrays.int2),
    ("metadata", pg_arrays.text),
)
"""How each field of a NewEvent is sent, in their order."""

Stream = tuple[str, str]


class Appended(NamedTuple):
    """The place of an append: its events have the positions from the first to the last."""

    first_position: int
    last_position: int
    recorded_at: datetime


class _Item:
    """One append in the queue; `sent` once a commit with it has been tried.

    `is_named` when the caller chose its id: it may be in the log from an earlier try. Others get
    one when they are first sent.
    `is_in_doubt` when it may have met itself there, which only the locked function can tell.
    """

    __slots__ = (
        *("append_id", "begun", "deadline", "done", "events", "firsts", "is_in_doubt", "is_named"),
        *("sent", "size"),
    )

    def __init__(
        self,
        events: Sequence[NewEvent],
        append_id: UUID | None,
        done: asyncio.Future[Appended],
        begun: float,
        deadline: float,
    ) -> None:
        self.events = events
        self.append_id = append_id.bytes if append_id else b""
        self.is_named = append_id is not None
        self.is_in_doubt = False
        self.done = done
        self.begun = begun
        self.deadline = deadline
        self.firsts = _first_versions(events)
        self.size = sum([len(event.state) + len(event.metadata) for event in events])
        self.sent = False

    def appended(self, first: int, recorded_at: datetime) -> Appended:
        """The place of the append, given the position of its first event."""
        return Appended(first, first + len(self.events) - 1, recorded_at)

    def succeed(self, appended: Appended) -> None:
        if not self.done.done():
            self.done.set_result(appended)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def give_up(self) -> None:
        """End the wait: the error says whether the append can be in the log."""
        if self.sent:
            self.fail(OutcomeUnknown())
        else:
            self.fail(DatabaseAway("the database did not take the append in time"))


class Writer:
    """Appends to the log. Owned by the service's loop; `run` is its one task."""

    def __init__(self, connect: Connect, live_log: LiveLog) -> None:
        self._connect = connect
        self._live_log = live_log
        self._connection: OwnConnection | None = None
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._in_hand: list[_Item] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._heads: LRU[Stream, int] = LRU(HEADS)
        self._last: int | None = None
        self.kept = 0
        """The log is on a standby up to this position, at least."""
        self._alone = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf

    async def append(
        self,
        events: Sequence[NewEvent],
        *,
        append_id: UUID | None = None,
        patience: float = PATIENCE,
    ) -> Appended:
        """Append all of `events`, or none; returns when they are durable.

        `append_id` names the append: given a second time, it is answered and not done again.
        Raises WrongVersion, Unavailable, and OutcomeUnknown when it may be in the log.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        item = _Item(events, append_id, loop.create_future(), now, now + patience)
        self._enqueue(item)
        if item.deadline < self._alarm_at:
            self._set_alarm(item.deadline)
        return await item.done

    def _enqueue(self, item: _Item) -> None:
        if self._closing:
            raise Stopping("the writer is closing")
        if len(self._queue) >= QUEUE or self._queued_bytes + item.size > QUEUE_BYTES:
            raise Overloaded("too many appends are waiting")
        self._queue.append(item)
        self._queued_bytes += item.size
        self._wake.set()

    @property
    def waited_seconds(self) -> float:
        """For how long the oldest append has waited."""
        now = asyncio.get_running_loop().time()
        waiting = (each for each in chain(self._in_hand, self._queue) if not each.done.done())
        return now - next((each.begun for each in waiting), now)

    async def run(self) -> None:
        """Write until the writer is closed and nothing waits; then close the connection."""
        try:
            while not self._closing or self._queue:
                self._in_hand = self._next_batch()
                if self._in_hand:
                    await self._commit(self._in_hand)
                elif not self._queue and not self._closing:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            self._closing = True
            for item in (*self._in_hand, *self._queue):
                item.give_up()
            self._set_alarm(inf)
            await self._disconnect()

    def close(self) -> None:
        """Accept no more appends; `run` ends when all waiting appends are written."""
        self._closing = True
        self._wake.set()

    # Patience ------------------------------------------------------------------------------------

    def _set_alarm(self, at: float) -> None:
        """One timer for all waiting callers: a timer each would cost more than queueing."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = None
        if at < inf:
            self._alarm = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        """End the waits that are over, and set the timer for the next one."""
        now = asyncio.get_running_loop().time()
        waiting = [item for item in (*self._in_hand, *self._queue) if not item.done.done()]
        for item in waiting:
            if item.deadline <= now:
                item.give_up()
        later = [item.deadline for item in waiting if item.deadline > now]
        self._set_alarm(max(min(later), now + _PATIENCE_GRAIN) if later else inf)

    # Making a batch ------------------------------------------------------------------------------

    def _next_batch(self) -> list[_Item]:
        """The appends to write together; a stream's second append waits for the next batch."""
        batch: list[_Item] = []
        later: list[_Item] = []
        streams: set[Stream] = set()
        while self._queue and len(batch) < BATCH:
            item = self._queue.popleft()
            self._queued_bytes -= item.size
            if item.done.done() or self._answered_from_memory(item):
                continue
            (batch if streams.isdisjoint(item.firsts) else later).append(item)
            streams.update(item.firsts)
        self._queue.extendleft(reversed(later))
        self._queued_bytes += sum(item.size for item in later)
        return batch

    def _answered_from_memory(self, item: _Item) -> bool:
        """Versions only grow: an expectation below a remembered one is stale without asking.

        An item that was sent before may be in the log already: the version that it meets may be its
        own.
        """
        for stream, first in item.firsts.items():
            head = self._heads.get(stream)
            if head is not None and first <= head:
                if item.sent or item.is_named:
                    item.is_in_doubt = True
                    return False
                item.fail(WrongVersion(stream[1], first - 1, head))
                return True
        return False

    # Committing it -------------------------------------------------------------------------------

    async def _commit(self, batch: list[_Item]) -> None:
        """Write until every item is answered, or its caller has stopped waiting."""
        failures = count()
        while batch := [item for item in batch if not item.done.done()]:
            try:
                async with asyncio.timeout(_STATEMENT_SECONDS):
                    await self._write(batch)
            except psycopg.errors.UniqueViolation:
                self._alone = False
            except HistoryLost:
                raise
            except psycopg.errors.ProgramLimitExceeded as error:
                # A row or batch is too large: an OperationalError, but another try changes nothing.
                await self._isolate(batch, error)
            except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
                await self._back_off(error, next(failures))
            except Exception as error:  # noqa: BLE001 - one bad append must not fail the others
                await self._isolate(batch, error)

    async def _write(self, batch: list[_Item]) -> None:
        connection = await self._connected()
        if self._alone and not _any_in_doubt(batch):
            batch = await self._fitting(connection, batch)
        if not self._alone or _any_in_doubt(batch):
            await self._write_surely(connection, batch)
        elif batch:
            await self._write_quickly(connection, batch)

    async def _back_off(self, error: Exception, failures: int) -> None:
        """Close the lost connection, whose last commit is in doubt, and pause."""
        _log.warning("writer_lost_its_connection", error=type(error).__name__)
        await self._disconnect()
        await asyncio.sleep(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])

    async def _isolate(self, batch: list[_Item], error: Exception) -> None:
        """The database refused the batch: write the items one by one, fail those it refuses."""
        if len(batch) == 1:
            batch[0].fail(error)
            return
        for item in batch:
            await self._commit([item])

    async def _fitting(self, connection: OwnConnection, batch: list[_Item]) -> list[_Item]:
        """The items whose expectations hold; the others are answered.

        A stream that begins at version 1 needs no read, because the key refuses a version that is
        taken. A stream that begins at version 0 needs a read, because the key would not refuse that
        version where the stream began at 1.
        """
        heads = self._heads
        unsure = [
            stream
            for item in batch
            for stream, first in item.firsts.items()
            if first != (heads.get(stream) or 0) + 1
        ]
        if not unsure:
            return batch
        await self._read_versions(connection, unsure)
        return [item for item in batch if not self._answered_unfit(item)]

    def _answered_unfit(self, item: _Item) -> bool:
        """Answer an item that expects another version than the table has; true if it does."""
        if self._answered_from_memory(item):
            return True
        for stream, first in item.firsts.items():
            head = self._heads.get(stream)
            if first > (head or 0) + 1:
                item.fail(WrongVersion(stream[1], first - 1, head))
                return True
        return False

    async def _read_versions(self, connection: OwnConnection, streams: list[Stream]) -> None:
        tenants, ids = zip(*streams, strict=True)
        found = await connection.execute(
            SQL["heads"], {"tenant_id": pg_arrays.text(tenants), "stream_id": pg_arrays.text(ids)}
        )
        for n, version in await found.fetchall():
            self._heads.put(streams[int(n)], version)

    async def _write_quickly(self, connection: OwnConnection, batch: list[_Item]) -> None:
        """One plain insert at the remembered head; the key refuses it if others wrote."""
        assert self._last is not None
        columns = _columns(batch)
        columns["last"] = Int8(self._last)
        types = {event.type for item in batch for event in item.events}
        columns["types"] = pg_arrays.text(list(types))
        cursor = await connection.execute(SQL["append"], columns, binary=True)
        row = await cursor.fetchone()
        connection.require_kept()
        if row is None:
            self._alone = False
            return
        positions = _running_totals(self._last + 1, (len(item.events) for item in batch))
        self._complete(
            [(item, item.appended(p, row[1])) for item, p in zip(batch, positions, strict=True)]
        )
        self._last += row[0]

    async def _write_surely(self, connection: OwnConnection, batch: list[_Item]) -> None:
        """Call the locked function. It also finds an earlier append with an unknown outcome."""
        columns = _columns(batch)
        columns["item"] = pg_arrays.int4([n for n, item in enumerate(batch) for _ in item.events])
        cursor = await connection.execute(SQL["append_locked"], columns, binary=True)
        appended: list[tuple[_Item, Appended]] = []
        head = 0
        rows: list[Any] = await cursor.fetchall()
        connection.require_kept()
        for n, first, recorded_at, stream_id, version, before in rows:
            item = batch[int(n)]
            head = before
            if first is None:
                self._refuse(item, stream_id, version)
            elif stream_id is None:
                appended.append((item, item.appended(first, recorded_at)))
            else:
                item.succeed(item.appended(first, recorded_at))
        self._alone = head == self._last
        self._last = head + sum(len(item.events) for item, _ in appended)
        self._complete(sorted(appended, key=lambda pair: pair[1].first_position))

    def _refuse(self, item: _Item, stream_id: str, version: int | None) -> None:
        stream = next(stream for stream in item.firsts if stream[1] == stream_id)
        if version is not None:
            self._heads.put(stream, version)
        item.fail(WrongVersion(stream_id, item.firsts[stream] - 1, version))

    def _complete(self, appended: list[tuple[_Item, Appended]]) -> None:
        """The appends are durable: remember versions, publish events, answer the callers."""
        for item, _ in appended:
            for event in item.events:
                self._heads.put((event.tenant_id, event.stream_id), event.version)
        if appended and self._live_log.followers:
            self._live_log.publish([event for pair in appended for event in _recorded(*pair)])
        elif appended:
            item, at = appended[-1]
            self._live_log.skip_to(cursor(at.last_position, item.append_id))
        if appended:
            self.kept = appended[-1][1].last_position
        for item, at in appended:
            item.succeed(at)

    # The connection ------------------------------------------------------------------------------

    async def _connected(self) -> OwnConnection:
        if self._connection is None:
            self._connection = await self._connect()
            self._connection.can_cancel = False
            await self._connection.execute(SQL["limit_statements"], {"seconds": _SERVER_SECONDS})
            await self._live_log.require_same_history(self._connection)
            pg_arrays.register(self._connection)
            self._live_log.writer_pid = self._connection.info.backend_pid
            self._alone = False
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _any_in_doubt(batch: list[_Item]) -> bool:
    """Whether an item may be in the log already: only the locked function can find it there."""
    return any(item.sent or item.is_in_doubt for item in batch)


def _first_versions(events: Sequence[NewEvent]) -> dict[Stream, int]:
    """The first version of each stream in an append. Raises ValueError where they do not follow."""
    if len(events) == 1:
        return {(events[0].tenant_id, events[0].stream_id): events[0].version}
    firsts: dict[Stream, int] = {}
    latest: dict[Stream, int] = {}
    for event in events:
        stream = (event.tenant_id, event.stream_id)
        firsts.setdefault(stream, event.version)
        if event.version != latest.get(stream, event.version - 1) + 1:
            raise ValueError(f"{event.stream_id}: version {event.version} does not follow")
        latest[stream] = event.version
    if not firsts:
        raise ValueError("an append holds at least one event")
    return firsts


def _columns(batch: list[_Item]) -> dict[str, Any]:
    """The batch as one array for each column; marks every item as sent."""
    _mark_sent(batch)
    columns = zip(*chain.from_iterable([item.events for item in batch]), strict=True)
    parameters: dict[str, Any] = {
        name: encode(values) for (name, encode), values in zip(_COLUMNS, columns, strict=True)
    }
    append_ids = [item.append_id for item in batch for _ in item.events]
    return parameters | {"append_id": pg_arrays.uuid(append_ids)}


def _mark_sent(batch: list[_Item]) -> None:
    """From now on the items may be in the log, under append ids that are drawn at random here."""
    chance = os.urandom(16 * len(batch))
    for n, item in enumerate(batch):
        item.sent = True
        item.append_id = item.append_id or chance[16 * n : 16 * n + 16]


def _running_totals(start: int, sizes: Iterable[int]) -> list[int]:
    totals: list[int] = []
    for size in sizes:
        totals.append(start)
        start += size
    return totals


def _recorded(item: _Item, at: Appended) -> list[Recorded]:
    return [
        Recorded(
            position,
            event.tenant_id,
            event.stream_id,
            event.version,
            event.type,
            event.schema_version,
            event.project_id,
            event.state,
            event.metadata,
            at.recorded_at,
            item.append_id[-4:],
        )
        for position, event in enumerate(item.events, at.first_position)
    ]
