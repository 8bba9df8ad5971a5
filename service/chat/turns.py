"""A message becomes a turn, in the place of another one if that is asked for; and is cancelled."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final, Literal

from domain.deciders import project, session
from domain.errors import ReplyInProgress, ReplyUnknown
from domain.events import CancelReason
from projections.replies import ReplyRow, reply
from service.chat.admission import Admission, Admitted, Message
from service.chat.recovery import Recovery
from service.chat.running import LANDING_SECONDS, RunningTurns
from service.eventlog.errors import DATABASE_AWAY, answering
from service.eventlog.stream_ids import project_stream, session_stream
from service.eventlog.transactions import RequestContext, Transaction, Transactions
from service.postgres.connections import Pool, tenant_transaction
from service.replies.directory import ReplyDirectory
from service.replies.tail import ReplyTail

OnBusy = Literal["reject", "enqueue", "interrupt"]
"""What becomes of a message while its session's last reply is still being written: refused,
answered after that reply, or answered in its place."""

CANCEL_SECONDS: Final = 2.0
"""How long the process that writes a reply has to end it, before this one does."""

INTERRUPTS: Final = 10
"""Attempts to interrupt before the message is refused: other messages may be quicker each time."""


class Turns:
    """Begins and cancels turns. Owned by the service's loop."""

    def __init__(
        self,
        *,
        admission: Admission,
        running: RunningTurns,
        recovery: Recovery,
        directory: ReplyDirectory,
        transactions: Transactions,
        pool: Pool,
    ) -> None:
        self._admission = admission
        self._running = running
        self._recovery = recovery
        self._directory = directory
        self._transactions = transactions
        self._pool = pool

    async def start(
        self, message: Message, on_busy: OnBusy, cause: RequestContext
    ) -> tuple[Admitted, ReplyTail]:
        """Admit a message and begin its reply. A message that was admitted before joins its reply.

        Raises what admission refuses, ReplyUnknown for a message that was erased, and Overloaded.
        """
        self._running.require_capacity()
        try:
            admitted = await self._admission.admit(message, cause)
        except ReplyInProgress as busy:
            if on_busy != "interrupt":
                raise
            admitted = await self._interrupt(busy, message, cause)
        if admitted.is_again:
            with answering(admitted.position):
                row = await self.find(message.tenant_id, admitted.reply_id)
                if row is None:  # its session was erased since
                    raise ReplyUnknown
                return admitted, await self._joined(row)
        return admitted, self._running.begin(admitted)

    async def _interrupt(
        self, busy: ReplyInProgress, message: Message, cause: RequestContext
    ) -> Admitted:
        """Admit the message in place of the reply that is being written."""
        for _ in range(INTERRUPTS):
            # A message that would be refused all the same must not end anything.
            await self._admission.require_admissible(message)
            row = await self.find(message.tenant_id, busy.message_id)
            other = RequestContext(metadata=cause.metadata)
            if row is None or await self.cancel(row, "superseded", other) is None:
                raise busy
            try:
                return await self._admission.admit(message, cause)
            except ReplyInProgress as next_busy:
                busy = next_busy
        raise busy

    async def find(self, tenant_id: str, reply_id: str) -> ReplyRow | None:
        """Where a reply belongs and whether it has ended."""
        async with tenant_transaction(self._pool, tenant_id) as connection:
            return await reply(connection, tenant_id=tenant_id, reply_id=reply_id)

    async def _joined(self, row: ReplyRow) -> ReplyTail:
        return await self._directory.find(row.ref, has_ended=row.ended_position is not None)

    async def cancel(
        self,
        row: ReplyRow,
        reason: CancelReason,
        cause: RequestContext,
        *,
        user_id: str | None = None,
    ) -> ReplyTail | None:
        """End a reply, whatever process writes it, with what was shown; None if that takes too
        long. A reply that has ended stays as it ended.

        With `user_id`, this user must be allowed to act. Raises ReplyUnknown when the reply was
        erased, NotAMember, ViewerOnly.
        """
        ref = row.ref
        stream = session_stream(ref.session_id, ref.project_id)
        decision = partial(session.cancel_reply, reply_id=ref.reply_id, reason=reason)

        async def work(transaction: Transaction) -> None:
            if user_id is not None:
                members = await transaction.load(project_stream(ref.project_id))
                project.require_actor(members, user_id)
            await transaction.decide(stream, decision)

        await self._transactions.transact(ref.tenant_id, work, cause=cause)
        with suppress(*DATABASE_AWAY):
            tail = await self._joined(row)
            if await _has_end(tail, CANCEL_SECONDS):
                return tail
            if ref.reply_id not in self._running:
                await self._recovery.finish(row, reason)
            return tail if await _has_end(tail, LANDING_SECONDS) else None
        return None


async def _has_end(tail: ReplyTail, seconds: float) -> bool:
    """Whether the reply comes to its end in that time. Raises ReplyUnknown."""
    try:
        async with asyncio.timeout(seconds):
            return await tail.wait() is not None
    except TimeoutError:
        return False
