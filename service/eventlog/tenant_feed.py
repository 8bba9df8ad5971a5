"""A tenant's part of the log, for consumers: in pages, whole, or live.

A selection is by project and by types. A page says up to which position it was read, so a consumer
that selects few events does not read the other events again.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from psycopg.rows import scalar_row
from psycopg.types.numeric import Int8

import sql
from projections.read import Read
from service.concurrency.retry import retrying
from service.eventlog.errors import DATABASE_AWAY, Overloaded
from service.eventlog.heavy_reads import HeavyReads
from service.eventlog.live import POLL, HistoryLost, LiveLog
from service.eventlog.store import Recorded, head_cursor, lost_cursors, tenant_range
from service.postgres.connections import Pool, tenant_rows, tenant_transaction
from service.wire import BEGINNING, fitting, position_of

SQL: Final = sql.statements("tenant_feed.sql")
STEP: Final = 100
"""Events that are read at a time where no limit is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events: a tenant's; of one project and of some types where given."""

    tenant_id: str
    project_id: str | None = None
    types: tuple[str, ...] | None = None

    def takes(self, event: Recorded) -> bool:
        """Whether an event matches. The conditions of the statements say the same."""
        return (
            event.tenant_id == self.tenant_id
            and self.project_id in (None, event.project_id)
            and (self.types is None or event.type in self.types)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events in order; all up to `upto`, the position of `cursor`, was looked at."""

    events: list[Recorded]
    cursor: str
    has_more: bool

    @property
    def upto(self) -> int:
        """The position of the cursor."""
        return position_of(self.cursor)


class TenantFeed:
    """Reads of one selection."""

    def __init__(self, pool: Pool, selection: Selection, heavy: HeavyReads) -> None:
        self._pool = pool
        self._selection = selection
        self._heavy = heavy

    def _turn(self) -> AbstractAsyncContextManager[None]:
        """A selection by types may pass over all events of the tenant to find a rare type."""
        return nullcontext() if self._selection.types is None else self._heavy.turn()

    async def last(self, upto: int) -> str | None:
        """The cursor of the last selected event up to a position; None when there is none.

        Raises Overloaded.
        """
        if upto == 0:
            return None
        name = "tenant_last" if self._selection.project_id is None else "project_last"
        read: Read[str | None] = Read(SQL[name], scalar_row, self._bounds(upto))
        async with self._turn():
            (last,) = await tenant_rows(self._pool, self._selection.tenant_id, read)
        return last

    def _bounds(self, upto: int) -> dict[str, Any]:
        selection = self._selection
        return {
            "tenant_id": selection.tenant_id,
            "project_id": selection.project_id,
            "types": None if selection.types is None else list(selection.types),
            "upto": Int8(upto),
        }

    async def page(self, after: int, limit: int, known: str | None = None) -> Page:
        """The next events after a position, up to the head as it is now; one round trip.

        Raises Overloaded, and HistoryLost where the log does not have the event of `known`.
        """
        selection = self._selection
        # The head is read first: the range then has all events up to it.
        lost = lost_cursors([] if known is None else [known])
        head = head_cursor()
        found = tenant_range(
            selection.tenant_id,
            after=after,
            limit=limit + 1,
            project_id=selection.project_id,
            types=selection.types,
        )
        async with (
            self._turn(),
            tenant_transaction(self._pool, selection.tenant_id) as connection,
        ):
            await lost.send(connection)
            await head.send(connection)
            await found.send(connection)
        if await lost.rows():
            raise HistoryLost
        rows, at_head = await found.rows(), await head.row()
        count = min(limit, fitting(len(each.state) for each in rows))
        events, has_more = rows[:count], len(rows) > count
        # An event may be newer than the head that was read before it.
        ends = [each.cursor for each in events[-1:]]
        if not has_more:
            ends.append(at_head or BEGINNING)
        return Page(events=events, cursor=max(ends, key=position_of), has_more=has_more)

    async def whole(self, after: int, limit: int | None = None) -> AsyncGenerator[list[Recorded]]:
        """All events after a position until the head as it is when it is reached, or `limit`."""
        has_more, known = True, None
        while has_more and limit != 0:
            read = partial(self.page, after, STEP if limit is None else min(STEP, limit), known)
            page = await retrying(read, (Overloaded,), event="consumer_waits", pauses=(POLL,))
            yield page.events
            after, known, has_more = page.upto, page.cursor, page.has_more
            limit = None if limit is None else limit - len(page.events)

    async def live(self, live_log: LiveLog, after: int) -> AsyncGenerator[list[Recorded]]:
        """All events after a position, without end: what is stored, then what happens."""
        known: str | None = None
        tail = live_log.tail(self._selection.tenant_id)
        while True:
            page = await retrying(
                partial(self.page, after, STEP, known),
                DATABASE_AWAY,
                event="consumer_waits",
                pauses=(POLL,),
            )
            yield page.events
            after, known = page.upto, page.cursor
            if not page.has_more:
                async with aclosing(live_log.follow_tail(tail, after)) as happening:
                    async for events in happening:
                        yield [event for event in events if self._selection.takes(event)]
                        if events:
                            after, known = events[-1].position, events[-1].cursor


def chained(events: Iterable[Recorded], prev: str | None) -> Iterator[tuple[Recorded, str | None]]:
    """Each event with the cursor of the event before; the first event with `prev`."""
    for event in events:
        yield event, prev
        prev = event.cursor
