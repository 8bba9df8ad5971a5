"""The turns that run in this process: taken, taken over, cancelled, and drained at the end."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final, Literal

import structlog

from domain import session
from domain.errors import ReplyInProgress, ReplyUnknown
from domain.events import CancelReason
from projections.replies import ReplyRef, ReplyRow, orphans, reply
from service.chat.admission import Admission, Admitted, Message
from service.chat.leases import Lease
from service.chat.recovery import LOST, OrphanedReply, Recovery, place_of
from service.chat.turn import STOPPING, Means, Turn, accepted
from service.eventlog.store import DATABASE_AWAY, OutcomeUnknown, Overloaded, Recorded, Unavailable
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import RequestContext, Transaction, decode
from service.ops.metrics import RUNNING
from service.postgres.connections import Pool, service_transaction, tenant_transaction
from service.replies.frame_store import FrameStore
from service.replies.tail import ReplyTail
from service.replies.writer import Lost, ReplyWriter

OnBusy = Literal["reject", "enqueue", "interrupt"]
"""What becomes of a message while its session's last reply is still being written: refused,
answered after that reply, or answered in its place."""


MOST_RUNNING: Final = 2_000
"""Replies that one process writes at a time."""

LANDING_SECONDS: Final = 10.0
"""How long the ends of replies that were stopped may take to be stored, whatever the grace is."""

CANCEL_SECONDS: Final = 2.0
"""How long a reply's owner has to end it, before somebody else does."""

INTERRUPTS: Final = 10
"""How often a message takes the place of another one that was quicker."""

LOOK_SECONDS: Final = 0.5
_AT_A_TIME: Final = 100
_log = structlog.stdlib.get_logger(__name__)


class Turns:
    """Owned by the service's loop; every turn is one task in `_tasks`."""

    def __init__(
        self,
        *,
        admission: Admission,
        recovery: Recovery,
        means: Means,
        frame_store: FrameStore,
        lease: Lease,
        pool: Pool,
    ) -> None:
        self._admission = admission
        self._recovery = recovery
        self._means = means
        self._frame_store = frame_store
        self._lease = lease
        self._pool = pool
        self._tasks: dict[asyncio.Task[None], Turn] = {}
        self._here: dict[str, Turn] = {}
        self._given_up: set[str] = set()
        self._is_stopping = False

    async def take(
        self, message: Message, on_busy: OnBusy, cause: RequestContext
    ) -> tuple[Admitted, ReplyTail]:
        """Take a message and begin its reply; of one that was taken before, join that reply.

        Raises what admission refuses, ReplyUnknown for one that was erased, and Overloaded.
        """
        if self._is_stopping:
            raise Unavailable("the service is stopping")
        if len(self._tasks) >= MOST_RUNNING:
            raise Overloaded("too many replies are running")
        admitted = await self._admit(message, on_busy, cause)
        if admitted.is_again:
            row = await self.known(message.tenant_id, admitted.reply_id)
            if row is None:  # its session was erased since
                raise ReplyUnknown
            has_ended = row.ended_position is not None
            return admitted, await self._means.directory.find(
                place_of(admitted), has_ended=has_ended
            )
        reply = ReplyWriter(self._means.directory.begin(place_of(admitted)), self._frame_store)
        reply.tell("accepted", accepted(admitted))
        self._begin(admitted, reply)
        return admitted, reply.tail

    async def _admit(self, message: Message, on_busy: OnBusy, cause: RequestContext) -> Admitted:
        """Admit the message; in place of a reply that is being written, if that is asked for."""
        interrupts = 0
        while True:
            try:
                return await self._admission.admit(message, cause)
            except ReplyInProgress as busy:
                if on_busy != "interrupt" or interrupts == INTERRUPTS:
                    raise
                interrupts += 1
                # What would be refused all the same must not end anything.
                await self._admission.require_admissible(message)
                row = await self.known(message.tenant_id, busy.message_id)
                other = RequestContext(metadata=cause.metadata)
                if row is None or await self.cancel(row, "superseded", other) is None:
                    raise

    def _begin(self, admitted: Admitted, reply: ReplyWriter) -> None:
        turn = Turn(admitted, reply, self._means)
        if self._is_stopping:  # since it was admitted
            turn.stop(STOPPING)
        task = asyncio.create_task(turn.run())
        self._tasks[task] = self._here[admitted.reply_id] = turn
        RUNNING.inc()
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        turn = self._tasks.pop(task)
        del self._here[turn.admitted.reply_id]
        RUNNING.dec()
        if not task.cancelled() and (error := task.exception()):
            _log.error("turn_failed", error=type(error).__name__)

    async def known(self, tenant_id: str, reply_id: str) -> ReplyRow | None:
        """Where a reply belongs and whether it has ended."""
        async with tenant_transaction(self._pool, tenant_id) as connection:
            return await reply(connection, tenant_id=tenant_id, reply_id=reply_id)

    # Cancelling ----------------------------------------------------------------------------------

    async def cancel(
        self, row: ReplyRow, reason: CancelReason, cause: RequestContext
    ) -> ReplyTail | None:
        """End a reply, whoever writes it, with what was shown; None if that takes too long.

        One that has ended stays as it ended.
        """
        place = row.ref

        async def ask(transaction: Transaction) -> None:
            decision = partial(session.cancel_reply, reply_id=place.reply_id, reason=reason)
            await transaction.decide(session_stream(place.session_id, place.project_id), decision)

        await self._means.transactions.transact(place.tenant_id, ask, cause=cause)
        tail = await self._means.directory.find(place, has_ended=row.ended_position is not None)
        if await _has_end(tail, CANCEL_SECONDS):
            return tail
        if place.reply_id not in self._here:
            orphan = await self._recovery.look(place, row.started_at)
            if orphan is not None:
                await self._recovery.finish(orphan, reason)
        return tail if await _has_end(tail, LANDING_SECONDS) else None

    def hear(self, events: Sequence[Recorded]) -> None:
        """Stop the turns of this process that somebody, wherever, wants to end."""
        for event in events:
            if event.type == "ReplyCancelRequested":
                asked = decode(event.type, event.state)
                if turn := self._here.get(asked.reply_id):
                    turn.stop(asked.reason)

    # Taking over ---------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Bring the replies to their ends that nobody writes any more, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._lease.is_settled and not self._is_stopping:
                try:
                    await self._recover()
                except (*DATABASE_AWAY, OutcomeUnknown) as error:
                    _log.warning("recovery_waits", error=type(error).__name__)

    async def _recover(self) -> None:
        async with service_transaction(self._pool) as connection:
            rows = await orphans(
                connection,
                lease_id=self._lease.lease_id,
                here=[*self._here, *self._given_up],
                lease_seconds=self._lease.times.lasts,
                grace_seconds=self._lease.times.database_settles,
                limit=_AT_A_TIME,
            )
        for row in rows:
            try:
                await self._bring_to_its_end(row)
            except (*DATABASE_AWAY, OutcomeUnknown):
                raise
            except Exception:  # noqa: BLE001 - one that cannot be ended must not stop the others
                _log.exception("reply_not_recovered", reply_id=row.reply_id)
                self._given_up.add(row.reply_id)

    async def _bring_to_its_end(self, row: ReplyRow) -> None:
        orphan = await self._recovery.look(row.ref, row.started_at)
        if orphan is None:
            return
        _log.info("reply_recovered", reply_id=row.reply_id, again=orphan.may_restart)
        if orphan.may_restart:
            await self._restart(orphan)
        else:
            await self._recovery.finish(orphan, LOST)

    async def _restart(self, orphan: OrphanedReply) -> None:
        """Begin a reply again of which nobody has seen anything. Whoever is faster has it."""
        admitted = orphan.admitted
        place = place_of(admitted)
        tail = await self._means.directory.adopt(place)
        if tail.last != len(orphan.frames):
            # Somebody was faster since it was looked at, and may have shown something.
            self._means.directory.let_go(tail)
            return
        reply = ReplyWriter(tail, self._frame_store)
        if tail.last:
            reply.tell("notice", {"code": "resumed", "template": "resumed", "variables": {}})
        else:
            reply.tell("accepted", accepted(admitted))
        try:
            await reply.all_stored()
            await self._means.transactions.transact(
                place.tenant_id,
                lambda transaction: self._take_over(transaction, place),
                cause=RequestContext(metadata={"causationId": admitted.user_message_id}),
            )
        except Lost:
            self._means.directory.let_go(reply.tail)
        else:
            self._begin(admitted, reply)

    async def _take_over(self, transaction: Transaction, place: ReplyRef) -> None:
        decision = partial(
            session.claim_reply, reply_id=place.reply_id, lease_id=self._lease.lease_id
        )
        await transaction.decide(session_stream(place.session_id, place.project_id), decision)

    # Stopping ------------------------------------------------------------------------------------

    async def drain(self, grace_seconds: float) -> None:
        """Let running replies end; after the grace, stop those that are left and let them land."""
        self._is_stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for turn in self._tasks.values():
            turn.stop(STOPPING)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LANDING_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _has_end(tail: ReplyTail, seconds: float) -> bool:
    """Whether the reply comes to its end in that time."""
    try:
        async with asyncio.timeout(seconds):
            return await tail.wait() is not None
    except TimeoutError:
        return False
