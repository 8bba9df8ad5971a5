"""Ends idle sessions, silent builds and silent runs, and removes what is kept for a time alone."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Final

import structlog

from projections import builds as build_rows
from projections import runs as run_rows
from projections.sessions import idle_sessions
from service.access import audit, browser_sessions
from service.commands import runs
from service.commands.builds import Builds
from service.commands.sessions import expire
from service.eventlog.errors import DATABASE_AWAY, OutcomeUnknown
from service.eventlog.transactions import Transactions
from service.postgres.connections import Pool, service_transaction

_AT_A_TIME: Final = 100
_LOOK_SECONDS: Final = 10.0
_log = structlog.stdlib.get_logger(__name__)


async def keep_expiring(
    expire: Callable[[], Awaitable[int]], seconds: float, *, after: float = 0.0
) -> None:
    """Run `expire` for ever, more often than every `seconds`; at once again after a full batch. The
    first run is `after` so many seconds."""
    await asyncio.sleep(after)
    while True:
        try:
            expired = await expire()
        except (*DATABASE_AWAY, OutcomeUnknown) as error:
            _log.warning("expiry_waits", error=type(error).__name__)
            expired = 0
        if expired < _AT_A_TIME:
            await asyncio.sleep(min(seconds, _LOOK_SECONDS))


async def expire_idle(transactions: Transactions, pool: Pool, idle_seconds: float) -> int:
    """Expire sessions of all tenants that were idle for `idle_seconds`; returns their number.

    Sessions with a running reply stay.
    """
    async with service_transaction(pool) as connection:
        idle = await idle_sessions(connection, idle_seconds=idle_seconds, limit=_AT_A_TIME)
    expired = 0
    for tenant_id, project_id, session_id in idle:
        work = partial(expire, project_id=project_id, session_id=session_id)
        with _one_of_many("session_not_expired"):
            _, appended = await transactions.transact(tenant_id, work)
            expired += appended is not None
    return expired


async def time_out_silent(builds: Builds, pool: Pool, silent_seconds: float) -> int:
    """Fail builds of all tenants without a report for `silent_seconds`; returns their number."""
    async with service_transaction(pool) as connection:
        found = await build_rows.silent(connection, silent_seconds=silent_seconds, limit=_AT_A_TIME)
    timed_out = 0
    for tenant_id, _, build_id in found:
        with _one_of_many("build_not_timed_out"):
            timed_out += await builds.time_out(tenant_id, build_id, silent_seconds=silent_seconds)
    return timed_out


async def time_out_silent_runs(
    transactions: Transactions, pool: Pool, silent_seconds: float
) -> int:
    """Fail runs of all tenants without a report for `silent_seconds`; returns their number."""
    async with service_transaction(pool) as connection:
        found = await run_rows.silent(connection, silent_seconds=silent_seconds, limit=_AT_A_TIME)
    timed_out = 0
    for tenant_id, run_id in found:
        work = partial(
            runs.time_out, tenant_id=tenant_id, run_id=run_id, silent_seconds=silent_seconds
        )
        with _one_of_many("run_not_timed_out"):
            _, appended = await transactions.transact(tenant_id, work)
            timed_out += appended is not None
    return timed_out


async def expire_audit(pool: Pool, days: int) -> int:
    """Remove entries of the audit that are older than `days`; returns their number."""
    return await audit.expire(pool, days, limit=_AT_A_TIME)


async def expire_browser_sessions(pool: Pool) -> int:
    """Remove links and browser sessions that have expired; returns their number."""
    return await browser_sessions.expire(pool, limit=_AT_A_TIME)


@contextmanager
def _one_of_many(event: str) -> Generator[None]:
    """Log a failure that what is in one stream causes, so that the other streams have their turn.

    The error's text may quote the stream, and is not logged.
    """
    try:
        yield
    except (*DATABASE_AWAY, OutcomeUnknown):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        _log.error(event, error=type(error).__name__)
