"""One turn, from the admitted message to the stored end: the heart of the service.

A turn is a task of the service, no child of a request: a reader that leaves changes nothing. In it
the generation and the time budget run side by side until one of them ends, or the turn is stopped.
Then the end is stored with its bill, and only then is the final event sent.
"""

import asyncio
from dataclasses import replace
from functools import partial
from time import monotonic_ns
from typing import Any, Final

import structlog

from domain.errors import ReplyUnknown
from service.chat.admission import Admitted
from service.chat.generation import Ending, Generation
from service.chat.preparation import Preparation, patiently
from service.chat.settlement import GIVE_UP_SECONDS, Course, Settlement
from service.chat.time_budget import TimeBudget
from service.model.client import usage_attributes
from service.ops import tracing
from service.ops.metrics import FIRST_TEXT_SECONDS, REPLIES, REPLY_SECONDS, TOKENS
from service.ops.tracing import Span
from service.replies.directory import ReplyDirectory
from service.replies.events import notice
from service.replies.tail import ERASED
from service.replies.writer import Lost, ReplyWriter

STOPPING: Final = "stopping"
"""Why a turn is stopped when the service is."""

THINKING_SECONDS: Final = 2.0
"""After so much silence of the model, a notice tells the readers that the model is at work."""

_log = structlog.stdlib.get_logger(__name__)


class Left(Exception):
    """The service stops before anything was shown: another process begins the reply anew."""


class Turn:
    """A message that is being answered. `stop` may be called from anywhere on the service's loop.

    `stopped` has the reason why the reply is to end early, as soon as there is one.
    """

    def __init__(self, admitted: Admitted, writer: ReplyWriter) -> None:
        self.admitted = admitted
        self.writer = writer
        self.stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._started_ns = monotonic_ns()

    def stop(self, reason: str) -> None:
        """End the reply with what was shown. A second reason changes nothing."""
        if not self.stopped.done():
            self.stopped.set_result(reason)

    async def until(self, *tasks: asyncio.Task[Any], seconds: float | None = None) -> str:
        """Wait until one of the tasks is done. Returns why the turn ends before that, else nothing.
        Raises Lost."""
        ends = (*tasks, self.writer.lost, self.stopped)
        done, _ = await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self.writer.lost in done:
            raise Lost
        if not done.isdisjoint(tasks):
            return ""
        return self.stopped.result() if done else "time_limit"

    def course(self, frames: int) -> Course:
        """What was measured of the turn up to now, with so many frames written."""
        shown_ns = self.writer.first_shown_ns
        return Course(
            duration_ms=self._since_start_ms(monotonic_ns()),
            frames=frames,
            first_text_ms=None if shown_ns is None else self._since_start_ms(shown_ns),
        )

    def _since_start_ms(self, at_ns: int) -> int:
        return (at_ns - self._started_ns) // 1_000_000


class Responder:
    """Answers messages. Owned by the service's loop; `answer` is one task a turn."""

    def __init__(
        self,
        preparation: Preparation,
        directory: ReplyDirectory,
        settlement: Settlement,
        *,
        reply_seconds: float,
    ) -> None:
        self._preparation = preparation
        self._directory = directory
        self._settlement = settlement
        self._reply_seconds = reply_seconds

    async def answer(self, turn: Turn) -> None:
        """The whole turn. Whatever happens, its readers get an end or are sent away."""
        admitted = turn.admitted
        tracing.follow(admitted.traceparent)
        structlog.contextvars.bind_contextvars(reply_id=admitted.reply_id)
        with tracing.span("turn", begins_trace=True) as span:
            span.set(
                {
                    "throughline.tenant.id": admitted.message.tenant_id,
                    "throughline.reply.id": admitted.reply_id,
                    "throughline.session.mode": admitted.mode,
                    "gen_ai.conversation.id": admitted.session_id,
                }
            )
            await self._answer(turn, span)

    async def _answer(self, turn: Turn, span: Span) -> None:
        tail = turn.writer.tail
        try:
            await self._land(turn, await self._generate(turn), span)
        except Lost:
            _log.warning("reply_taken_over")
            self._directory.release(tail)
        except Left:
            tail.leave(STOPPING)
        except ReplyUnknown:
            tail.leave(ERASED)
        except (Exception, asyncio.CancelledError) as error:
            _log.error("turn_did_not_land", error=type(error).__name__)
            tail.leave(STOPPING)
            raise

    # Generating ----------------------------------------------------------------------------------

    async def _generate(self, turn: Turn) -> Ending:
        """Ask the model until there is an ending, or the time, the balance or the service ends."""
        with tracing.span("prepare"):
            generation = await self._prepared(turn)
        if isinstance(generation, Ending):
            return generation
        budget = TimeBudget(
            turn.admitted.reserved_seconds,
            extend=lambda reserved_seconds: self._settlement.extend(
                turn.admitted, generation.mode or "general", reserved_seconds
            ),
            warn=partial(_warn, turn),
            clock=generation.used_seconds,
        )
        ending = await self._spoken(turn, generation, budget)
        return replace(ending, reached=generation.mode, retries=generation.retries)

    async def _spoken(self, turn: Turn, generation: Generation, budget: TimeBudget) -> Ending:
        """Run the generation and its time budget side by side."""
        talk, spent = asyncio.create_task(generation.run()), asyncio.create_task(budget.run())
        thinking = asyncio.create_task(_say_that_it_thinks(turn.writer))
        try:
            reason = await turn.until(talk, spent, seconds=self._reply_seconds)
            if talk.done():
                return _ending(talk)
            if spent.done() and spent.exception():
                return _FAULT
        finally:
            await _ended(talk, spent, thinking)
        if reason == STOPPING and not turn.writer.has_shown:
            raise Left
        return generation.cut(reason or "balance")

    async def _prepared(self, turn: Turn) -> Generation | Ending:
        """The generation, ready to run; or the ending of a turn that is stopped before that."""
        preparing = asyncio.create_task(self._preparation.generation(turn.admitted, turn.writer))
        try:
            reason = await turn.until(preparing)
            if not reason:
                return preparing.result()
        finally:
            await _ended(preparing)
        if reason == STOPPING:
            raise Left
        return Ending(subtype="error", reason=reason)

    # Landing -------------------------------------------------------------------------------------

    async def _land(self, turn: Turn, ending: Ending, span: Span) -> None:
        """Store all that was shown, then the end with its bill, then show the end."""
        if ending.subtype == "error":
            # A refused reply was reset before. So only a fault of ours leaves something to discard.
            turn.writer.reset("internal")
        async with asyncio.timeout(GIVE_UP_SECONDS):
            frames = await turn.writer.close()
        ending = replace(ending, resets=turn.writer.resets)
        course = turn.course(frames)
        end = await self._settlement.settle(turn.admitted, ending, course)
        if end is None:  # the log has an end of this reply already, and that end counts
            end = await patiently(partial(self._directory.end, turn.admitted.ref))
            assert end is not None
        subtype, mode = end.envelope["subtype"], end.envelope["mode"]
        _count(course, ending, subtype, mode)
        _describe(span, course, ending, subtype, mode)
        log = _log.warning if ending.subtype == "error" else _log.info
        log("reply_ended", subtype=subtype, reason=ending.reason)
        turn.writer.tail.finish(end)


_FAULT: Final = Ending(subtype="error", reason="internal")
"""A fault of ours: an error that bills nothing."""


def _count(course: Course, ending: Ending, subtype: str, mode: str) -> None:
    """Count the reply, its times and its tokens for the metrics."""
    REPLIES.labels(subtype, mode).inc()
    REPLY_SECONDS.labels(mode).observe(course.duration_ms / 1_000)
    if course.first_text_ms is not None:
        FIRST_TEXT_SECONDS.observe(course.first_text_ms / 1_000)
    usage = ending.usage
    for kind, tokens in (
        ("input", usage.input_tokens),
        ("output", usage.output_tokens),
        ("cache_read", usage.cache_read_tokens),
        ("cache_write", usage.cache_write_tokens),
    ):
        TOKENS.labels(kind).inc(tokens or 0)


def _describe(span: Span, course: Course, ending: Ending, subtype: str, mode: str) -> None:
    """Say of the turn what the metrics count."""
    span.set(
        {
            "throughline.reply.subtype": subtype,
            "throughline.reply.mode": mode,
            "throughline.reply.reason": ending.reason,
            "throughline.reply.first_text_ms": course.first_text_ms,
            "throughline.reply.frames": course.frames,
            "throughline.reply.resets": ending.resets,
            "throughline.reply.retries": ending.retries,
            **usage_attributes(ending.usage),
        }
    )
    if ending.subtype == "error":
        span.fail(ending.reason or "error")


def _ending(talk: asyncio.Task[Ending]) -> Ending:
    """How the generation ended. Raises Lost. A fault is logged where the task is ended."""
    try:
        return talk.result()
    except Lost:
        raise
    except Exception:  # noqa: BLE001 - the outermost place of a turn: its reader gets an end
        return _FAULT


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """End helper tasks, and log what went wrong in them."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception) and not isinstance(result, Lost):
            _log.error("turn_task_failed", exc_info=result)


async def _say_that_it_thinks(writer: ReplyWriter) -> None:
    """Tell the readers that the model is at work, if it has written nothing after a moment."""
    await asyncio.sleep(THINKING_SECONDS)
    if not writer.has_shown:
        writer.emit(notice("plan_thinking"))


def _warn(turn: Turn, reserved_seconds: int) -> None:
    variables = {"percent": 80, "reserved_seconds": reserved_seconds}
    turn.writer.emit(notice("reservation_used", **variables))
