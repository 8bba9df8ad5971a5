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
from domain.operations import Malformed, Operation, ReplyParser, fold
from domain.prompts import Prompt
from domain.replies import CONTRACTS, BrokenContract, check
from service.planner import ModelCall, Planner, Trouble
from service.reply import Reply

RETRIES: Final = 2
_FIRST_BACK_OFF_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a reply ended: `success`, `partial` for a reason, or `error` with a code and no data."""

    subtype: Literal["success", "partial", "error"]
    call: ModelCall
    mode: ChatMode = "general"
    data: Any = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    retry_after: float | None = None


@dataclass(slots=True)
class _Attempt:
    """One model call and what became of its text. `ops` were all shown; `held` were not yet."""

    call: ModelCall = field(default_factory=ModelCall)
    parser: ReplyParser = field(default_factory=ReplyParser)
    mode: ChatMode | None = None
    held: list[Operation] = field(default_factory=list[Operation])
    ops: list[Operation] = field(default_factory=list[Operation])


class Conversation:
    """Asks until the reply has ended. Owned by its turn's task."""

    def __init__(
        self, planner: Planner, prompt: Prompt, reply: Reply, *, patience_seconds: float
    ) -> None:
        self._planner = planner
        self._prompt = prompt
        self._reply = reply
        self._patience_seconds = patience_seconds
        self._attempt = _Attempt()
        self._retries = 0
        self._was_reset = False

    @property
    def mode(self) -> ChatMode | None:
        """What the model decided that the message is, when it has."""
        return self._attempt.mode

    async def hold(self) -> Ending:
        """Ask until there is an ending. Cancelled, it leaves `cut` to say what there is."""
        while True:
            self._attempt = _Attempt()
            try:
                await self._ask()
                return self._succeed()
            except Trouble as trouble:
                if not await self._may_retry(trouble):
                    return self._fail(trouble)
            except (Malformed, BrokenContract):
                if self._was_reset:
                    return self.cut("broken_contract")
                self._take_back()

    def cut(self, reason: str) -> Ending:
        """The ending of a reply that stops here: what was shown, or an error if nothing was."""
        attempt = self._attempt
        if not attempt.ops or attempt.mode is None:
            return Ending(subtype="error", call=attempt.call, reason=reason)
        return Ending(
            subtype="partial",
            call=attempt.call,
            mode=attempt.mode,
            data=fold(attempt.ops),
            reason=reason,
            warnings=self._warnings(),
        )

    async def _ask(self) -> None:
        attempt = self._attempt
        async with aclosing(self._planner.ask(self._prompt, attempt.call)) as pieces:
            async for text in pieces:
                self._take(attempt.parser.feed(text))
                await self._reply.room()
        self._take(attempt.parser.close())

    def _take(self, ops: Sequence[Operation]) -> None:
        """Show what is new. Containers alone show nothing, so they wait for their first content."""
        attempt = self._attempt
        if attempt.mode is None and attempt.parser.intent is not None:
            attempt.mode = _mode(attempt.parser.intent)
            self._reply.tell("intent", {"mode": attempt.mode})
        attempt.held += ops
        if attempt.ops or any(op["op"] != "open" for op in attempt.held):
            self._reply.show(attempt.held)
            attempt.ops += attempt.held
            attempt.held = []

    def _succeed(self) -> Ending:
        """Success only if the text is whole and keeps the contract of its mode."""
        attempt = self._attempt
        if not attempt.parser.complete or attempt.mode is None:
            raise Malformed("an incomplete answer", 0)
        data = fold(attempt.ops)
        check(attempt.mode, data)
        return Ending(
            subtype="success",
            call=attempt.call,
            mode=attempt.mode,
            data=data,
            warnings=self._warnings(),
        )

    def _fail(self, trouble: Trouble) -> Ending:
        if trouble.kind == "refused":
            if self._attempt.ops and not self._was_reset:
                self._reply.reset("provider")
            return Ending(subtype="error", call=self._attempt.call, reason=trouble.code)
        ending = self.cut(trouble.code)
        if ending.subtype == "partial":
            return ending
        return Ending(
            subtype="error",
            call=self._attempt.call,
            reason=trouble.code,
            retry_after=trouble.retry_after,
        )

    async def _may_retry(self, trouble: Trouble) -> bool:
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

    def _take_back(self) -> None:
        self._was_reset = True
        if self._attempt.ops:
            self._reply.reset("schema")

    def _warnings(self) -> tuple[str, ...]:
        return ("unstructured_reply",) if self._attempt.parser.prose else ()


def _mode(intent: str) -> ChatMode:
    if intent not in CONTRACTS:
        raise BrokenContract("general", ("/intent: unknown",))
    return cast(ChatMode, intent)
