"""The audit: the caller, the operation, the address and the outcome of each request, without texts.

A write is acknowledged after its entry is stored. Entries of reads are stored a moment later, so a
kill of the process can lose its last entries. While the database is away the entries wait. When too
many wait, requests are refused, so that no write goes unaudited.

PostgreSQL can refuse an entry for what is in it. The service then logs which request had that
entry, and stores the other entries of the batch.
"""

import asyncio
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final

import orjson
import psycopg
import structlog
from psycopg.rows import class_row

import sql
from service.concurrency.batcher import Batcher
from service.concurrency.retry import retrying
from service.eventlog.errors import DATABASE_AWAY, AuditLate, Overloaded
from service.ops import metrics
from service.postgres.connections import Connection, Pool, service_transaction

SQL: Final = sql.statements("audit.sql")
MOST_WAITING: Final = 10_000
BATCH: Final = 500
GATHER_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 5.0
"""How long the answer to a write waits until the write's entry is stored."""

_RETRY_SECONDS: Final = 0.5
_LONGEST: Final = 256
_BAD_DATA: Final = (psycopg.DataError, psycopg.IntegrityError, TypeError, ValueError)
"""The errors of an entry that cannot be encoded or stored, however often it is tried."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Entry:
    """The entry of one request of a known caller. Handlers fill in ids, never texts."""

    tenant_id: str
    request_id: str
    key_id: str
    operation: str
    user_id: str | None = None
    project_id: str | None = None
    session_id: str | None = None
    reply_id: str | None = None
    address: str | None = None
    user_agent: str | None = None
    status: int = 0
    code: str | None = None
    at: datetime
    milliseconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """A stored entry, with the bill of the reply that the request asked for, where it has one."""

    request_id: str
    at: datetime
    key_id: str
    user_id: str | None
    operation: str
    project_id: str | None
    session_id: str | None
    reply_id: str | None
    address: str | None
    user_agent: str | None
    status: int
    code: str | None
    milliseconds: int
    billed_seconds: int | None
    tokens_used: int | None


class Audit:
    """Owned by the service's loop; `run` is its one task."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._entries: Batcher[tuple[Entry, asyncio.Event]] = Batcher(
            self._store, most=BATCH, gather_seconds=GATHER_SECONDS
        )

    def require_capacity(self) -> None:
        """Raises Overloaded when too many entries wait."""
        if len(self._entries) >= MOST_WAITING:
            raise Overloaded("too many entries of the audit are waiting")

    async def record(self, entry: Entry, *, is_write: bool) -> None:
        """Have an entry stored; of a write, wait until it is. Raises AuditLate when that takes too
        long: what was done is done, and the entry is stored when the database is back."""
        stored = asyncio.Event()
        self._entries.add((entry, stored), is_urgent=is_write)
        if not is_write:
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await stored.wait()
        except TimeoutError:
            raise AuditLate from None

    async def run(self) -> None:
        """Store entries until the audit is closed and none waits."""
        await self._entries.run()

    def close(self) -> None:
        """State that no more entries come."""
        self._entries.close()

    async def _store(self, batch: list[tuple[Entry, asyncio.Event]]) -> None:
        try:
            await self._insert([entry for entry, _ in batch])
        except _BAD_DATA as error:
            if len(batch) == 1:
                _log_refused(batch[0][0], error)
            else:
                for each in batch:
                    await self._store([each])
        for _, stored in batch:
            stored.set()

    async def _insert(self, batch: list[Entry]) -> None:
        entries = orjson.dumps([asdict(entry) for entry in batch]).decode()

        async def insert() -> None:
            async with service_transaction(self._pool) as connection:
                await connection.execute(SQL["add"], {"entries": entries})

        await retrying(insert, DATABASE_AWAY, event="audit_waits", pauses=(_RETRY_SECONDS,))


def _log_refused(entry: Entry, error: Exception) -> None:
    """Log the request of an entry that cannot be stored, without what the request brought."""
    metrics.AUDIT_REFUSED.inc()
    _log.error(
        "audit_entry_refused",
        request_id=entry.request_id,
        key_id=entry.key_id,
        operation=entry.operation,
        status=entry.status,
        error=type(error).__name__,
    )


class Watch:
    """Measures the time of one request."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)
        self._began = perf_counter()

    @property
    def milliseconds(self) -> int:
        """The time since the start, in milliseconds."""
        return round((perf_counter() - self._began) * 1_000)


def truncated(text: str | None) -> str | None:
    """The first characters of a text, as many as the audit keeps."""
    return None if text is None else text[:_LONGEST]


async def page(
    connection: Connection,
    *,
    tenant_id: str,
    user_id: str | None,
    project_id: str | None,
    operation: str | None,
    before: str,
    limit: int,
) -> list[AuditRow]:
    """A tenant's entries, newest first, filtered by what is given."""
    asked: dict[str, Any] = {
        "tenant_id": tenant_id,
        "user_id": user_id,
        "project_id": project_id,
        "operation": operation,
        "before": before,
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(AuditRow)) as cursor:
        await cursor.execute(SQL["page"], asked)
        return await cursor.fetchall()


async def expire(pool: Pool, days: int, *, limit: int) -> int:
    """Remove entries that are older than `days`, at most `limit` of each tenant; returns how many
    were removed."""
    async with service_transaction(pool) as connection:
        removed = await connection.execute(SQL["expire"], {"days": days, "limit": limit})
        (count,) = await removed.fetchone() or (0,)
    return int(count)
