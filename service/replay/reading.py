"""Reads of the log across tenants, as the owner of the database: whole, by page, or the newest."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any, Final, NamedTuple
from uuid import UUID

from psycopg.types.numeric import Int8

import sql
from service.eventlog.store import END, Recorded
from service.postgres.connections import Connection
from service.replay.pace import Pace

SQL: Final = sql.statements("replay.sql")
TYPES: Final = (
    *("uuid", "int8", "text", "text", "int4", "text", "int2"),
    *("text", "bytea", "text", "timestamptz", "bytea"),
)
"""The types of the columns that COPY moves, in the order of an entry. The last one is a part of the
first one, for the cursor."""

PAGE: Final = 500


class Entry(NamedTuple):
    """An event of the log with the append that wrote it."""

    append_id: UUID
    event: Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events: an event must match everything that is given."""

    tenant_id: str | None = None
    project_id: str | None = None
    stream_ids: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the filter takes all events."""
        return self == EventFilter()

    def takes(self, event: Recorded) -> bool:
        """Whether an event matches. The conditions of the statements say the same."""
        return (
            self.tenant_id in (None, event.tenant_id)
            and self.project_id in (None, event.project_id)
            and (self.stream_ids is None or event.stream_id in self.stream_ids)
            and (self.types is None or event.type in self.types)
        )

    def parameters(self) -> dict[str, Any]:
        """The parameters of the statements."""
        return {
            "tenant_id": self.tenant_id,
            "project_id": self.project_id,
            "stream_ids": None if self.stream_ids is None else list(self.stream_ids),
            "types": None if self.types is None else list(self.types),
        }


async def whole(
    connection: Connection, chosen: EventFilter, *, after: int = 0, upto: int = END
) -> AsyncGenerator[Entry]:
    """The chosen events between two positions, in order, as of one moment.

    The events come through one COPY, so the memory that this needs does not grow with the log.
    """
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute(SQL["in_order"])
        bounds = {"after": Int8(after), "upto": Int8(upto)}
        async with cursor.copy(SQL["whole"], chosen.parameters() | bounds) as copy:
            copy.set_types(TYPES)
            async for row in copy.rows():
                yield Entry(row[0], Recorded._make(row[1:]))


async def page(
    connection: Connection,
    chosen: EventFilter,
    *,
    after: int,
    upto: int = END,
    limit: int = PAGE,
) -> list[Entry]:
    """The first chosen events between two positions."""
    bounds = {"after": Int8(after), "upto": Int8(upto), "limit": limit}
    found = await connection.execute(
        SQL["page"], chosen.parameters() | bounds, binary=True, prepare=False
    )
    return [Entry(row[0], Recorded._make(row[1:])) for row in await found.fetchall()]


async def due(
    connection: Connection,
    chosen: EventFilter,
    pace: Pace,
    *,
    after: int,
    upto: int = END,
    limit: int = PAGE,
) -> list[Entry]:
    """The first chosen events between two positions, as far as they are due; waits for the first.

    The events are read after the wait, because an erasure may have taken texts meanwhile.
    """
    while entries := await page(connection, chosen, after=after, upto=upto, limit=limit):
        if now := [*takewhile(lambda each: pace.is_due(each.event.recorded_at), entries)]:
            return now
        await pace.wait(entries[0].event.recorded_at)
    return []


async def newest(
    connection: Connection, chosen: EventFilter, *, upto: int = END, count: int
) -> list[str]:
    """The cursors of the newest chosen events up to a position, the newest first."""
    bounds = {"upto": Int8(upto), "limit": count}
    found = await connection.execute(SQL["newest"], chosen.parameters() | bounds, prepare=False)
    return [cursor for (cursor,) in await found.fetchall()]


async def since(connection: Connection, moment: datetime) -> int | None:
    """The first position that was recorded at a time or later; None if there is none."""
    found = await connection.execute(SQL["since"], {"moment": moment})
    row = await found.fetchone()
    return None if row is None else row[0]


async def append_at(connection: Connection, position: int) -> UUID | None:
    """The append that wrote a position; None where the log has no such position."""
    found = await connection.execute(SQL["append_at"], {"position": Int8(position)})
    row = await found.fetchone()
    return None if row is None else row[0]
