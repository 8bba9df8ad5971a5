"""Ending a reply for good: the reply and its bill in one append, exactly once."""

import asyncio
from math import ceil
from typing import Final
from uuid import UUID, uuid4

import structlog

from domain import account, session
from domain.events import TimeConsumed
from domain.metering import OPERATIONS, cost_of
from service.chat.admission import Admitted
from service.chat.generation import Ending
from service.eventlog.store import DATABASE_AWAY, OutcomeUnknown
from service.eventlog.transactions import (
    ACCOUNT,
    SESSION,
    RequestContext,
    Transaction,
    Transactions,
    account_stream,
    session_stream,
)

_BACK_OFF_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
GIVE_UP_SECONDS: Final = 300.0
"""How long the end of a reply is tried to be stored while the database is away."""

_log = structlog.stdlib.get_logger(__name__)


class Settlement:
    """Stores how replies ended. Owned by the service's loop."""

    def __init__(self, transactions: Transactions, model: str) -> None:
        self._transactions = transactions
        self._model = model

    async def settle(
        self, admitted: Admitted, ending: Ending, *, duration_ms: int, frames: int
    ) -> None:
        """Store the reply's end with its bill; waits out a database that is away for a while.

        One that has ended before, by whomever, stays as it ended. `frames` are those that came
        before the final one. Raises Unavailable or OutcomeUnknown when the database stayed away.
        """
        append_id = uuid4()
        deadline = asyncio.get_running_loop().time() + GIVE_UP_SECONDS
        failures = 0
        while True:
            try:
                await self._settle_once(admitted, ending, duration_ms, frames, append_id)
                return
            except (*DATABASE_AWAY, OutcomeUnknown) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                _log.warning("settlement_waits", error=type(error).__name__)
                await asyncio.sleep(_BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)])
                failures += 1

    async def _settle_once(
        self, admitted: Admitted, ending: Ending, duration_ms: int, frames: int, append_id: UUID
    ) -> None:
        async def end(transaction: Transaction) -> None:
            stream_id = session_stream(admitted.session_id)
            state = await transaction.load(SESSION, stream_id)
            if admitted.reply_id not in state.running:
                return
            if ending.subtype == "error":
                await _release(transaction, admitted, ending)
                seconds = 0
            else:
                seconds = await _consume(transaction, admitted, ending, self._model)
            decided = _end(state, admitted, ending, duration_ms, seconds, frames, self._model)
            transaction.append(stream_id, decided, admitted.message.project_id)

        await self._transactions.transact(
            admitted.message.tenant_id,
            end,
            cause=RequestContext(metadata={"causationId": admitted.user_message_id}),
            append_id=append_id,
        )


async def _consume(transaction: Transaction, admitted: Admitted, ending: Ending, model: str) -> int:
    """Bill the try that was kept; earlier ones are on the house. Returns the seconds billed."""
    stream_id = account_stream(admitted.message.tenant_id, admitted.message.user_id)
    consumed = account.settle(
        await transaction.load(ACCOUNT, stream_id),
        user_id=admitted.message.user_id,
        reservation_id=admitted.reservation_id,
        project_id=admitted.message.project_id,
        session_id=admitted.session_id,
        reply_id=admitted.reply_id,
        operation=OPERATIONS[ending.mode],
        seconds=ending.seconds,
        model=model,
        cost=cost_of(model, ending.usage),
    )
    transaction.append(stream_id, consumed, admitted.message.project_id)
    return sum(event.seconds for event in consumed if isinstance(event, TimeConsumed))


async def _release(transaction: Transaction, admitted: Admitted, ending: Ending) -> None:
    """Nothing was shown, so nothing is billed."""
    stream_id = account_stream(admitted.message.tenant_id, admitted.message.user_id)
    released = account.release(
        await transaction.load(ACCOUNT, stream_id),
        user_id=admitted.message.user_id,
        reservation_id=admitted.reservation_id,
        reason=ending.reason or "error",
    )
    transaction.append(stream_id, released, admitted.message.project_id)


def _end(
    state: session.Session,
    admitted: Admitted,
    ending: Ending,
    duration_ms: int,
    seconds: int,
    frames: int,
    model: str,
) -> session.Decided:
    usage = ending.usage
    if ending.subtype == "error":
        return session.fail_reply(
            state,
            reply_id=admitted.reply_id,
            in_reply_to=admitted.user_message_id,
            code=ending.reason or "error",
            duration_ms=duration_ms,
            retry_after_seconds=None if ending.retry_after is None else ceil(ending.retry_after),
            tokens_used=usage.total,
            cache_hits=usage.cache_read_tokens,
            frames=frames,
        )
    return session.complete_reply(
        state,
        reply_id=admitted.reply_id,
        in_reply_to=admitted.user_message_id,
        subtype=ending.subtype,
        mode=ending.mode,
        data=ending.data,
        duration_ms=duration_ms,
        billed_seconds=seconds,
        model=model,
        reason=ending.reason,
        warnings=ending.warnings,
        tokens_used=usage.total,
        cache_hits=usage.cache_read_tokens,
        frames=frames,
        locale=admitted.message.locale,
        version_id=admitted.project.version_id,
        build_id=admitted.project.last_build_id,
        modified_at=admitted.project.modified_at.isoformat(),
    )
