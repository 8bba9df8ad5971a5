"""The database of a command: the one in the settings, or the embedded one."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from service.cli.console import err
from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.connections import Connection

T = TypeVar("T")


@contextmanager
def database(settings: Settings) -> Generator[tuple[str, str]]:
    """Two URLs of the database: the service's, and one that goes around a pooler.

    Runs an embedded PostgreSQL while the settings name no database.
    """
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        direct = settings.database_direct_url
        yield url, direct.get_secret_value() if direct else url
        return
    from service.postgres.embedded import embedded

    with embedded(settings.data_dir / "postgres") as server:
        yield server.url, server.url


async def bring_up_to_date(direct_url: str) -> None:
    """Apply what the database lacks of migrations and read models, and print the name of each."""
    from projections import PROJECTIONS
    from projections.projection import install
    from service.postgres import connections, migrations

    for name in await migrations.migrate(direct_url):
        err.print(f"migrated {name}", markup=False)
    async with await connections.connect(direct_url, as_service=False) as owner:
        for name in await install(owner, PROJECTIONS):
            err.print(f"built {name}", markup=False)


def as_owner(work: Callable[["Connection"], Awaitable[T]]) -> T:
    """Run `work` on a connection of the database's owner, and return its result."""
    from service.postgres import connections

    async def connected(direct_url: str) -> T:
        async with await connections.connect(direct_url, as_service=False) as owner:
            return await work(owner)

    with database(Settings()) as (_, direct_url):
        return asyncio.run(connected(direct_url))
