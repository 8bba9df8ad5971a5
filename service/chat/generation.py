"""One reply's dialogue with the model: attempts, retries, and the one clear way it ended.

What may be tried again depends on what the reader has seen. Before the first operation, a call that
failed for a while is made again, at most twice; after it, what was shown is kept and the reply ends
partial. A reply that breaks its contract is taken back once and asked for again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import structlog

from domain.events import ReplyMode
from domain.metering import NS_PER_SECOND, Usage, billed_seconds, total_usage
from domain.replies.contracts import BrokenContract, check
from domain.replies.operations import Operation, fold
from domain.replies.parser import Malformed, ReplyParser
from domain.replies.questions import Question, language
from domain.replies.script_check import REMINDER, ScriptCheck, is_prose
from domain.replies.tools import ToolCall, ToolUse
from service.chat.references import References
from service.chat.tools import ProjectTools, summary
from service.model.client import ModelCall, ModelClient, ModelError
from service.ops.metrics import PROVIDER_ERRORS, RETRIES
from service.replies.events import Intent, ToolCallStatus, notice
from service.replies.writer import ReplyWriter
from service.texts.templates import has_bundle

MOST_RETRIES: Final = 2
_FIRST_BACK_OFF_SECONDS: Final = 0.5
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a reply ended: `success`, `partial` for a reason, or `error` with a code and no data.

    `reached` is the mode that the model had decided on at the end, also of a reply without content.
    `resets` and `retries` count over the whole reply.
    """

    subtype: Literal["success", "partial", "error"]
    calls: tuple[ModelCall, ...] = ()
    mode: ReplyMode = "general"
    data: Any = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    retry_after: float | None = None
    reached: ReplyMode | None = None
    resets: int = 0
    retries: int = 0

    @property
    def seconds(self) -> int:
        """The model's time, rounded up once a call."""
        return sum(billed_seconds(call.duration_ns) for call in self.calls)

    @property
    def usage(self) -> Usage:
        """The tokens of all its calls."""
        return total_usage(call.usage for call in self.calls)


@dataclass(slots=True)
class _Attempt:
    """One try at a reply: its model calls and what became of their text.

    `ops` were all shown; `waiting` were not yet. `may_call_tools` is set while the model may call
    a tool in place of an answer. `prose_at` is the path of the prose that `script` read last.
    """

    script: ScriptCheck
    references: References
    parser: ReplyParser
    prose_at: str = field(default="", init=False)
    may_call_tools: bool = False
    calls: list[ModelCall] = field(default_factory=list[ModelCall])
    mode: ReplyMode | None = None
    waiting: list[Operation] = field(default_factory=list[Operation])
    ops: list[Operation] = field(default_factory=list[Operation])


class WrongLanguage(Exception):
    """The reply is not in the language that was asked for."""


class Generation:
    """Asks until the reply has ended. Owned by its turn's task."""

    def __init__(
        self,
        model: ModelClient,
        question: Question,
        writer: ReplyWriter,
        *,
        tools: ProjectTools,
        locale: str,
        patience_seconds: float,
    ) -> None:
        self._model = model
        self._question = question
        self._writer = writer
        self._tools = tools
        self._language = language(locale)
        self._has_texts = has_bundle(locale)
        self._patience_seconds = patience_seconds
        self.retries = 0
        """How often the provider was asked again after an error."""
        self._was_reset = False
        self._is_strict = True
        self._attempt = self._begun()

    def _begun(self) -> _Attempt:
        return _Attempt(
            script=ScriptCheck(self._language),
            references=References(self._tools.contains, self._tools.exists),
            parser=self._new_parser(),
        )

    def _new_parser(self) -> ReplyParser:
        return ReplyParser(is_prose=not self._question.contracts)

    @property
    def mode(self) -> ReplyMode | None:
        """What the model decided that the message is, when it has."""
        return self._attempt.mode

    def used_seconds(self) -> float:
        """The model's time in this attempt, as it is billed if the attempt is kept: calls count in
        whole seconds, except for the last one. Back-off and discarded attempts do not count."""
        if not self._attempt.calls:
            return 0
        *earlier, last = self._attempt.calls
        billed = sum(billed_seconds(call.duration_ns) for call in earlier)
        return billed + last.duration_ns / NS_PER_SECOND

    async def run(self) -> Ending:
        """Ask until there is an ending. After a cancellation `cut` says what was shown."""
        while True:
            try:
                await self._ask()
                return self._succeed()
            except ModelError as error:
                PROVIDER_ERRORS.labels(error.kind, error.code).inc()
                wait = self._wait_before_retry(error)
                _log.warning(
                    "model_failed", code=error.code, retried=wait is not None, **error.said
                )
                if wait is None:
                    return self._fail(error)
                self._attempt = self._begun()
                await asyncio.sleep(wait)
            except WrongLanguage:
                self._question = self._question.reminded(REMINDER)
                self._is_strict = False
                self._discard("language")
            except (Malformed, BrokenContract):
                if self._was_reset:
                    return self.cut("broken_contract")
                self._discard("schema")

    def cut(self, reason: str) -> Ending:
        """The ending of a reply that stops here: what was shown, or an error if nothing was."""
        attempt = self._attempt
        if not attempt.ops or attempt.mode is None:
            return Ending(subtype="error", calls=tuple(attempt.calls), reason=reason)
        return Ending(
            subtype="partial",
            calls=tuple(attempt.calls),
            mode=attempt.mode,
            data=fold(attempt.ops),
            reason=reason,
            warnings=self._warnings(),
        )

    # Asking --------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Ask, call the tools that the model wants, and ask again, until it has answered."""
        attempt, question = self._attempt, self._question
        while uses := await self._ask_once(question):
            if attempt.ops:
                raise Malformed("a tool call in the middle of the answer", 0)
            # What the model said before its tool call is not the answer.
            attempt.parser, attempt.mode, attempt.waiting = self._new_parser(), None, []
            question = question.with_tool_calls(tuple([await self._call(use) for use in uses]))
        attempt.may_call_tools = False
        await self._pass_on(attempt.parser.close())
        self._show(await attempt.references.close())

    async def _ask_once(self, question: Question) -> list[ToolUse]:
        """One model call; returns the tools that the model calls before it answers."""
        attempt, call = self._attempt, ModelCall()
        attempt.calls.append(call)
        attempt.may_call_tools = bool(question.tools) and question.may_call_tools
        async with aclosing(self._model.ask(question, call)) as pieces:
            async for text in pieces:
                await self._pass_on(attempt.parser.feed(text))
                await self._writer.wait_for_capacity()
        return call.uses

    async def _call(self, use: ToolUse) -> ToolCall:
        """Call a tool for the model; the readers of the reply see it."""
        name, what = use.name[:64], summary(use)
        self._writer.emit(ToolCallStatus(name=name, summary=what, status="running"))
        call = await self._tools.call(use)
        self._writer.emit(
            ToolCallStatus(name=name, summary=what, status="failed" if call.is_error else "done")
        )
        return call

    # Showing -------------------------------------------------------------------------------------

    async def _pass_on(self, ops: Sequence[Operation]) -> None:
        """Show what is new. Plain prose may only introduce a tool call, so prose waits until it is
        known to be the answer."""
        attempt = self._attempt
        if attempt.may_call_tools and attempt.parser.prose:
            attempt.waiting += ops
            return
        if attempt.mode is None and attempt.parser.intent is not None:
            attempt.mode = _mode(attempt.parser, self._question.contracts)
            self._writer.emit(Intent(mode=attempt.mode))
        self._show(await attempt.references.pass_on(attempt.mode, ops))

    def _show(self, ops: Sequence[Operation]) -> None:
        """Containers alone show nothing, so they wait for their first content."""
        attempt = self._attempt
        attempt.waiting += ops
        if attempt.ops or any(op["op"] != "open" for op in attempt.waiting):
            self._check_language(attempt.waiting)
            self._writer.show(attempt.waiting)
            attempt.ops += attempt.waiting
            attempt.waiting = []

    def _check_language(self, ops: Sequence[Operation]) -> None:
        """Stop as soon as the prose is seen to be in another language; without a contract any
        language is right. Raises WrongLanguage."""
        attempt = self._attempt
        if not self._question.contracts:
            return
        for op in () if attempt.script.is_decided else ops:
            text = op.get("text") or op.get("value")
            if isinstance(text, str) and is_prose(op["path"]):
                # Texts of two fields are two paragraphs.
                attempt.script.feed(text if op["path"] == attempt.prose_at else f"\n\n{text}")
                attempt.prose_at = op["path"]
        if attempt.script.is_wrong and self._is_strict and not self._was_reset:
            raise WrongLanguage

    def _succeed(self) -> Ending:
        """Success only if the text is whole and keeps the contract of its mode.

        JSON shows by itself that it is whole. Prose is whole only if the model ended its turn: the
        provider may have paused it.
        """
        attempt = self._attempt
        if not attempt.parser.complete or attempt.mode is None:
            raise Malformed("an incomplete answer", 0)
        if attempt.parser.prose and not attempt.calls[-1].has_ended_its_turn:
            raise Malformed("prose of an unfinished turn", 0)
        data = fold(attempt.ops)
        check(attempt.mode, data)
        if attempt.script.is_wrong_at_end() and self._is_strict and not self._was_reset:
            raise WrongLanguage
        return Ending(
            subtype="success",
            calls=tuple(attempt.calls),
            mode=attempt.mode,
            data=data,
            warnings=self._warnings(),
        )

    # Errors --------------------------------------------------------------------------------------

    def _fail(self, error: ModelError) -> Ending:
        if error.kind == "refused":
            if self._attempt.ops:
                self._writer.reset("provider")
            return Ending(subtype="error", calls=tuple(self._attempt.calls), reason=error.code)
        ending = self.cut(error.code)
        if ending.subtype == "partial":
            return ending
        return Ending(
            subtype="error",
            calls=tuple(self._attempt.calls),
            reason=error.code,
            retry_after=error.retry_after,
        )

    def _wait_before_retry(self, error: ModelError) -> float | None:
        """How many seconds to wait before the next attempt; None where there is to be none. The
        wait is as long as the provider asks for, if a reader waits that long."""
        wait: float = _FIRST_BACK_OFF_SECONDS * 2**self.retries
        if error.retry_after is not None:
            wait = error.retry_after
        if error.kind != "transient" or self._attempt.ops or self.retries == MOST_RETRIES:
            return None
        if wait > self._patience_seconds:
            return None
        self.retries += 1
        RETRIES.inc()
        self._writer.emit(notice("provider_retry"))
        return wait

    def _discard(self, reason: str) -> None:
        """Discard the attempt and begin another one, without regard to what was shown."""
        self._was_reset = True
        if self._attempt.ops:
            self._writer.reset(reason)
        self._attempt = self._begun()

    def _warnings(self) -> tuple[str, ...]:
        attempt = self._attempt
        found = {
            "unstructured_reply": attempt.parser.prose and bool(self._question.contracts),
            "wrong_language": attempt.script.is_wrong_at_end(),
            "references_left_out": attempt.references.left_out > 0,
            "locale_unsupported": not self._has_texts,
        }
        return tuple(warning for warning, is_so in found.items() if is_so)


def _mode(parser: ReplyParser, contracts: Sequence[ReplyMode]) -> ReplyMode:
    """The mode of the answer. Prose is taken also where a contract was asked for."""
    intent = parser.intent
    if intent not in contracts and not parser.prose:
        raise BrokenContract("general", ("/intent: unknown",))
    return cast(ReplyMode, intent)
