"""Shows in a metric how late a vacuum is: dead rows make every read and every append slower."""

import asyncio
from typing import Final

import structlog
from psycopg.rows import scalar_row

import sql
from service.eventlog.errors import DATABASE_AWAY
from service.ops import metrics
from service.postgres.connections import Connection, Pool, service_transaction

SQL: Final = sql.statements("vacuum.sql")
_POLL_SECONDS: Final = 30.0
_log = structlog.stdlib.get_logger(__name__)


async def watch_vacuum(pool: Pool) -> None:
    """Set the metric, for ever."""
    while True:
        try:
            async with service_transaction(pool) as connection:
                metrics.DEAD_ROWS.set(await dead_rows_ratio(connection))
        except DATABASE_AWAY as error:
            _log.warning("vacuum_not_watched", error=type(error).__name__)
        await asyncio.sleep(_POLL_SECONDS)


async def dead_rows_ratio(connection: Connection) -> float:
    """The dead rows of the table that waits most for a vacuum; 1.0 where autovacuum starts."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["dead_rows_ratio"])
        return float(await cursor.fetchone() or 0)
