"""Reads of the log: by stream, by range, and whole; with the types that its writer shares."""

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import RowMaker, scalar_row
from psycopg.types.numeric import Int8

import sql
from projections.read import Read
from service.postgres.connections import (
    Connection,
    Pool,
    service_transaction,
    tenant_rows,
    tenant_transaction,
)
from service.wire import cursor

SQL: Final = sql.statements("events.sql")
PAGE: Final = 1_000
REPLAY_PAGE: Final = 10_000
END: Final = 2**63 - 1
BACKWARDS_PAGE: Final = 32
LONGEST_BACKWARDS_PAGE: Final = 1_024
"""Events of one read backwards: about ten messages with their replies, for a reader that looks for
one of the newest; hundreds for a reader that goes far. A round trip costs as much as hundreds of
short events."""
BACKWARDS_BYTES: Final = 256 * 1024
"""The bytes of their states, about."""

_MOST_VERSIONS: Final = 2**31 - 1


class NewEvent(NamedTuple):
    """An event about to be appended. `state` is a JSON object in UTF-8, `metadata` one as text.

    `version` is the place that it takes in its stream: the version that the decision was made on,
    plus one for each event. It is the expectation that the append checks.
    """

    tenant_id: str
    stream_id: str
    version: int
    type: str
    state: bytes
    project_id: str | None = None
    schema_version: int = 1
    metadata: str = "{}"


class Recorded(NamedTuple):
    """An event in the log. `position` is its place in the one order, from 1, without gaps.

    `append_tail` are the last four bytes of the append's id, which are drawn at random.
    """

    position: int
    tenant_id: str
    stream_id: str
    version: int
    type: str
    schema_version: int
    project_id: str | None
    state: bytes
    metadata: str
    recorded_at: datetime
    append_tail: bytes

    @property
    def cursor(self) -> str:
        """The name of the event: another history of the log has another one at this position."""
        return cursor(self.position, self.append_tail)


class Entry(NamedTuple):
    """An event of a stream that the reader knows."""

    version: int
    type: str
    state: bytes
    recorded_at: datetime


class WrongVersion(Exception):
    """The stream has another version than the append expected; nothing of it was appended."""

    def __init__(self, stream_id: str, expected: int, actual: int | None) -> None:
        super().__init__(f"{stream_id} is at version {actual}, not {expected}")
        self.stream_id, self.expected, self.actual = stream_id, expected, actual


class EventStore:
    """Reads of the log. A read for a tenant sees no other tenant's events."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def head(self) -> int:
        """The position of the last event; 0 when there is none."""
        return int(await self._value(SQL["head"]))

    async def head_cursor(self) -> str:
        """The cursor of the last event."""
        return str(await self._value(SQL["head_cursor"]))

    async def is_lost(self, cursor: str) -> bool:
        """Whether the event of a cursor is not in the log."""
        async with service_transaction(self._pool) as connection:
            return await is_lost(connection, cursor)

    async def stream(self, tenant_id: str, stream_id: str, *, after: int = -1) -> list[Recorded]:
        """The events of one stream with a version above `after`, in order."""
        asked = {"tenant_id": tenant_id, "stream_id": stream_id, "after": after}
        return await tenant_rows(self._pool, tenant_id, _events("stream", asked))

    async def of_types(
        self, tenant_id: str, stream_id: str, types: Sequence[str]
    ) -> list[Recorded]:
        """The events of one stream that have one of these types, in order."""
        asked = {"tenant_id": tenant_id, "stream_id": stream_id, "types": list(types)}
        return await tenant_rows(self._pool, tenant_id, _events("stream_of_types", asked))

    async def metadata(self, tenant_id: str, stream_id: str, version: int) -> dict[str, Any]:
        """The metadata of one event. Raises LookupError when there is no such event."""
        asked = {"tenant_id": tenant_id, "stream_id": stream_id, "version": version}
        read: Read[dict[str, Any]] = Read(SQL["event_metadata"], scalar_row, asked)
        for metadata in await tenant_rows(self._pool, tenant_id, read):
            return metadata
        raise LookupError("no such event")

    async def streams(
        self,
        tenant_id: str,
        after: Mapping[str, int],
        beside: Sequence[Read[Any]] = (),
        *,
        forms: Mapping[str, str | None] | None = None,
    ) -> dict[str, list[Recorded]]:
        """The events of several streams, each with a version above the one given, in order.

        For a stream with a form, its newest snapshot of this form stands in the place of the events
        up to it, with the form as its type. The reads `beside` are sent in the same round trip.
        They see at least what the streams had.
        """
        asked = {"tenant_id": tenant_id, "stream_id": [*after], "after": [*after.values()]}
        form = [(forms or {}).get(each) for each in after]
        # Where all streams are remembered, the reads beside are all that is asked.
        streams = [_events("streams", asked | {"form": form})] if after else []
        async with tenant_transaction(self._pool, tenant_id) as connection:
            for read in (*streams, *beside):
                await read.send(connection)
        events: defaultdict[str, list[Recorded]] = defaultdict(list)
        for read in streams:
            for event in await read.rows():
                events[event.stream_id].append(event)
        return events

    async def keep_snapshot(
        self, tenant_id: str, stream_id: str, form: str, version: int, state: bytes
    ) -> None:
        """Keep the state that a stream has at a version."""
        kept = {"tenant_id": tenant_id, "stream_id": stream_id, "form": form}
        async with service_transaction(self._pool) as connection:
            await connection.execute(
                SQL["keep_snapshot"], kept | {"version": version, "state": state}
            )

    async def backwards(
        self,
        tenant_id: str,
        stream_id: str,
        types: Sequence[str],
        *,
        version: int | None = None,
        first: int = BACKWARDS_PAGE,
        most_bytes: int = BACKWARDS_BYTES,
    ) -> AsyncGenerator[list[Entry]]:
        """The events of one stream that have one of these types, in pages, the newest first.

        They begin at a version, or at the end of the stream. A page is read when it is asked for.
        The first has `first` events at most, the others `LONGEST_BACKWARDS_PAGE`. A page ends with
        the event with which its states come to `most_bytes`.
        """
        before = _MOST_VERSIONS if version is None else version + 1
        limit = first
        asked: dict[str, Any]
        asked = {"tenant_id": tenant_id, "stream_id": stream_id, "types": list(types)}
        asked["bytes"] = max(1, most_bytes)
        while True:
            bounds = {"before": before, "limit": limit}
            read = Read(SQL["stream_backwards"], _entry, asked | bounds, is_binary=True)
            page = await tenant_rows(self._pool, tenant_id, read)
            yield page
            if len(page) < limit and sum(len(each.state) for each in page) < asked["bytes"]:
                return
            before = page[-1].version
            limit = LONGEST_BACKWARDS_PAGE

    async def range(
        self,
        *,
        after: int,
        upto: int = END,
        limit: int = PAGE,
        tenant_id: str | None = None,
        project_id: str | None = None,
        types: Sequence[str] | None = None,
    ) -> list[Recorded]:
        """The first `limit` events after a position: of the log, a tenant or a tenant's project."""
        if tenant_id is None:
            async with service_transaction(self._pool) as connection:
                read = _events("range", _bounds(after, upto, limit))
                await read.send(connection)
            return await read.rows()
        read = tenant_range(
            tenant_id, after=after, upto=upto, limit=limit, project_id=project_id, types=types
        )
        return await tenant_rows(self._pool, tenant_id, read)

    async def replay(self, *, after: int = 0, upto: int = END) -> AsyncIterator[list[Recorded]]:
        """All events in order, in pages, up to the head of the log at the end of the replay."""
        while page := await self.range(after=after, upto=upto, limit=REPLAY_PAGE):
            yield page
            after = page[-1].position

    async def _value(self, query: bytes) -> Any:
        async with service_transaction(self._pool) as connection:
            cursor = await connection.execute(query)
        row = await cursor.fetchone()
        assert row is not None
        return row[0]


def tenant_range(
    tenant_id: str,
    *,
    after: int,
    upto: int = END,
    limit: int,
    project_id: str | None = None,
    types: Sequence[str] | None = None,
) -> Read[Recorded]:
    """The first `limit` events of a tenant, or of its project, after a position."""
    asked = _bounds(after, upto, limit)
    asked |= {"tenant_id": tenant_id, "types": None if types is None else list(types)}
    name = "tenant_range" if project_id is None else "project_range"
    return _events(name, asked | {"project_id": project_id})


def head_cursor() -> Read[str]:
    """The cursor of the log's last event, whatever its tenant."""
    return Read(SQL["head_cursor"], scalar_row)


def cursor_at(position: int) -> Read[str | None]:
    """The cursor of the event at a position; None where the log has no such event."""
    return Read(SQL["cursor_at"], scalar_row, {"position": Int8(position)})


async def is_lost(connection: Connection, cursor: str) -> bool:
    """Whether the event of a cursor is not in the log."""
    lost = lost_cursors([cursor])
    await lost.send(connection)
    return await lost.row() is not None


def lost_cursors(cursors: Iterable[str]) -> Read[str]:
    """The cursors whose events are not in the log."""
    return Read(SQL["lost_cursors"], scalar_row, {"cursors": list(cursors)})


async def page(
    connection: Connection, *, after: int, upto: int = END, limit: int = PAGE
) -> list[Recorded]:
    """The first events of the whole log after a position, on the service's own connection."""
    read = _events("range", _bounds(after, upto, limit))
    await read.send(connection)
    return await read.rows()


def _bounds(after: int, upto: int, limit: int) -> dict[str, Any]:
    return {"after": Int8(after), "upto": Int8(upto), "limit": limit}


def _events(name: str, parameters: dict[str, Any]) -> Read[Recorded]:
    return Read(SQL[name], _row, parameters, is_binary=True)


def _row(_: psycopg.AsyncCursor[Any]) -> RowMaker[Recorded]:
    return Recorded._make


def _entry(_: psycopg.AsyncCursor[Any]) -> RowMaker[Entry]:
    return Entry._make
