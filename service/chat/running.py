"""The turns that run in this process: begun, stopped by events of the log, drained at the end."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from domain.events import ReplyCancelRequested, ReplyCompleted, ReplyFailed, ReplyStarted
from domain.replies.contracts import CONTRACT_VERSION
from service.chat.admission import Admitted
from service.chat.turn import STOPPING, Responder, Turn
from service.concurrency.tasks import cancelled
from service.eventlog.errors import Overloaded, Stopping
from service.eventlog.store import Recorded
from service.eventlog.transactions import decode
from service.ops.metrics import RUNNING
from service.replies.directory import ReplyDirectory
from service.replies.events import Accepted
from service.replies.tail import ReplyTail
from service.replies.writer import ReplyWriter

MOST_RUNNING: Final = 2_000
"""Replies that one process writes at a time."""

LANDING_SECONDS: Final = 10.0
"""How long the ends of replies that were stopped may take to be stored, whatever the grace is."""

CHECK_SECONDS: Final = 0.05
"""How often a service that stops looks whether a message may still come."""

_OF_TURNS: Final = frozenset(
    each.__name__ for each in (ReplyStarted, ReplyCancelRequested, ReplyCompleted, ReplyFailed)
)
_log = structlog.stdlib.get_logger(__name__)


class RunningTurns:
    """Owned by the service's loop. Every turn is one task in `_tasks`, and in `_turns` by its
    reply's id.

    A service that `is_stopping` takes over no replies of other processes. When it `is_closed`, the
    time for new turns is over, too.
    """

    def __init__(self, responder: Responder, directory: ReplyDirectory, lease_id: int) -> None:
        self._responder = responder
        self._directory = directory
        self.lease_id = lease_id
        self._tasks: dict[asyncio.Task[None], Turn] = {}
        self._turns: dict[str, Turn] = {}
        self.is_stopping = self.is_closed = False

    def __contains__(self, reply_id: str) -> bool:
        """Whether this process writes the reply."""
        return reply_id in self._turns

    @property
    def reply_ids(self) -> Iterable[str]:
        """The replies that this process writes."""
        return self._turns.keys()

    @property
    def capacity(self) -> int:
        """How many more turns may begin."""
        return max(0, MOST_RUNNING - len(self._tasks))

    def require_capacity(self) -> None:
        """Raises Stopping or Overloaded unless one more turn may begin."""
        if self.is_closed:
            raise Stopping
        if not self.capacity:
            raise Overloaded("too many replies are running")

    def begin(self, admitted: Admitted) -> ReplyTail:
        """Begin the turn of a message that was admitted; returns the reply for its readers."""
        writer = self._directory.begin(admitted.ref)
        writer.emit(accepted(admitted))
        self.go_on(admitted, writer)
        return writer.tail

    def go_on(self, admitted: Admitted, writer: ReplyWriter) -> None:
        """Answer a message, its reply being ready to be written."""
        turn = Turn(admitted, writer)
        if self.is_closed:  # since the message was admitted
            turn.stop(STOPPING)
        task = asyncio.create_task(self._responder.answer(turn))
        self._tasks[task] = self._turns[admitted.reply_id] = turn
        RUNNING.inc()
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        turn = self._tasks.pop(task)
        del self._turns[turn.admitted.reply_id]
        RUNNING.dec()
        if not task.cancelled() and (error := task.exception()):
            _log.error("turn_failed", error=type(error).__name__)

    def on_events(self, events: Iterable[Recorded]) -> None:
        """Stop the turns of this process whose end was requested, at whatever server, and the turns
        whose replies another process has taken over while this process was frozen.

        A turn that waits for the model would find out only when it writes the next time.
        """
        for event in events:
            if event.type in _OF_TURNS:
                self._on_event(decode(event.type, event.state))

    def _on_event(
        self, event: ReplyStarted | ReplyCancelRequested | ReplyCompleted | ReplyFailed
    ) -> None:
        turn = self._turns.get(event.reply_id)
        if turn is None:
            return
        if isinstance(event, ReplyCancelRequested):
            turn.stop(event.reason)
        elif not isinstance(event, ReplyStarted) or event.lease_id != self.lease_id:
            # The end may be this turn's own: then all its frames are stored, and nothing is lost.
            turn.writer.lose()

    async def drain(
        self, grace_seconds: float, *, may_come: Callable[[], bool] = lambda: False
    ) -> None:
        """Let running replies end, also the replies of messages that `may_come`. After the grace,
        stop the replies that still run; they are stored."""
        self.is_stopping = True
        clock = asyncio.get_running_loop().time
        deadline = clock() + grace_seconds
        while (self._tasks or may_come()) and (left := deadline - clock()) > 0:
            pause = asyncio.create_task(asyncio.sleep(min(CHECK_SECONDS, left)))
            await asyncio.wait((*self._tasks, pause), return_when=asyncio.FIRST_COMPLETED)
        self.is_closed = True
        for turn in self._tasks.values():
            turn.stop(STOPPING)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LANDING_SECONDS)
        await cancelled(*self._tasks)


def accepted(admitted: Admitted) -> Accepted:
    """What a reader gets first."""
    return Accepted(
        message_id=admitted.reply_id,
        user_message_id=admitted.user_message_id,
        session_id=admitted.session_id,
        position=admitted.position,
        reserved_seconds=admitted.reserved_seconds,
        contract=CONTRACT_VERSION,
    )
