"""One turn of plan mode, from the taken message to the stored end: the heart of the service.

It is a task of the service, no child of a request: a reader who leaves changes nothing. In it the
conversation and the meter run side by side until one of them ends, or the turn is stopped. Then the
end is stored with its bill, and only then is the final envelope sent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic_ns
from typing import Any, Final, TypeVar

import structlog

from domain import account, questions, session
from domain.events import SessionEvent, TimeReserved
from domain.metering import ESTIMATES
from domain.reply_contracts import CONTRACT_VERSION
from service.chat.admission import Admitted
from service.chat.generation import Ending, Generation
from service.chat.settlement import GIVE_UP_SECONDS, Settlement
from service.chat.time_budget import TimeBudget
from service.chat.tools import ProjectTools
from service.eventlog.store import DATABASE_AWAY, EventStore, OutcomeUnknown
from service.eventlog.transactions import (
    ACCOUNT,
    RequestContext,
    Transaction,
    Transactions,
    account_stream,
    decode,
    session_stream,
)
from service.model.client import ModelClient
from service.ops.metrics import REPLIES
from service.postgres.connections import Pool
from service.replies.directory import ReplyDirectory
from service.replies.tail import End
from service.replies.writer import Lost, ReplyWriter
from service.source.jail import Sources

STOPPING: Final = "stopping"
"""Why a turn is stopped when the service is."""

T = TypeVar("T")
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnBudget:
    """Of one turn: how long it may take and how much of the session it is told."""

    reply_seconds: float
    patience_seconds: float
    history_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every turn works with."""

    transactions: Transactions
    store: EventStore
    planner: ModelClient
    settlement: Settlement
    directory: ReplyDirectory
    sources: Sources
    pool: Pool
    limits: TurnBudget


class Left(Exception):
    """The service stops before anything was shown: the next one begins the reply anew."""


class Turn:
    """Owned by its task. `stop` may be called from anywhere on the service's loop."""

    def __init__(self, admitted: Admitted, reply: ReplyWriter, means: Means) -> None:
        self.admitted = admitted
        self.reply = reply
        self._means = means
        self._stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._started_ns = monotonic_ns()

    def stop(self, reason: str) -> None:
        """End the reply with what was shown. A second reason changes nothing."""
        if not self._stopped.done():
            self._stopped.set_result(reason)

    async def run(self) -> None:
        """The whole turn. Whatever happens, its readers get an end or are sent away."""
        tail, directory = self.reply.tail, self._means.directory
        structlog.contextvars.bind_contextvars(reply_id=self.admitted.reply_id)
        try:
            await self._land(await self._converse())
        except Lost:
            _log.warning("reply_taken_over")
            directory.let_go(tail)
        except Left:
            tail.leave(STOPPING)
        except (Exception, asyncio.CancelledError) as error:
            _log.error("turn_did_not_land", error=type(error).__name__)
            tail.leave(STOPPING)
            raise

    # Talking -------------------------------------------------------------------------------------

    async def _converse(self) -> Ending:
        """Talk until there is an ending, or time, balance or service come to theirs."""
        if reason := await self._until(self._await_earlier()):
            return self._nothing(reason)
        looks = ProjectTools(
            self._means.sources,
            self._means.pool,
            self.admitted.project,
            tenant_id=self.admitted.message.tenant_id,
        )
        conversation = Generation(
            self._means.planner,
            await self._prompt(looks),
            self.reply,
            looks=looks,
            language=questions.language(self.admitted.message.locale),
            patience_seconds=self._means.limits.patience_seconds,
        )
        talk = asyncio.create_task(conversation.hold())
        meter = TimeBudget(
            self.admitted.reserved_seconds,
            extend=lambda: self._extend(conversation),
            warn=self._warn,
        )
        balance = asyncio.create_task(meter.run())
        try:
            reason = await self._until(_first(talk, balance), self._means.limits.reply_seconds)
            if talk.done():
                return _ending(talk)
        finally:
            await _cancelled(talk, balance)
        if reason == STOPPING and not self.reply.has_shown:
            raise Left
        return conversation.cut(reason or "balance")

    def _nothing(self, reason: str) -> Ending:
        """The ending of a reply that had not begun."""
        if reason == STOPPING:
            raise Left
        return Ending(subtype="error", reason=reason)

    async def _until(self, work: Coroutine[Any, Any, None], seconds: float | None = None) -> str:
        """Do the work; returns why it was ended early, else nothing. Raises Lost."""
        task = asyncio.create_task(work)
        lost = asyncio.create_task(self.reply.lost.wait())
        try:
            done, _ = await asyncio.wait(
                (task, lost, self._stopped),
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if lost in done:
                raise Lost
            if task in done:
                task.result()
                return ""
            return self._stopped.result() if done else "time_limit"
        finally:
            await _cancelled(task, lost)

    async def _await_earlier(self) -> None:
        """Let the session's replies that began before this one come to their ends."""
        is_told = False
        while (earlier := await self._earlier()) is not None:
            if not is_told:
                self.reply.tell("notice", _notice("queued", {}))
                is_told = True
            place = replace(self.reply.tail.place, reply_id=earlier)
            await (await self._means.directory.find(place, has_ended=False)).wait()

    async def _earlier(self) -> str | None:
        state = session.fold(await self._events())
        first = next(iter(state.running), None)
        return first if first != self.admitted.reply_id else None

    async def _events(self) -> list[SessionEvent]:
        place = self.reply.tail.place
        read = partial(self._means.store.stream, place.tenant_id, session_stream(place.session_id))
        stored = await _patiently(read)
        return [decode(each.type, each.state) for each in stored]

    async def _prompt(self, looks: ProjectTools) -> questions.Question:
        message = self.admitted.message
        tools = await looks.open()
        return questions.prompt(
            project_name=self.admitted.project.name,
            framework=self.admitted.project.framework,
            locale=message.locale,
            history=questions.history(
                await self._events(),
                upto=self.admitted.user_message_id,
                budget_tokens=self._means.limits.history_tokens,
            ),
            message=message.text,
            chat_mode=message.chat_mode,
            known=await looks.known(message.context),
            tools=tools,
        )

    # Money ---------------------------------------------------------------------------------------

    async def _extend(self, conversation: Generation) -> int:
        """Reserve as much again as such a reply needs, or what is left; returns the seconds."""
        message = self.admitted.message
        stream_id = account_stream(message.tenant_id, message.user_id)

        async def extend(transaction: Transaction) -> int:
            more = account.extend(
                await transaction.load(ACCOUNT, stream_id),
                user_id=message.user_id,
                reservation_id=self.admitted.reservation_id,
                session_id=self.admitted.session_id,
                reply_id=self.admitted.reply_id,
                seconds=ESTIMATES[conversation.mode or "general"],
            )
            transaction.append(stream_id, more, message.project_id)
            return sum(event.seconds for event in more if isinstance(event, TimeReserved))

        while True:
            try:
                seconds, _ = await self._means.transactions.transact(
                    message.tenant_id,
                    extend,
                    cause=RequestContext(metadata={"causationId": self.admitted.user_message_id}),
                )
                return seconds
            except (*DATABASE_AWAY, OutcomeUnknown):
                # While the database is away nobody can tell: the reply goes on, billed at the
                # most what was reserved before.
                await asyncio.sleep(1)

    def _warn(self, reserved_seconds: int) -> None:
        variables = {"percent": 80, "reserved_seconds": reserved_seconds}
        self.reply.tell("notice", _notice("reservation_used", variables))

    # Landing -------------------------------------------------------------------------------------

    async def _land(self, ending: Ending) -> None:
        """Store all that was shown, then the end with its bill, then show the end."""
        if ending.subtype == "error":
            self.reply.reset(ending.reason or "error")
        async with asyncio.timeout(GIVE_UP_SECONDS):
            frames = await self.reply.close()
        await self._settle(ending, frames)
        end = await self._end()
        subtype, mode = end.envelope["subtype"], end.envelope["mode"]
        REPLIES.labels(subtype, mode).inc()
        _log.info("reply_ended", subtype=subtype, reason=ending.reason)
        self.reply.tail.finish(end)

    async def _settle(self, ending: Ending, frames: int) -> None:
        """Store the end. One that cannot be stored as it is becomes an error that bills nothing."""
        settlement, duration_ms = self._means.settlement, self._duration_ms()
        settled = {"duration_ms": duration_ms, "frames": frames}
        try:
            await settlement.settle(self.admitted, ending, **settled)
        except (*DATABASE_AWAY, OutcomeUnknown):
            raise
        except Exception:  # noqa: BLE001 - its reservation must not stay open for a fault of ours
            _log.exception("settlement_failed")
            failed = Ending(subtype="error", reason="internal")
            await settlement.settle(self.admitted, failed, **settled)

    async def _end(self) -> End:
        """The end as the log has it, which need not be the one that was settled here."""
        end = await _patiently(partial(self._means.directory.end, self.reply.tail.place))
        assert end is not None
        return end

    def _duration_ms(self) -> int:
        return (monotonic_ns() - self._started_ns) // 1_000_000


async def _patiently(read: Callable[[], Awaitable[T]]) -> T:
    """What is read, when the database is there and has time for it; within a bound."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            try:
                return await read()
            except DATABASE_AWAY as error:
                _log.warning("turn_waits", error=type(error).__name__)
                await asyncio.sleep(1)


async def _first(*tasks: asyncio.Task[Any]) -> None:
    """Wait until one of them is done."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


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
    except Lost:
        raise
    except Exception:  # noqa: BLE001 - the outermost place of a turn: its reader gets an end
        _log.exception("conversation_failed")
        return Ending(subtype="error", reason="internal")


def accepted(admitted: Admitted) -> dict[str, Any]:
    """What a reader is told first."""
    return {
        "messageId": admitted.reply_id,
        "userMessageId": admitted.user_message_id,
        "sessionId": admitted.session_id,
        "position": admitted.position,
        "reservedSeconds": admitted.reserved_seconds,
        "contract": CONTRACT_VERSION,
    }


def _notice(code: str, variables: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "template": code, "variables": variables}
