"""Replies that nobody writes any more, brought to their ends.

Whoever ends a reply takes its next place first. So its late owner, if there is one, can show
nothing after that, and what is stored up to there is all that any reader has seen.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from domain import session
from domain.events import ChatMode, SessionEvent, UserMessagePosted
from domain.session import RunningReply, Session
from projections.projects import project
from projections.replies import ReplyRef
from service.chat.admission import Admitted, Message
from service.chat.generation import Ending
from service.chat.settlement import Settlement
from service.eventlog.store import EventStore
from service.eventlog.transactions import (
    ACCOUNT,
    Transactions,
    account_stream,
    decode,
    session_stream,
)
from service.model.client import ModelCall
from service.postgres.connections import Pool, tenant_transaction
from service.replies.frame_store import FrameStore
from service.replies.tail import Shown

LOST: Final = "server_lost"
MOST_STARTS: Final = 3
"""How often a reply is begun: one that takes its servers down with it must not go on for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanedReply:
    """A reply as its writer left it: `is_closed` when the place of its final event is taken."""

    admitted: Admitted
    running: RunningReply
    frames: list[bytes]
    is_closed: bool
    shown: Shown
    seconds: float

    @property
    def may_restart(self) -> bool:
        """Nobody has seen anything of it, and nobody wants it to end."""
        return not (
            self.shown.ops
            or self.is_closed
            or self.running.cancelled
            or self.running.starts >= MOST_STARTS
        )


class Recovery:
    """Owned by the service's loop."""

    def __init__(
        self,
        store: EventStore,
        transactions: Transactions,
        pool: Pool,
        frame_store: FrameStore,
        settlement: Settlement,
    ) -> None:
        self._store = store
        self._transactions = transactions
        self._pool = pool
        self._frame_store = frame_store
        self._settlement = settlement

    async def look(self, place: ReplyRef, started_at: datetime) -> OrphanedReply | None:
        """What there is of a reply; None when it has ended."""
        stream = session_stream(place.session_id)
        stored = await self._store.stream(place.tenant_id, stream)
        events: list[SessionEvent] = [decode(each.type, each.state) for each in stored]
        state = session.fold(events)
        running = state.running.get(place.reply_id)
        if running is None:
            return None
        frames, is_closed, last_at = await self._frame_store.whole(place)
        shown = Shown()
        shown.take(frames)
        return OrphanedReply(
            admitted=await self._admitted(place, state, running, events),
            running=running,
            frames=frames,
            is_closed=is_closed,
            shown=shown,
            seconds=max(0.0, ((last_at or started_at) - started_at).total_seconds()),
        )

    async def finish(self, orphan: OrphanedReply, reason: str) -> bool:
        """End it with what was shown. False when somebody else has a hand on it."""
        place = len(orphan.frames) + 1
        if not orphan.is_closed and not await self._frame_store.take(
            place_of(orphan.admitted), place, None
        ):
            return False
        await self._settlement.settle(
            orphan.admitted,
            _ending(orphan, orphan.running.cancelled or reason),
            duration_ms=round(orphan.seconds * 1_000),
            frames=len(orphan.frames),
        )
        return True

    async def _admitted(
        self, place: ReplyRef, state: Session, running: RunningReply, events: list[SessionEvent]
    ) -> Admitted:
        """The message once more, as it was taken."""
        asked = next(
            event
            for event in events
            if isinstance(event, UserMessagePosted) and event.message_id == running.in_reply_to
        )
        async with tenant_transaction(self._pool, place.tenant_id) as connection:
            known = await project(
                connection, tenant_id=place.tenant_id, project_id=place.project_id, user_id=None
            )
        assert known is not None
        funds = await self._transactions.recall(
            place.tenant_id, account_stream(place.tenant_id, state.user_id), ACCOUNT, fresh=True
        )
        reservations: Any = funds.state.reservations
        return Admitted(
            message=Message(
                tenant_id=place.tenant_id,
                user_id=state.user_id,
                project_id=place.project_id,
                text=asked.text,
                locale=asked.locale,
                # In plan mode: what asks for a build has no reply.
                chat_mode=cast(ChatMode | None, asked.chat_mode),
                session_id=place.session_id,
                context=asked.context,
            ),
            project=known,
            session_id=place.session_id,
            user_message_id=running.in_reply_to,
            reply_id=place.reply_id,
            reservation_id=running.reservation_id,
            reserved_seconds=reservations.get(running.reservation_id, 0),
            position=0,
        )


def place_of(admitted: Admitted) -> ReplyRef:
    """Where the reply to a message belongs."""
    return ReplyRef(
        tenant_id=admitted.message.tenant_id,
        project_id=admitted.message.project_id,
        session_id=admitted.session_id,
        reply_id=admitted.reply_id,
    )


def _ending(orphan: OrphanedReply, reason: str) -> Ending:
    """Billed is the time up to the last that was shown: what came after it nobody has seen."""
    if not orphan.shown.ops or orphan.shown.mode is None:
        return Ending(subtype="error", reason=reason)
    return Ending(
        subtype="partial",
        calls=(ModelCall(ended_ns=max(1, round(orphan.seconds * 1_000_000_000))),),
        mode=orphan.shown.mode,  # type: ignore[arg-type]  # as it was told
        data=orphan.shown.data,
        reason=reason,
    )
