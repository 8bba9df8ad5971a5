"""What a reply costs: more seconds while it runs, then its end and its bill, in one append."""

from functools import partial
from itertools import count
from math import ceil
from typing import Final, NamedTuple
from uuid import uuid4

import structlog

from domain.deciders import account, session
from domain.deciders.account import Account
from domain.events import (
    AccountEvent,
    ReplyCompleted,
    ReplyFailed,
    ReplyMode,
    TimeConsumed,
    TimeReserved,
)
from domain.metering import cost_of
from domain.modes import estimate, operation
from domain.texts import announcements
from service.chat.admission import Admitted
from service.chat.generation import Ending
from service.concurrency.retry import retrying
from service.eventlog.errors import DATABASE_AWAY, OutcomeUnknown
from service.eventlog.stream_ids import StreamId, account_stream, session_stream
from service.eventlog.transactions import Transaction, Transactions
from service.ids import new_id
from service.replies.envelope import End, end_of

GIVE_UP_SECONDS: Final = 300.0
"""How long the service tries to store the end of a reply while the database is away."""

_AWAY: Final = (*DATABASE_AWAY, OutcomeUnknown)
_log = structlog.stdlib.get_logger(__name__)


class Course(NamedTuple):
    """What was measured of a reply. `frames` are those before the final one, `first_text_ms` is the
    time to the first text that was shown; None without any."""

    duration_ms: int
    frames: int
    first_text_ms: int | None = None


class Settlement:
    """Bills replies. Owned by the service's loop."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def extend(self, admitted: Admitted, mode: ReplyMode, reserved_seconds: int) -> int:
        """Reserve the mode's estimate again, or the rest of the balance; returns the seconds.

        `reserved_seconds` are reserved as far as the caller knows. If the account has reserved
        more, a try with an unknown outcome is in the log, and its seconds are the answer.
        While the database is away the reply goes on, billed at the most what was reserved before.
        """

        async def extend(transaction: Transaction) -> int:
            funds = await transaction.load(_account_of(admitted))
            already = funds.reservations.get(admitted.reservation_id, 0) - reserved_seconds
            if already > 0:
                return already
            decision = partial(
                account.extend,
                user_id=admitted.message.user_id,
                reservation_id=admitted.reservation_id,
                session_id=admitted.session_id,
                reply_id=admitted.reply_id,
                seconds=estimate(admitted.mode, mode),
            )
            more = await transaction.decide(_account_of(admitted), decision)
            return sum(event.seconds for event in more if isinstance(event, TimeReserved))

        transact = partial(
            self._transactions.transact,
            admitted.message.tenant_id,
            extend,
            cause=admitted.cause,
            append_id=uuid4(),
        )
        seconds, _ = await retrying(transact, _AWAY, event="extension_waits", pauses=(1.0,))
        return seconds

    async def settle(self, admitted: Admitted, ending: Ending, course: Course) -> End | None:
        """Store the reply's end with its bill; waits for a database that is away for a while.

        Returns the end, or None when the log alone knows it: the reply had ended before, or the
        outcome of an append was unknown. An ending that cannot be stored for a fault of ours
        becomes an error that bills nothing, so that the reservation does not stay open. Raises
        TimeoutError when the database stayed away.
        """
        try:
            return await self._store(admitted, ending, course)
        except TimeoutError:
            raise
        except Exception:  # noqa: BLE001 - the reservation must not stay open
            _log.exception("settlement_failed")
            return await self._store(admitted, Ending(subtype="error", reason="internal"), course)

    async def _store(self, admitted: Admitted, ending: Ending, course: Course) -> End | None:
        append_id, tries = uuid4(), count()
        work = partial(_end, admitted=admitted, ending=ending, course=course)

        async def store() -> End | None:
            is_first = next(tries) == 0
            event, appended = await self._transactions.transact(
                admitted.message.tenant_id, work, cause=admitted.cause, append_id=append_id
            )
            # What an earlier try has stored may differ from what this one decided.
            if event is None or appended is None or not is_first:
                return None
            return end_of(event, appended.recorded_at, admitted.project.registered_at)

        return await retrying(store, _AWAY, event="settlement_waits", seconds=GIVE_UP_SECONDS)


async def _end(
    transaction: Transaction, *, admitted: Admitted, ending: Ending, course: Course
) -> ReplyCompleted | ReplyFailed | None:
    """The reply's end, with its bill or without one; None where the reply has ended already."""
    stream = session_stream(admitted.session_id, admitted.message.project_id)
    state = await transaction.load(stream)
    if admitted.reply_id not in state.running:
        return None
    if ending.subtype == "error":
        await _release(transaction, admitted, ending)
        failed = _failed(admitted, ending, course)
        transaction.append(stream, session.fail_reply(state, failed))
        return failed
    seconds = await _consume(transaction, admitted, ending)
    completed = _completed(admitted, ending, course, seconds)
    transaction.append(stream, session.complete_reply(state, completed))
    transaction.append(stream, announcements.announced(state, (completed,), new_id=new_id))
    return completed


def _account_of(admitted: Admitted) -> StreamId[Account, AccountEvent]:
    message = admitted.message
    return account_stream(message.tenant_id, message.user_id, message.project_id)


async def _consume(transaction: Transaction, admitted: Admitted, ending: Ending) -> int:
    """Bill the attempt that was kept; earlier attempts are free. Returns the seconds billed."""
    decision = partial(
        account.settle,
        user_id=admitted.message.user_id,
        reservation_id=admitted.reservation_id,
        project_id=admitted.message.project_id,
        session_id=admitted.session_id,
        reply_id=admitted.reply_id,
        operation=operation(admitted.mode, ending.mode),
        seconds=ending.seconds,
        model=admitted.model,
        cost=cost_of(admitted.model, ending.usage),
    )
    consumed = await transaction.decide(_account_of(admitted), decision)
    return sum(event.seconds for event in consumed if isinstance(event, TimeConsumed))


async def _release(transaction: Transaction, admitted: Admitted, ending: Ending) -> None:
    """Nothing was shown, so nothing is billed."""
    decision = partial(
        account.release,
        user_id=admitted.message.user_id,
        reservation_id=admitted.reservation_id,
        reason=ending.reason or "error",
    )
    await transaction.decide(_account_of(admitted), decision)


def _failed(admitted: Admitted, ending: Ending, course: Course) -> ReplyFailed:
    usage = ending.usage
    return ReplyFailed(
        session_id=admitted.session_id,
        reply_id=admitted.reply_id,
        in_reply_to=admitted.user_message_id,
        code=ending.reason or "error",
        duration_ms=course.duration_ms,
        retry_after_seconds=None if ending.retry_after is None else ceil(ending.retry_after),
        tokens_used=usage.total,
        cache_hits=usage.cache_read_tokens,
        frames=course.frames,
        mode=ending.reached or admitted.message.chat_mode,
        locale=admitted.message.locale,
        first_text_ms=course.first_text_ms,
        resets=ending.resets,
        retries=ending.retries,
    )


def _completed(
    admitted: Admitted,
    ending: Ending,
    course: Course,
    billed_seconds: int,
) -> ReplyCompleted:
    assert ending.subtype != "error"
    usage = ending.usage
    return ReplyCompleted(
        session_id=admitted.session_id,
        reply_id=admitted.reply_id,
        in_reply_to=admitted.user_message_id,
        subtype=ending.subtype,
        mode=ending.mode,
        data=ending.data,
        duration_ms=course.duration_ms,
        billed_seconds=billed_seconds,
        model=admitted.model,
        reason=ending.reason,
        warnings=ending.warnings,
        tokens_used=usage.total,
        cache_hits=usage.cache_read_tokens,
        frames=course.frames,
        first_text_ms=course.first_text_ms,
        locale=admitted.message.locale,
        version_id=admitted.message.version_id or admitted.project.version_id,
        build_id=admitted.message.build_id or admitted.project.last_build_id,
        modified_at=admitted.project.modified_at.isoformat(),
        resets=ending.resets,
        retries=ending.retries,
    )
