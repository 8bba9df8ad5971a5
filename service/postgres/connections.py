"""Connections, and the migrations that make a database ours.

Transactions run in libpq's pipeline mode: statements are sent without waiting for the answers to
those before. A transaction costs one network round trip for each time that its rows are fetched,
and one for its commit; rows that are fetched after the block come with the commit.
"""

import select
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool

import sql
from projections.read import Read
from service.postgres import functions

Connection = psycopg.AsyncConnection[Any]
Connect = Callable[[], Awaitable[Connection]]
Pool = AsyncConnectionPool[Connection]
SQL: Final = sql.statements("migrations.sql")
ROLES: Final = sql.statements("roles.sql")
R = TypeVar("R")

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
    """Connections for reads, not opened yet. Each sees no rows until a transaction names whose."""
    return AsyncConnectionPool(
        url,
        open=False,
        min_size=1,
        max_size=POOL_SIZE,
        timeout=POOL_SECONDS,
        configure=_see_nothing,
        check=_require_open,
        kwargs={"autocommit": True, "prepare_threshold": 1, "application_name": "throughline"},
    )


async def _require_open(connection: Connection) -> None:
    """Refuse a connection that the server has closed, without a round trip to the server.

    A server that stops or restarts closes the socket, which makes the socket readable here. Raises
    OperationalError, and the pool takes another connection.
    """
    news = select.poll()
    news.register(connection.pgconn.socket, select.POLLIN)
    while news.poll(0):
        connection.pgconn.consume_input()


@asynccontextmanager
async def tenant_transaction(
    pool: Pool, tenant_id: str, *, as_of_one_moment: bool = False
) -> AsyncGenerator[Connection]:
    """A transaction that sees one tenant's rows and no others, whatever it asks for.

    The count of affected rows is known after the block.
    """
    begin = b"begin isolation level repeatable read" if as_of_one_moment else b"begin"
    async with _pipelined(pool, begin) as connection:
        await connection.execute(ROLES["as_tenant"], {"tenant_id": tenant_id})
        yield connection


@asynccontextmanager
async def service_transaction(pool: Pool) -> AsyncGenerator[Connection]:
    """A transaction for the service's own work, which sees the rows of all tenants.

    The count of affected rows is known after the block.
    """
    async with _pipelined(pool, b"begin") as connection:
        await connection.execute(ROLES["as_service"])
        yield connection


@asynccontextmanager
async def _pipelined(pool: Pool, begin: bytes) -> AsyncGenerator[Connection]:
    """A transaction in pipeline mode.

    psycopg's own `transaction()` would wait for the server before and after its commit. What fails
    in here is rolled back where the pool takes the connection back.
    """
    async with pool.connection() as connection, connection.pipeline():
        await connection.execute(begin, prepare=False)
        yield connection
        await connection.execute(b"commit", prepare=False)


async def tenant_rows(pool: Pool, tenant_id: str, read: Read[R]) -> list[R]:
    """The rows of a read, in a transaction of its own and in one round trip."""
    async with tenant_transaction(pool, tenant_id) as connection:
        await read.send(connection)
    return await read.rows()


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
