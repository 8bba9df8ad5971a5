import asyncio
import gc
import os
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from socket import SHUT_RD, socket

import psycopg
import pytest
from psycopg import waiting

import sql
from service.postgres import connections, migrations
from service.postgres.connections import service_transaction
from service.postgres.embedded import Server
from service.postgres.migrations import MigrationRefused


@pytest.fixture
def empty(server: Server) -> str:
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("drop database if exists empty with (force)")
        admin.execute("create database empty template template0")
    return server.url.replace("/throughline?", "/empty?")


async def test_pooled_connections_notice_a_lost_network_as_all_others_do(url: str) -> None:
    async with await connections.connect(url, as_service=False) as single:
        expected = single.info.get_parameters()
    async with connections.pool(url) as pool, pool.connection() as pooled:
        assert pooled.info.get_parameters() == expected
    assert {"connect_timeout", "keepalives_idle", "tcp_user_timeout"} <= expected.keys()


async def test_a_read_that_is_cancelled_twice_leaves_no_error_to_the_garbage_collector(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run cancels at another step of the read, the last step among them."""
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    monkeypatch.setattr(waiting, "MAX_BUSY_TIME", 0)  # as in a loop with much to do

    async def read() -> None:
        async with service_transaction(pool) as connection:
            await connection.execute("select pg_sleep(60)")

    for steps in range(1, 20):
        async with connections.pool(empty) as pool:
            await pool.wait()
            reading = asyncio.create_task(read())
            for _ in range(steps):
                await asyncio.sleep(0)
            for _ in range(2):
                reading.cancel()
                await asyncio.sleep(0)
            await asyncio.wait((reading,))
            del reading
        gc.collect()
    assert ignored == []


async def test_a_transaction_sends_nothing_after_its_last_sync(url: str, tmp_path: Path) -> None:
    """A pooler would give the connection another session for what comes after Sync."""
    trace = tmp_path / "trace"
    with trace.open("wb") as file:
        async with connections.pool(url, most=1) as pool:
            async with service_transaction(pool) as connection:
                connection.pgconn.trace(file.fileno())
                await connection.execute("select 1")
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with service_transaction(pool) as connection:
                    await connection.execute("select 1 / 0")
            async with service_transaction(pool) as connection:
                await (await connection.execute("select 1")).fetchone()
            connection.pgconn.untrace()
    lines = [line.split("\t") for line in trace.read_text().splitlines()]
    sent = [line[3].strip() for line in lines if line[1:2] == ["F"]]
    assert "Sync" in sent
    assert ("Sync", "Flush") not in pairwise(sent)
    assert sent[-1] == "Sync"


async def test_a_connection_that_is_lost_at_the_end_of_a_pipeline_counts_as_away(url: str) -> None:
    async def read(connection: connections.Connection) -> None:
        async with connection.pipeline():
            await connection.execute("select 1")
            with socket(fileno=os.dup(connection.pgconn.socket)) as own:
                own.shutdown(SHUT_RD)

    async with await connections.connect(url) as connection:
        with pytest.raises(psycopg.OperationalError):
            await read(connection)


async def test_migrating_twice_changes_nothing(empty: str) -> None:
    assert await migrations.migrate(empty) == [step.name for step in sql.migrations()]
    assert await migrations.migrate(empty) == []


async def test_two_processes_that_migrate_at_once_do_it_once(empty: str) -> None:
    taken = await asyncio.gather(*(migrations.migrate(empty) for _ in range(4)))
    assert sorted(map(len, taken)) == [0, 0, 0, len(sql.migrations())]


async def test_a_changed_migration_step_is_refused(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrations.migrate(empty)
    first, *rest = sql.migrations()
    monkeypatch.setattr(sql, "migrations", lambda: [replace(first, digest="other"), *rest])
    with pytest.raises(MigrationRefused, match="0001_log was changed"):
        await migrations.migrate(empty)


async def test_a_database_of_a_newer_version_is_refused(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrations.migrate(empty)
    steps = sql.migrations()[:-1]
    monkeypatch.setattr(sql, "migrations", lambda: steps)
    with pytest.raises(MigrationRefused, match="which this version lacks"):
        await migrations.migrate(empty)
