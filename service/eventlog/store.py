"""Reads of the log: by stream, by range, and whole; with the types that its writer shares."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple, cast

import psycopg
from psycopg.rows import RowMaker, scalar_row
from psycopg.types.numeric import Int8

import sql
from projections.read import Read
from service.postgres.connections import (
    Connection,
    Pool,
    service_transaction,
    streaming_transaction,
    tenant_rows,
    tenant_transaction,
)
from service.wire import BEGINNING, cursor

SQL: Final = sql.statements("events.sql")
PAGE: Final = 1_000
REPLAY_PAGE: Final = 256
"""How many events a replay hands out at once, while PostgreSQL sends the next events. The buffer of
a socket holds about as many events."""

REPLAY_STATEMENT: Final = 50_000
"""How many events one statement of a replay reads. A statement keeps its snapshot of the database
until the caller has worked on all of these events. So a long replay has many statements."""

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
        """The name of the event. Another history of the log has another cursor at this position."""
        return cursor(self.position, self.append_tail)


class Snapshot(NamedTuple):
    """The state of a stream at a version, as JSON in UTF-8.

    The state has no text that an erasure removes. `text_version` is the version of the event that
    has the state's texts; None where no event has any.
    """

    form: str
    version: int
    state: bytes
    text_version: int | None


_recorded: Final[RowMaker[Recorded]] = partial(
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType]
    Recorded,
)
"""`Recorded._make` without its check of the length: each row has the columns of its statement."""


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

    async def confirm(self) -> None:
        """Wait until a standby has everything that is committed now."""
        async with service_transaction(self._pool) as connection:
            await connection.execute(SQL["confirm"])

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
        """The events of several streams, each stream in order. `after` has a version for each
        stream: the events have higher versions.

        For a stream with a form, the newest snapshot of this form stands in the place of the events
        up to the snapshot, with the form as its type. The event that has the texts of the state, if
        there is one, comes next. The reads `beside` are sent in the same round trip. They see at
        least all events that this method returns.
        """
        asked = {"tenant_id": tenant_id, "stream_id": [*after], "after": [*after.values()]}
        form = [(forms or {}).get(each) for each in after]
        # Where the caller remembers all streams, only the reads `beside` are sent.
        streams = [_events("streams", asked | {"form": form})] if after else []
        async with tenant_transaction(self._pool, tenant_id) as connection:
            for read in (*streams, *beside):
                await read.send(connection)
        events: defaultdict[str, list[Recorded]] = defaultdict(list)
        for read in streams:
            for event in await read.rows():
                events[event.stream_id].append(event)
        return events

    async def keep_snapshot(self, tenant_id: str, stream_id: str, snapshot: Snapshot) -> None:
        """Keep a snapshot of a stream, and remove the older ones of the same form."""
        kept = {"tenant_id": tenant_id, "stream_id": stream_id} | snapshot._asdict()
        async with service_transaction(self._pool) as connection:
            await connection.execute(SQL["keep_snapshot"], kept)
            await connection.execute(SQL["remove_older_snapshots"], kept)

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

    async def replay(self, *, after: int = 0, upto: int = END) -> AsyncGenerator[list[Recorded]]:
        """All events in order, in pages, up to the head of the log at the end of the replay.

        PostgreSQL goes on with its work while the caller works on a page. So a replay keeps one
        connection of the pool, and all pages of one statement show the log at the same moment.
        """
        began = -1
        while began < after:
            began = after
            async with aclosing(self._streamed(_bounds(after, upto, REPLAY_STATEMENT))) as pages:
                async for page in pages:
                    yield page
                    after = page[-1].position

    async def _streamed(self, bounds: dict[str, Any]) -> AsyncGenerator[list[Recorded]]:
        """The pages of one statement, each page as soon as its events have come."""
        async with streaming_transaction(self._pool) as connection:
            cursor = connection.cursor(row_factory=_row)
            stream = cursor.stream(SQL["range"], bounds, binary=True, size=REPLAY_PAGE)
            rows = cast("AsyncGenerator[Recorded]", stream)
            page: list[Recorded] = []
            async with aclosing(rows):
                async for row in rows:
                    page.append(row)
                    if len(page) == REPLAY_PAGE:
                        yield page
                        page = []
            if page:
                yield page

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
    """Whether the event of a cursor is not in the log.

    The answer is sure when the transaction is committed: a former primary cannot commit.
    """
    lost = lost_cursors([cursor])
    await lost.send(connection)
    return await lost.row() is not None


async def head_of(connection: Connection) -> str:
    """The cursor of the last event, on the service's own connection."""
    last = head_cursor()
    await last.send(connection)
    return await last.row() or BEGINNING


def lost_cursors(cursors: Iterable[str]) -> Read[str]:
    """The cursors that name no event of the log. The answer is final when the caller's transaction
    is committed: its commit fails on a server that is not the primary any more."""
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
    return _recorded


def _entry(_: psycopg.AsyncCursor[Any]) -> RowMaker[Entry]:
    return Entry._make
