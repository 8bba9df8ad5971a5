"""Replies that no living process writes: begun again if no reader saw them, else ended.

A process that ends a reply claims the reply's next number first. So its late writer, if there is
one, can show nothing after that, and what is stored up to there is all that any reader has seen.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, Final, cast

import structlog

from domain.deciders import session
from domain.deciders.session import RunningReply, Session
from domain.events import ChatMode, UserMessagePosted
from domain.metering import NS_PER_SECOND
from projections.projects import project
from projections.replies import ReplyRef, ReplyRow, orphans
from service.chat.admission import Admitted, Message
from service.chat.generation import Ending
from service.chat.leases import Lease
from service.chat.running import RunningTurns, accepted
from service.chat.settlement import Course, Settlement
from service.concurrency.bounded import for_each
from service.eventlog.errors import DATABASE_AWAY, OutcomeUnknown
from service.eventlog.store import EventStore
from service.eventlog.stream_ids import account_stream, session_stream
from service.eventlog.transactions import Transactions, decode
from service.model.client import ModelCall
from service.postgres.connections import Pool, service_transaction, tenant_transaction
from service.replies import sse
from service.replies.directory import ReplyDirectory
from service.replies.events import notice
from service.replies.frame_store import FrameStore, StoredReply
from service.replies.tail import Shown
from service.replies.writer import Lost

LOST: Final = "server_lost"
MOST_STARTS: Final = 3
"""How often a reply is begun: a reply that crashes its servers must not be begun for ever."""

INSPECT_SECONDS: Final = 0.5
"""How often replies that no process writes are looked for."""

RETRY_SECONDS: Final = 60.0
"""How long a reply that could not be brought to its end is left alone, before the next try."""

_AT_A_TIME: Final = 5
"""Replies that are brought to their ends side by side: each of them takes a connection of the pool
again and again, and requests need connections, too."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanedReply:
    """A reply as its writer left it. `seconds` passed from its beginning until its last frame was
    stored, without the time in which it waited for other replies."""

    admitted: Admitted
    running: RunningReply
    stored: StoredReply
    shown: Shown
    seconds: float

    @property
    def may_restart(self) -> bool:
        """Whether no reader has seen anything of it, and no user wants it to end."""
        return not (
            self.shown.ops
            or self.stored.is_closed
            or self.running.cancelled
            or self.running.starts >= MOST_STARTS
        )


class Recovery:
    """Owned by the service's loop; `run` is its one task.

    `_retry_at` has the replies that could not be brought to their ends, each with the time of the
    next try. A reply that is found no more at that time is forgotten.
    """

    def __init__(
        self,
        *,
        store: EventStore,
        transactions: Transactions,
        pool: Pool,
        frame_store: FrameStore,
        directory: ReplyDirectory,
        settlement: Settlement,
        running: RunningTurns,
        lease: Lease,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._transactions = transactions
        self._pool = pool
        self._frame_store = frame_store
        self._directory = directory
        self._settlement = settlement
        self._running = running
        self._lease = lease
        self._clock = clock
        self._retry_at: dict[str, float] = {}

    async def run(self) -> None:
        """Bring the replies that no process writes to their ends, for ever."""
        while True:
            await asyncio.sleep(INSPECT_SECONDS)
            if not self._running.is_stopping:
                try:
                    await self.recover()
                except (*DATABASE_AWAY, OutcomeUnknown) as error:
                    _log.warning("recovery_waits", error=type(error).__name__)

    async def recover(self) -> None:
        """Bring the replies that no process writes now to their ends."""
        now = self._clock()
        self._retry_at = {key: at for key, at in self._retry_at.items() if at > now}
        async with service_transaction(self._pool) as connection:
            rows = await orphans(
                connection,
                lease_id=self._lease.lease_id,
                until=self._lease.stable_until,
                here=[*self._running.reply_ids, *self._retry_at],
                lease_seconds=self._lease.times.lasts,
                grace_seconds=self._lease.times.database_stable_after,
                limit=self._running.capacity,
            )
        await for_each(rows, self._bring_to_its_end_or_retry, most=_AT_A_TIME)

    async def _bring_to_its_end_or_retry(self, row: ReplyRow) -> None:
        try:
            await self._bring_to_its_end(row)
        except (*DATABASE_AWAY, OutcomeUnknown):
            raise
        except Exception:  # noqa: BLE001 - a reply that cannot be ended must not stop the others
            _log.exception("reply_not_recovered", reply_id=row.reply_id)
            self._retry_at[row.reply_id] = self._clock() + RETRY_SECONDS

    async def _bring_to_its_end(self, row: ReplyRow) -> None:
        orphan = await self.inspect(row)
        if orphan is None or orphan.running.lease_id != row.lease_id:
            return  # the reply has ended, or another process was quicker to go on with it
        _log.warning("reply_recovered", reply_id=row.reply_id, again=orphan.may_restart)
        if orphan.may_restart:
            await self.restart(orphan)
        else:
            await self._end(orphan, LOST)

    async def finish(self, row: ReplyRow, reason: str) -> None:
        """End a reply that this process does not write with what was shown."""
        if (orphan := await self.inspect(row)) is not None:
            await self._end(orphan, reason)

    async def _end(self, orphan: OrphanedReply, reason: str) -> None:
        """End it, unless another process has claimed its next number meanwhile."""
        number = len(orphan.stored.frames) + 1
        ref = orphan.admitted.ref
        if not orphan.stored.is_closed and not await self._frame_store.claim(ref, number):
            return
        await self._settlement.settle(
            orphan.admitted,
            _ending(orphan, orphan.running.cancelled or reason),
            Course(duration_ms=round(orphan.seconds * 1_000), frames=len(orphan.stored.frames)),
        )

    # Beginning again -----------------------------------------------------------------------------

    async def restart(self, orphan: OrphanedReply) -> None:
        """Begin a reply again that no reader has seen. The quickest process gets it."""
        admitted = orphan.admitted
        writer = await self._directory.adopt(admitted.ref)
        if writer.tail.last != len(orphan.stored.frames):
            # Another process was quicker since it was inspected, and may have shown something.
            self._directory.release(writer.tail)
            return
        writer.emit(notice("resumed") if writer.tail.last else accepted(admitted))
        try:
            await writer.all_stored()
            await self._claim(admitted)
        except BaseException as error:
            # Whoever writes it from here on, its readers at this process read what is stored.
            writer.lose()
            self._directory.release(writer.tail)
            if not isinstance(error, Lost):
                raise
        else:
            self._running.go_on(admitted, writer)

    async def _claim(self, admitted: Admitted) -> None:
        stream = session_stream(admitted.session_id, admitted.message.project_id)
        decision = partial(
            session.claim_reply,
            reply_id=admitted.reply_id,
            lease_id=self._lease.lease_id,
        )
        await self._transactions.transact(
            admitted.message.tenant_id,
            lambda transaction: transaction.decide(stream, decision),
            cause=admitted.cause,
        )

    # Reading -------------------------------------------------------------------------------------

    async def inspect(self, row: ReplyRow) -> OrphanedReply | None:
        """What there is of a reply; None when it has ended."""
        ref = row.ref
        state = await self._transactions.current(ref.tenant_id, session_stream(ref.session_id))
        running = state.running.get(ref.reply_id)
        if running is None:
            return None
        stored = await self._frame_store.whole(ref)
        shown = Shown()
        shown.add(stored.frames)
        began_at = _began_at(row, stored)
        until = max([began_at, *stored.stored_at[-1:]])
        return OrphanedReply(
            admitted=await self._admitted(ref, state, running),
            running=running,
            stored=stored,
            shown=shown,
            seconds=(until - began_at).total_seconds(),
        )

    async def _admitted(self, ref: ReplyRef, state: Session, running: RunningReply) -> Admitted:
        """The message once more, as it was admitted."""
        asked, metadata = await self._message(ref, running.in_reply_to)
        async with tenant_transaction(self._pool, ref.tenant_id) as connection:
            known = await project(
                connection, tenant_id=ref.tenant_id, project_id=ref.project_id, user_id=None
            )
        assert known is not None
        account = account_stream(ref.tenant_id, state.user_id)
        funds = await self._transactions.current(ref.tenant_id, account)
        return Admitted(
            message=Message(
                tenant_id=ref.tenant_id,
                user_id=state.user_id,
                project_id=ref.project_id,
                text=asked.text,
                locale=asked.locale,
                # In plan mode: a message that asks for a build has no reply.
                chat_mode=cast(ChatMode | None, asked.chat_mode),
                session_id=ref.session_id,
                context=asked.context,
                version_id=asked.viewed_version_id,
                build_id=asked.viewed_build_id,
            ),
            project=known,
            session_id=ref.session_id,
            user_message_id=running.in_reply_to,
            reply_id=ref.reply_id,
            reservation_id=running.reservation_id,
            mode=state.mode,
            model=running.model,
            reserved_seconds=funds.reservations.get(running.reservation_id, 0),
            position=0,
            traceparent=metadata.get("traceparent"),
        )

    async def _message(
        self, ref: ReplyRef, message_id: str
    ) -> tuple[UserMessagePosted, dict[str, Any]]:
        """The message that a reply answers, and its metadata.

        Raises LookupError when it is not in the session.
        """
        stream_id = str(session_stream(ref.session_id))
        messages = self._store.backwards(ref.tenant_id, stream_id, (UserMessagePosted.__name__,))
        async with aclosing(messages) as pages:
            async for page in pages:
                for stored in page:
                    posted: UserMessagePosted = decode(stored.type, stored.state)
                    if posted.message_id == message_id:
                        metadata = await self._store.metadata(
                            ref.tenant_id, stream_id, stored.version
                        )
                        return posted, metadata
        raise LookupError("a reply without its message")


def _began_at(row: ReplyRow, stored: StoredReply) -> datetime:
    """When the reply began: at its start, or with the event after the notice that it waits."""
    for frame, next_at in zip(stored.frames, stored.stored_at[1:], strict=False):
        event, data = sse.decode(frame)
        if event == "notice" and data["code"] == "queued":
            return next_at
        if event == "chunk":
            break
    return row.started_at


def _ending(orphan: OrphanedReply, reason: str) -> Ending:
    """The time up to the last frame is billed: no reader has seen what came after it."""
    if not orphan.shown.ops or orphan.shown.mode is None:
        return Ending(
            subtype="error", reason=reason, reached=orphan.shown.mode, resets=orphan.shown.resets
        )
    ended_ns = max(1, round(orphan.seconds * NS_PER_SECOND))
    return Ending(
        subtype="partial",
        calls=(ModelCall(started_ns=0, ended_ns=ended_ns),),
        mode=orphan.shown.mode,
        data=orphan.shown.data,
        reason=reason,
        resets=orphan.shown.resets,
    )
