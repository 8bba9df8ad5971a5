"""The database of a command: the one in the settings, or the embedded one."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from service.cli.console import err
from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.connections import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Database:
    """The database of a command."""

    url: str
    direct_url: str
    """A way around a pooler; without a pooler the same URL."""
    described: str
    """Which database it is, for people. Without a password."""


@contextmanager
def database(settings: Settings) -> Generator[Database]:
    """The database. Runs an embedded PostgreSQL while the settings name no database."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        direct = settings.database_direct_url
        direct_url = direct.get_secret_value() if direct else url
        yield Database(url, direct_url, _described(direct_url))
        return
    from service.postgres.embedded import embedded

    with embedded(settings.data_dir / "postgres") as server:
        described = f"embedded PostgreSQL 18, its data in {server.data_dir}"
        if not server.started:
            described += " (another process has started it)"
        yield Database(server.url, server.url, described)


def _described(url: str) -> str:
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(url)
    host, port = parts.get("host", "the local socket"), parts.get("port", 5432)
    name = parts.get("dbname") or parts.get("user")
    return f"PostgreSQL at {host}:{port}, database {name}, user {parts.get('user')}"


async def bring_up_to_date(direct_url: str) -> int:
    """Apply what the database lacks of migrations and read models, and print the name of each.

    Returns how many these were.
    """
    from projections import PROJECTIONS
    from projections.projection import install
    from service.postgres import connections, migrations

    migrated = await migrations.migrate(direct_url)
    for name in migrated:
        err.print(f"migrated {name}")
    async with await connections.connect(direct_url, as_service=False) as owner:
        built = await install(owner, PROJECTIONS)
    for name in built:
        err.print(f"built {name}")
    return len(migrated) + len(built)


def as_owner(work: Callable[["Connection"], Awaitable[T]]) -> T:
    """Run `work` on a connection of the database's owner, and return its result."""
    with database(Settings()) as found:
        return asyncio.run(as_owner_of(found.direct_url, work))


async def as_owner_of(direct_url: str, work: Callable[["Connection"], Awaitable[T]]) -> T:
    """As above, for a database that is there already."""
    from service.postgres import connections

    async with await connections.connect(direct_url, as_service=False) as owner:
        return await work(owner)
