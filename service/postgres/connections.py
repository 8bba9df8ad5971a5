"""Connections to the database, and the role that each transaction has."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool

import sql

Connection = psycopg.AsyncConnection[Any]
Connect = Callable[[], Awaitable[Connection]]
Pool = AsyncConnectionPool[Connection]
ROLES: Final = sql.statements("roles.sql")
POOL_SIZE: Final = 10
POOL_SECONDS: Final = 5.0
"""How long a read waits for a free connection."""


async def connect(url: str, *, as_service: bool = True) -> Connection:
    """A connection in autocommit, as the service's role or else as the owner of the database.

    Raises psycopg.OperationalError.
    """
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
    """Connections for reads, not opened yet. They see rows only within `tenant_transaction` and
    `service_transaction`."""
    return AsyncConnectionPool(
        url,
        open=False,
        min_size=1,
        max_size=POOL_SIZE,
        timeout=POOL_SECONDS,
        configure=_configure_reader,
        # A pooled connection may be dead after a restart of the server.
        check=AsyncConnectionPool.check_connection,
        kwargs={"autocommit": True, "prepare_threshold": 1, "application_name": "throughline"},
    )


@asynccontextmanager
async def tenant_transaction(
    pool: Pool, tenant_id: str, *, as_of_one_moment: bool = False
) -> AsyncGenerator[Connection]:
    """A transaction that sees the rows of one tenant alone, even if a statement forgets to filter.

    With `as_of_one_moment` all its statements see the same state of the database.
    """
    async with pool.connection() as connection, connection.transaction():
        if as_of_one_moment:
            await connection.execute("set transaction isolation level repeatable read")
        await connection.execute(ROLES["as_tenant"], {"tenant_id": tenant_id})
        yield connection


@asynccontextmanager
async def service_transaction(pool: Pool) -> AsyncGenerator[Connection]:
    """A transaction for the service's own work. It sees the rows of all tenants."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(ROLES["as_service"])
        yield connection


async def _configure_reader(connection: Connection) -> None:
    await connection.execute(ROLES["as_nobody"])
    await _set_limits(connection)


async def _serve(connection: Connection) -> None:
    await connection.execute("set role throughline_service")
    await _set_limits(connection)


async def _set_limits(connection: Connection) -> None:
    await connection.execute("set statement_timeout = '30s'")
    # A plan is made while the tables are small and kept while they grow: it must use the indexes.
    await connection.execute("set enable_seqscan = off")
