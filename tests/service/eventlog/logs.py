"""A running log for tests: writer, live log and reads on a database."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import psycopg

from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore, NewEvent, Recorded
from service.eventlog.writer import Writer
from service.postgres import connections


@dataclass(frozen=True, slots=True)
class Log:
    """The parts of one process's log."""

    store: EventStore
    live_log: LiveLog
    writer: Writer
    writing: asyncio.Task[None]
    listening: asyncio.Task[None]


@asynccontextmanager
async def running_log(
    url: str, writer_url: str | None = None, **bounds: int
) -> AsyncGenerator[Log, None]:
    """Start writer and live log. With `writer_url` the writer uses another way to the database.

    `bounds` are the bounds of the ring.
    """
    async with connections.pool(url) as pool:
        store = EventStore(pool)
        live_log = LiveLog(store, **bounds)
        writer = Writer(partial(connections.connect, writer_url or url), live_log)
        writing = asyncio.create_task(writer.run())
        listening = asyncio.create_task(live_log.run(partial(connections.connect, url)))
        # An interrupted start of a connection would keep its database busy for a minute.
        await pool.wait()
        await live_log.listening.wait()
        try:
            yield Log(store, live_log, writer, writing, listening)
        finally:
            writer.close()
            listening.cancel()
            await asyncio.wait((writing, listening), timeout=15)


def event(
    stream: str = "", version: int = 1, *, tenant: str = "t1", state: bytes = b"{}", kind: str = "X"
) -> NewEvent:
    """An event to append, on a new stream unless a stream is named."""
    return NewEvent(tenant, stream or f"s-{uuid4()}", version, kind, state)


async def enter_quick_way(log: Log) -> None:
    """Append three events. After them the writer knows that it is alone, and is quick."""
    for _ in range(3):
        await log.writer.append([event()])
    assert log.writer._alone


@asynccontextmanager
async def appends_blocked(url: str) -> AsyncGenerator[connections.Connection, None]:
    """Block every append inside PostgreSQL until the end. The yielded connection can append."""
    async with await psycopg.AsyncConnection.connect(url) as holder:
        await holder.execute("lock table app.event in share row exclusive mode")
        yield holder


async def until_an_append_is_blocked(url: str, appends: int = 1) -> None:
    """Wait until so many appends have arrived in PostgreSQL and are blocked there."""
    async with (
        asyncio.timeout(10),
        await connections.connect(url, as_service=False) as observer,
    ):
        blocked = 0
        while blocked < appends:
            waiting = await observer.execute(
                "select from pg_locks where relation = 'app.event'::regclass and not granted"
            )
            blocked = waiting.rowcount


async def listeners(owner: connections.Connection, *, end: bool = False) -> set[int]:
    """The backends that listen. With `end`, terminate them and wait for their ends."""
    backends = await owner.execute(
        "select pid, case when %s then pg_terminate_backend(pid, 5000) end from pg_stat_activity"
        " where query = 'listen throughline' and datname = current_database()",
        (end,),
    )
    return {pid for pid, _ in await backends.fetchall()}


async def everything(store: EventStore) -> list[Recorded]:
    """The whole log, in order."""
    return [recorded async for page in store.replay() for recorded in page]


def faults(events: list[Recorded]) -> list[str]:
    """The faults of a log: missing, repeated or unordered positions, and gaps of versions."""
    found = [
        f"position {each.position} in place of {n}"
        for n, each in enumerate(events, 1)
        if each.position != n
    ]
    versions: dict[tuple[str, str], int] = {}
    for each in events:
        stream = (each.tenant_id, each.stream_id)
        if each.version != versions.get(stream, 0) + 1:
            found.append(f"{stream} steps from {versions.get(stream)} to {each.version}")
        versions[stream] = each.version
    return found


def acquired(pool: connections.Pool) -> int:
    """The number of connections acquired from the pool: one for each transaction."""
    return pool.get_stats().get("requests_num", 0)
