"""Connections, and the migrations that make a database ours."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool

import sql
from service.postgres import functions

Connection = psycopg.AsyncConnection[Any]
Connect = Callable[[], Awaitable[Connection]]
Pool = AsyncConnectionPool[Connection]
SQL: Final = sql.statements("migrations.sql")
ROLES: Final = sql.statements("roles.sql")
POOL_SIZE: Final = 10
POOL_SECONDS: Final = 5.0
"""How long a read waits for a connection before the service says that it is busy."""


class MigrationRefused(RuntimeError):
    """The database is not one that these migrations lead to."""


async def connect(url: str, *, as_service: bool = True) -> Connection:
    """A connection in autocommit; as the service's role unless the owner is needed."""
    connection = await psycopg.AsyncConnection.connect(
        url,
        autocommit=True,
        prepare_threshold=1,
        connect_timeout=5,
        application_name="throughline",
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
    )
    if as_service:
        try:
            await _serve(connection)
        except BaseException:
            await connection.close()
            raise
    return connection


def pool(url: str) -> Pool:
    """Connections for reads, not opened yet. They see nobody's rows until they are told whose."""
    return AsyncConnectionPool(
        url,
        open=False,
        min_size=1,
        max_size=POOL_SIZE,
        timeout=POOL_SECONDS,
        configure=_see_nothing,
        # A connection may have died with a server that is back by now: a read must not meet it.
        check=AsyncConnectionPool.check_connection,
        kwargs={"autocommit": True, "prepare_threshold": 1, "application_name": "throughline"},
    )


@asynccontextmanager
async def tenant_transaction(
    pool: Pool, tenant_id: str, *, as_of_one_moment: bool = False
) -> AsyncGenerator[Connection]:
    """A transaction that sees one tenant's rows and no others, whatever it asks for."""
    async with pool.connection() as connection, connection.transaction():
        if as_of_one_moment:
            await connection.execute("set transaction isolation level repeatable read")
        await connection.execute(ROLES["as_tenant"], {"tenant_id": tenant_id})
        yield connection


@asynccontextmanager
async def service_transaction(pool: Pool) -> AsyncGenerator[Connection]:
    """A transaction for the service's own work, which is of all tenants."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(ROLES["as_service"])
        yield connection


async def _see_nothing(connection: Connection) -> None:
    await connection.execute(ROLES["as_nobody"])
    await _be_patient(connection)


async def _serve(connection: Connection) -> None:
    await connection.execute("set role throughline_service")
    await _be_patient(connection)


async def _be_patient(connection: Connection) -> None:
    await connection.execute("set statement_timeout = '30s'")
    # Plans are made when the log is young and kept while it grows: never by reading all of it.
    await connection.execute("set enable_seqscan = off")


async def migrate(url: str) -> list[str]:
    """Apply the migrations that the database lacks, then the changed functions of `sql/functions/`.

    Returns the names of the migrations. Many processes may call this at once. Raises
    MigrationRefused when a migration in the database is unknown here, or its text was changed;
    functions.FunctionRefused when a function cannot be replaced.
    """
    connection = await connect(url, as_service=False)
    async with connection, connection.transaction():
        await connection.execute(SQL["lock"])
        await connection.execute(SQL["table"])
        applied = await (await connection.execute(SQL["applied"])).fetchall()
        pending = _pending({number: (name, digest) for number, name, digest in applied})
        for step in pending:
            await connection.execute(step.text)
            await connection.execute(
                SQL["record"],
                {"number": step.number, "name": step.name, "digest": step.digest},
            )
        await functions.install(connection)
    return [step.name for step in pending]


def _pending(applied: dict[int, tuple[str, str]]) -> list[sql.Migration]:
    known = {step.number: step for step in sql.migrations()}
    for number, (name, digest) in applied.items():
        if number not in known:
            raise MigrationRefused(f"the database has step {name}, which this version lacks")
        if known[number].digest != digest:
            raise MigrationRefused(f"{name} was changed after the database took it; add a new step")
    return [step for number, step in sorted(known.items()) if number not in applied]


async def unsafe_settings(url: str) -> list[str]:
    """The server's settings under which an acknowledged commit can be lost; empty when none."""
    connection = await connect(url, as_service=False)
    async with connection:
        return [name for (name,) in await (await connection.execute(SQL["safety"])).fetchall()]


async def unbound_roles(url: str) -> list[str]:
    """The service's roles that would see the rows of all tenants by themselves; empty when none."""
    connection = await connect(url, as_service=False)
    async with connection:
        found = await connection.execute(ROLES["unbound_roles"])
        return [name for (name,) in await found.fetchall()]
