"""Checks at the start that each address of the database leads to where it must.

A connection pooler in transaction mode gives each transaction another session. LISTEN and the locks
of sessions do nothing through it, and nothing says so. Therefore the service looks itself.
"""

from typing import Final

import psycopg

import sql
from service.postgres.connections import connect

SQL: Final = sql.statements("replica.sql")
_NEWS_SECONDS: Final = 3.0
"""How long a notification may take through a pooler that keeps sessions."""


class AddressRefused(RuntimeError):
    """An address of the database leads to something else. The message says to what."""


async def require_session(url: str, variable: str) -> None:
    """Raises AddressRefused where the address leads through a pooler that shares sessions.

    `variable` is the setting with the address. A pooler gives its clients other
    numbers of processes than the server. Only behind such a pooler is a notification tried.
    """
    async with await connect(url, as_service=False, is_direct=False) as connection:
        found = await (await connection.execute(SQL["backend"])).fetchone()
        if found == (connection.info.backend_pid,):
            return
        await connection.execute(SQL["listen"])
        async with await connect(url, as_service=False, is_direct=False) as other:
            await other.execute(SQL["notify"])
        async for _ in connection.notifies(timeout=_NEWS_SECONDS, stop_after=1):
            await connection.execute(SQL["unlisten"])
            return
    raise AddressRefused(
        f"{variable} leads through a connection pooler that shares sessions, where LISTEN does not"
        " work. Set THROUGHLINE_DATABASE_DIRECT_URL to the address of PostgreSQL itself."
    )


async def require_same(url: str, direct_url: str) -> None:
    """Raises AddressRefused where the two addresses are of different databases."""
    if url != direct_url and await _identity(url) != await _identity(direct_url):
        raise AddressRefused(
            "THROUGHLINE_DATABASE_URL and THROUGHLINE_DATABASE_DIRECT_URL do not lead to the same"
            " database. Give them a pooler's address and PostgreSQL's own address of one database."
        )


async def require_replica(url: str, direct_url: str) -> bool:
    """Whether the replica can be reached: it may come later.

    Raises AddressRefused where the address is not that of a replica of the database.
    """
    try:
        identity, is_replica = await _identity(url)
    except psycopg.OperationalError:
        return False
    if not is_replica:
        raise AddressRefused(
            "THROUGHLINE_DATABASE_REPLICA_URL leads to a server that is no replica. Give it the"
            " address of a hot standby, or leave it out."
        )
    if identity != (await _identity(direct_url))[0]:
        raise AddressRefused(
            "THROUGHLINE_DATABASE_REPLICA_URL leads to a replica of another database. Give it the"
            " address of a hot standby of the service's own database."
        )
    return True


async def _identity(url: str) -> tuple[str, bool]:
    async with await connect(url, as_service=False, is_direct=False) as connection:
        row = await (await connection.execute(SQL["identity"])).fetchone()
        assert row is not None
        return str(row[0]), bool(row[1])
