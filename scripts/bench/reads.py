"""Measures a stored log: a replay, a rebuild from it, and a page of a timeline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, Final

import orjson
import psycopg
import uvloop

from projections.projection import Connection, install, rebuild
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE, page
from scripts.bench.load import TEXT
from service.eventlog.store import EventStore
from service.eventlog.transactions import decode
from service.postgres import connections

FEW: Final = 100
"""The number of messages of the small project."""

_PAGES: Final = 200
_COPY: Final = b"""
copy (
    select position, tenant_id, stream_id, version, type, schema_version,
           project_id, state, metadata::text, recorded_at
    from app.event
    order by position
) to stdout (format binary)
"""
_TYPES: Final = (
    *("int8", "text", "text", "int4", "text", "int2", "text", "bytea", "text", "timestamptz"),
)
_STATE: Final = _TYPES.index("bytea")
_FILL: Final = b"""
insert into app.event (
    position, version, schema_version, append_id, recorded_at,
    tenant_id, stream_id, type, project_id, state, metadata
)
select
    n, 1, 1, gen_random_uuid(), now(), 't', 'session-' || n, 'UserMessagePosted',
    case when n %% (%(messages)s / %(few)s) = 0 then 'small' else 'large' end,
    convert_to(json_build_object(
        'session_id', n::text, 'message_id', n::text, 'user_id', 'u', 'text', %(text)s::text,
        'locale', 'en'
    )::text, 'UTF8'),
    '{}'
from generate_series(1, %(messages)s::bigint) as n
"""


def fill(url: str, messages: int) -> None:
    """Fill the log and the read models of a page: a large project, and a small project with few
    messages."""
    asyncio.run(_fill(url, messages))


async def _fill(url: str, messages: int) -> None:
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute(_FILL, {"messages": messages, "few": FEW, "text": TEXT})
        await install(owner, [SESSIONS, TIMELINE])
        await owner.execute("vacuum analyze")
        await owner.execute("checkpoint")


def replay(url: str) -> tuple[float, float]:
    """Decode all events, and parse the JSON of all rows from a COPY: events a second each."""
    return uvloop.run(_replay(url)), _copy(url)


async def _replay(url: str) -> float:
    async with connections.pool(url) as pool:
        await pool.wait()
        began, count = time.perf_counter(), 0
        async for events in EventStore(pool).replay():
            for each in events:
                decode(each.type, each.state)
            count += len(events)
        return count / (time.perf_counter() - began)


def _copy(url: str) -> float:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        began, count = time.perf_counter(), 0
        with cursor.copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for row in copy.rows():
                orjson.loads(row[_STATE])
                count += 1
        return count / (time.perf_counter() - began)


def rebuilding(url: str) -> tuple[float, float]:
    """Rebuild the timeline, and run its rule in one statement: events a second each."""
    return asyncio.run(_rebuilding(url))


async def _rebuilding(url: str) -> tuple[float, float]:
    async with await connections.connect(url, as_service=False) as owner:
        rows = await owner.execute("select count(*) from app.event")
        (count,) = await rows.fetchone() or (0,)
        ours = await _seconds(lambda: rebuild(owner, TIMELINE))
        theirs = await _seconds(lambda: _insert_select(owner))
        await owner.execute("drop schema bench cascade")
        return count / ours, count / theirs


async def _insert_select(owner: Connection) -> None:
    """Run the rule in one statement, with a plan for the whole log."""
    async with owner.transaction():
        await owner.execute("create schema bench")
        await owner.execute("set local search_path = bench, app")
        await owner.execute(TIMELINE.statements["table"])
        await owner.execute(TIMELINE.statements["apply"])
        await owner.execute("alter function apply_timeline reset enable_seqscan")
        await owner.execute("select apply_timeline(0, (select max(position) from event))")


async def _seconds(work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def newest_page(url: str) -> tuple[float, float]:
    """The newest page of the large project, and of the small one: medians in milliseconds."""
    return uvloop.run(_newest_page(url))


async def _newest_page(url: str) -> tuple[float, float]:
    async with await connections.connect(url) as connection:

        async def read(project_id: str) -> float:
            wanted = page(connection, tenant_id="t", project_id=project_id, limit=50)
            return await _seconds(lambda: wanted)

        pairs = [(await read("large"), await read("small")) for _ in range(_PAGES)]
        large, small = zip(*pairs, strict=True)
        return median(large) * 1e3, median(small) * 1e3
