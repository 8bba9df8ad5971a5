"""One turn of plan mode, from the taken message to the final envelope: the heart of the service.

Each turn is a task of the service, no child of a request: a reader who leaves changes nothing. In
it the conversation and the meter run side by side until one of them ends, or the turn is stopped.
Then the end is stored with its bill, and only then is the final envelope sent.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any, Final

import structlog

from domain import account, prompts
from domain.events import SessionEvent, TimeReserved
from domain.metering import ESTIMATES
from domain.replies import CONTRACT_VERSION
from service.admission import Admission, Admitted, Message
from service.conversation import Conversation, Ending
from service.meter import Meter
from service.metrics import REPLIES, RUNNING
from service.planner import ModelCall, Planner
from service.reply import Reply
from service.settlement import Settled, Settlement
from service.store import AWAY, EventStore, OutcomeUnknown, Overloaded, Unavailable
from service.streams import ACCOUNT, Streams, Transaction, account_stream, decode, session_stream
from service.wire import final_envelope

MOST_RUNNING: Final = 2_000
"""Replies that one process writes at a time."""

LANDING_SECONDS: Final = 10.0
"""How long the ends of replies that were stopped may take to be stored, whatever the grace is."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one turn: how long it may take and how much of the session it is told."""

    reply_seconds: float
    patience_seconds: float
    history_tokens: int


class Turns:
    """Owned by the service's loop; every turn is one task in `_tasks`."""

    def __init__(
        self,
        *,
        admission: Admission,
        settlement: Settlement,
        streams: Streams,
        store: EventStore,
        planner: Planner,
        limits: Limits,
    ) -> None:
        self._admission = admission
        self._settlement = settlement
        self._streams = streams
        self._store = store
        self._planner = planner
        self._limits = limits
        self._tasks: dict[asyncio.Task[None], asyncio.Event] = {}
        self._is_stopping = False

    async def take(self, message: Message, metadata: dict[str, Any]) -> tuple[Admitted, Reply]:
        """Take a message and begin its reply. Raises what admission refuses, and Overloaded."""
        if self._is_stopping:
            raise Unavailable("the service is stopping")
        if len(self._tasks) >= MOST_RUNNING:
            raise Overloaded("too many replies are running")
        admitted = await self._admission.admit(message, metadata)
        reply = Reply(admitted.message_id)
        reply.tell("accepted", _accepted(admitted))
        stop = asyncio.Event()
        if self._is_stopping:  # since it was admitted
            stop.set()
        task = asyncio.create_task(self._run(admitted, reply, stop))
        self._tasks[task] = stop
        RUNNING.inc()
        task.add_done_callback(self._forget)
        return admitted, reply

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        RUNNING.dec()

    async def drain(self, grace_seconds: float) -> None:
        """Let running replies end; after the grace, stop those that are left and let them land."""
        self._is_stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for stop in self._tasks.values():
            stop.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LANDING_SECONDS)
        await _cancelled(*self._tasks)

    async def _run(self, admitted: Admitted, reply: Reply, stop: asyncio.Event) -> None:
        """The whole turn. Whatever happens, its readers get an end or are sent away."""
        started_ns = monotonic_ns()
        structlog.contextvars.bind_contextvars(reply_id=admitted.message_id)
        try:
            ending = await self._converse(admitted, reply, stop)
            ending, settled = await self._land(admitted, ending, started_ns)
        except (Exception, asyncio.CancelledError) as error:
            _log.error("turn_did_not_land", error=type(error).__name__)
            reply.abandon("stopping")
            raise
        REPLIES.labels(ending.subtype, ending.mode).inc()
        _log.info("reply_ended", subtype=ending.subtype, reason=ending.reason)
        if ending.subtype == "error":
            reply.reset(ending.reason or "error")
        reply.end(final_envelope(admitted, ending, settled))

    async def _land(
        self, admitted: Admitted, ending: Ending, started_ns: int
    ) -> tuple[Ending, Settled]:
        """Store the end. One that cannot be stored as it is becomes an error that bills nothing."""
        try:
            return ending, await self._settlement.settle(admitted, ending, started_ns)
        except (*AWAY, OutcomeUnknown):
            raise
        except Exception:  # noqa: BLE001 - its reservation must not stay open for a fault of ours
            _log.exception("settlement_failed")
            failed = Ending(subtype="error", call=ModelCall(), reason="internal")
            return failed, await self._settlement.settle(admitted, failed, started_ns)

    async def _converse(self, admitted: Admitted, reply: Reply, stop: asyncio.Event) -> Ending:
        """Talk until there is an ending, or time, balance or service come to theirs."""
        conversation = Conversation(
            self._planner,
            await self._prompt(admitted),
            reply,
            patience_seconds=self._limits.patience_seconds,
        )
        meter = Meter(
            admitted.reserved_seconds,
            extend=lambda: self._extend(admitted, conversation),
            warn=lambda seconds: _warn(reply, seconds),
        )
        talk = asyncio.create_task(conversation.hold())
        balance = asyncio.create_task(meter.run())
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait(
                (talk, balance, stopped),
                timeout=self._limits.reply_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if talk in done:
                return _ending(talk)
            reason = "balance" if balance in done else "stopping" if done else "time_limit"
        finally:
            await _cancelled(talk, balance, stopped)
        return conversation.cut(reason)

    async def _prompt(self, admitted: Admitted) -> prompts.Prompt:
        message = admitted.message
        stored = await self._store.stream(message.tenant_id, session_stream(admitted.session_id))
        events: list[SessionEvent] = [decode(each.type, each.state) for each in stored]
        return prompts.prompt(
            project_name=admitted.project.name,
            framework=admitted.project.framework,
            locale=message.locale,
            history=prompts.history(
                events,
                upto=admitted.user_message_id,
                budget_tokens=self._limits.history_tokens,
            ),
            message=message.text,
            chat_mode=message.chat_mode,
        )

    async def _extend(self, admitted: Admitted, conversation: Conversation) -> int:
        """Reserve as much again as such a reply needs, or what is left; returns the seconds."""
        message = admitted.message
        stream_id = account_stream(message.tenant_id, message.user_id)

        async def extend(transaction: Transaction) -> int:
            more = account.extend(
                await transaction.load(ACCOUNT, stream_id),
                user_id=message.user_id,
                reservation_id=admitted.reservation_id,
                session_id=admitted.session_id,
                message_id=admitted.message_id,
                seconds=ESTIMATES[conversation.mode or "general"],
            )
            transaction.append(stream_id, more, message.project_id)
            return sum(event.seconds for event in more if isinstance(event, TimeReserved))

        while True:
            try:
                seconds, _ = await self._streams.transact(
                    message.tenant_id, extend, metadata={"causationId": admitted.user_message_id}
                )
                return seconds
            except (*AWAY, OutcomeUnknown):
                # While the database is away nobody can tell: the reply goes on, billed at the
                # most what was reserved before.
                await asyncio.sleep(1)


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """End tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task


def _ending(talk: asyncio.Task[Ending]) -> Ending:
    """How the conversation ended; a fault of ours in it is an error that bills nothing."""
    try:
        return talk.result()
    except Exception:  # noqa: BLE001 - the outermost place of a turn: its reader gets an end
        _log.exception("conversation_failed")
        return Ending(subtype="error", call=ModelCall(), reason="internal")


def _accepted(admitted: Admitted) -> dict[str, Any]:
    return {
        "messageId": admitted.message_id,
        "userMessageId": admitted.user_message_id,
        "sessionId": admitted.session_id,
        "position": admitted.position,
        "reservedSeconds": admitted.reserved_seconds,
        "contract": CONTRACT_VERSION,
    }


def _warn(reply: Reply, reserved_seconds: int) -> None:
    reply.tell(
        "notice",
        {
            "code": "reservation_used",
            "template": "reservation_used",
            "variables": {"percent": 80, "reserved_seconds": reserved_seconds},
        },
    )
