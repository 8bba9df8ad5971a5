"""Ending sessions in which nobody speaks any more."""

import asyncio
from functools import partial
from typing import Final

import structlog

from domain import session
from projections.sessions import idle_sessions
from service.database import Pool
from service.store import AWAY, OutcomeUnknown
from service.streams import SESSION, Streams, Transaction, session_stream

_AT_A_TIME: Final = 100
_LOOK_SECONDS: Final = 10.0
_log = structlog.stdlib.get_logger(__name__)


async def expire_idle(streams: Streams, pool: Pool, idle_seconds: float) -> None:
    """Expire idle sessions of all tenants, for ever. Those that are being replied to stay."""
    while True:
        try:
            expired = await expire(streams, pool, idle_seconds)
        except (*AWAY, OutcomeUnknown) as error:
            _log.warning("expiry_waits", error=type(error).__name__)
            expired = 0
        if expired < _AT_A_TIME:
            await asyncio.sleep(min(idle_seconds, _LOOK_SECONDS))


async def expire(streams: Streams, pool: Pool, idle_seconds: float) -> int:
    """Expire those that have been idle for so long, a hundred at a time; returns how many."""
    async with pool.connection() as connection:
        idle = await idle_sessions(connection, idle_seconds=idle_seconds, limit=_AT_A_TIME)
    expired = 0
    for tenant_id, project_id, session_id in idle:
        work = partial(_expire, project_id=project_id, session_id=session_id)
        _, appended = await streams.transact(tenant_id, work, metadata={})
        expired += appended is not None
    return expired


async def _expire(transaction: Transaction, *, project_id: str, session_id: str) -> None:
    stream = session_stream(session_id)
    state = await transaction.load(SESSION, stream)
    transaction.append(stream, session.expire(state), project_id)
