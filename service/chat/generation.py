"""One reply's conversation with the model: attempts, retries, and the one clear way it ended.

What may be tried again depends on what the reader has seen. Before the first operation every
passing trouble is retried in silence, at most twice; after it, what was shown is kept and the reply
ends partial. A reply that breaks its contract is taken back once and asked for again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from domain.events import ChatMode
from domain.metering import Usage, billed_seconds, total_usage
from domain.operations import Operation, fold
from domain.questions import Question
from domain.reply_contracts import CONTRACTS, BrokenContract, check
from domain.reply_parser import Malformed, ReplyParser
from domain.script_check import REMINDER, ScriptCheck, is_prose
from domain.tools import ToolCall, ToolUse
from service.chat.references import References
from service.chat.tools import ProjectTools, summary
from service.model.client import ModelCall, ModelClient, ModelError
from service.replies.writer import ReplyWriter

RETRIES: Final = 2
_FIRST_BACK_OFF_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a reply ended: `success`, `partial` for a reason, or `error` with a code and no data."""

    subtype: Literal["success", "partial", "error"]
    calls: tuple[ModelCall, ...] = ()
    mode: ChatMode = "general"
    data: Any = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    retry_after: float | None = None

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

    `ops` were all shown; `held` were not yet. `may_look` while the model may ask for a look in the
    place of an answer.
    """

    script: ScriptCheck
    prose_at: str = field(default="", init=False)
    references: References
    may_call_tools: bool = False
    calls: list[ModelCall] = field(default_factory=list[ModelCall])
    parser: ReplyParser = field(default_factory=ReplyParser)
    mode: ChatMode | None = None
    held: list[Operation] = field(default_factory=list[Operation])
    ops: list[Operation] = field(default_factory=list[Operation])


class WrongLanguage(Exception):
    """The reply is not in the language that was asked for."""


class Generation:
    """Asks until the reply has ended. Owned by its turn's task."""

    def __init__(
        self,
        planner: ModelClient,
        prompt: Question,
        reply: ReplyWriter,
        *,
        looks: ProjectTools,
        language: str,
        patience_seconds: float,
    ) -> None:
        self._model_client = planner
        self._prompt = prompt
        self._reply = reply
        self._tools = looks
        self._language = language
        self._patience_seconds = patience_seconds
        self._retries = 0
        self._was_reset = False
        self._is_strict = True
        self._attempt = self._begun()

    def _begun(self) -> _Attempt:
        return _Attempt(ScriptCheck(self._language), References(self._tools.holds))

    @property
    def mode(self) -> ChatMode | None:
        """What the model decided that the message is, when it has."""
        return self._attempt.mode

    async def hold(self) -> Ending:
        """Ask until there is an ending. Cancelled, it leaves `cut` to say what there is."""
        while True:
            self._attempt = self._begun()
            try:
                await self._ask()
                return self._succeed()
            except ModelError as trouble:
                if not await self._may_retry(trouble):
                    return self._fail(trouble)
            except WrongLanguage:
                self._prompt = self._prompt.reminded(REMINDER)
                self._is_strict = False
                self._take_back("language")
            except (Malformed, BrokenContract):
                if self._was_reset:
                    return self.cut("broken_contract")
                self._take_back("schema")

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
        """Ask, look where the model wants to, and ask again, until it has answered."""
        attempt, prompt = self._attempt, self._prompt
        while uses := await self._ask_once(prompt):
            if attempt.ops:
                raise Malformed("a look in the middle of the answer", 0)
            # What it said before it looked is not the answer.
            attempt.parser, attempt.mode, attempt.held = ReplyParser(), None, []
            prompt = prompt.with_tool_calls(tuple([await self._look(use) for use in uses]))
        attempt.may_call_tools = False
        await self._take(attempt.parser.close())
        self._show(await attempt.references.close())

    async def _ask_once(self, prompt: Question) -> list[ToolUse]:
        """One model call; what it wants to look at before it answers."""
        attempt, call = self._attempt, ModelCall()
        attempt.calls.append(call)
        attempt.may_call_tools = bool(prompt.tools) and prompt.may_call_tools
        async with aclosing(self._model_client.ask(prompt, call)) as pieces:
            async for text in pieces:
                await self._take(attempt.parser.feed(text))
                await self._reply.room()
        return call.uses

    async def _look(self, use: ToolUse) -> ToolCall:
        """Take a look for the model; whoever reads the reply sees that it does."""
        told = {"name": use.name[:64], "summary": summary(use)}
        self._reply.tell("tool", {**told, "status": "running"})
        look = await self._tools.take(use)
        self._reply.tell("tool", {**told, "status": "failed" if look.is_error else "done"})
        return look

    # Showing -------------------------------------------------------------------------------------

    async def _take(self, ops: Sequence[Operation]) -> None:
        """Show what is new. Plain prose may be no more than the introduction of a look, so it waits
        until it is known to be the answer."""
        attempt = self._attempt
        if attempt.may_call_tools and attempt.parser.prose:
            attempt.held += ops
            return
        if attempt.mode is None and attempt.parser.intent is not None:
            attempt.mode = _mode(attempt.parser.intent)
            self._reply.tell("intent", {"mode": attempt.mode})
        if attempt.mode == "question":
            ops = await attempt.references.pass_on(ops)
        self._show(ops)

    def _show(self, ops: Sequence[Operation]) -> None:
        """Containers alone show nothing, so they wait for their first content."""
        attempt = self._attempt
        attempt.held += ops
        if attempt.ops or any(op["op"] != "open" for op in attempt.held):
            self._heed_language(attempt.held)
            self._reply.show(attempt.held)
            attempt.ops += attempt.held
            attempt.held = []

    def _heed_language(self, ops: Sequence[Operation]) -> None:
        """Stop as soon as the prose is seen to be in another language. Raises WrongLanguage."""
        attempt = self._attempt
        for op in () if attempt.script.is_decided else ops:
            text = op.get("text") or op.get("value")
            if isinstance(text, str) and is_prose(op["path"]):
                # Texts of two fields are two paragraphs.
                attempt.script.feed(text if op["path"] == attempt.prose_at else f"\n\n{text}")
                attempt.prose_at = op["path"]
        if attempt.script.is_wrong and self._is_strict and not self._was_reset:
            raise WrongLanguage

    def _succeed(self) -> Ending:
        """Success only if the text is whole and keeps the contract of its mode."""
        attempt = self._attempt
        if not attempt.parser.complete or attempt.mode is None:
            raise Malformed("an incomplete answer", 0)
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

    # Trouble -------------------------------------------------------------------------------------

    def _fail(self, trouble: ModelError) -> Ending:
        if trouble.kind == "refused":
            if self._attempt.ops and not self._was_reset:
                self._reply.reset("provider")
            return Ending(subtype="error", calls=tuple(self._attempt.calls), reason=trouble.code)
        ending = self.cut(trouble.code)
        if ending.subtype == "partial":
            return ending
        return Ending(
            subtype="error",
            calls=tuple(self._attempt.calls),
            reason=trouble.code,
            retry_after=trouble.retry_after,
        )

    async def _may_retry(self, trouble: ModelError) -> bool:
        """Wait as long as the provider asks, if that is not longer than a reader waits."""
        wait = _FIRST_BACK_OFF_SECONDS * 2**self._retries
        if trouble.retry_after is not None:
            wait = trouble.retry_after
        if trouble.kind != "transient" or self._attempt.ops or self._retries == RETRIES:
            return False
        if wait > self._patience_seconds:
            return False
        self._retries += 1
        self._reply.tell(
            "notice",
            {"code": "provider_retry", "template": "provider_retry", "variables": {}},
        )
        await asyncio.sleep(wait)
        return True

    def _take_back(self, reason: str) -> None:
        self._was_reset = True
        if self._attempt.ops:
            self._reply.reset(reason)

    def _warnings(self) -> tuple[str, ...]:
        attempt = self._attempt
        found = {
            "unstructured_reply": attempt.parser.prose,
            "wrong_language": attempt.script.is_wrong_at_end(),
            "references_left_out": attempt.references.left_out > 0,
        }
        return tuple(warning for warning, is_so in found.items() if is_so)


def _mode(intent: str) -> ChatMode:
    if intent not in CONTRACTS:
        raise BrokenContract("general", ("/intent: unknown",))
    return cast(ChatMode, intent)
