"""What was said before a message, as turns for the model: the newest that fit a budget."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from json import dumps
from typing import Final

from domain.events import (
    AssistantMessageAdded,
    Json,
    MaterialAdded,
    ReplyCompleted,
    ReplyMode,
    SessionEvent,
    SystemMessagePosted,
    UserMessagePosted,
)
from domain.replies.questions import Turn

CHARACTERS_PER_TOKEN: Final = 4
"""A cautious estimate, for budgets only. The bill goes by the provider's numbers."""

Said = Callable[[str, Mapping[str, str]], str]
"""The text of a template with its variables."""


@dataclass(slots=True)
class _Exchange:
    """A reply and the message that it answers, or one turn. The message is None until it comes."""

    answer: str | None
    message: str | None = None

    @property
    def is_whole(self) -> bool:
        return self.message is not None or self.answer is None

    def turns(self) -> list[Turn]:
        """The newest first."""
        sides = (Turn("assistant", self.answer or ""), Turn("user", self.message or ""))
        return [each for each in sides if each.text]


class History:
    """The conversation before message `upto`, the newest part that fits, as turns for the model.

    Feed it the session's events backwards, the newest first, until `is_full`; then the events
    of the session that it is a fork of, from the fork's place on.

    A message and its reply stay together: the oldest are left out whole. A message without a reply
    is left out as well, unless a client appended it. A reply counts also where it ended after
    message `upto`, which waited for it. Material and the service's own messages are told as notes
    of the user's side, and turns of one side in a row become one turn, so that the sides alternate.
    An erased text is left out.

    `_open` has what was said and waits for its place: a reply whose message has not come yet holds
    back what is older, because turns are made in the order in which the replies ended.
    """

    def __init__(
        self, *, upto: str, budget_tokens: int, said: Said, is_prose: bool = False
    ) -> None:
        self._upto = upto
        self._is_before = False
        self._characters = budget_tokens * CHARACTERS_PER_TOKEN
        self._said = said
        self._is_prose = is_prose
        self._open: dict[str, _Exchange] = {}
        self._turns: list[Turn] = []

    @property
    def is_full(self) -> bool:
        """Whether nothing older fits."""
        return self._characters <= 0

    @property
    def turns(self) -> list[Turn]:
        """The turns so far, the oldest first. The first turn is the user's."""
        runs = (tuple(run) for _, run in groupby(self._turns[::-1], lambda each: each.role))
        joined = [_joined(run) for run in runs]
        return joined[1:] if joined and joined[0].role == "assistant" else joined

    def extend(self, events: Iterable[SessionEvent]) -> None:
        """Take the next older events, the newest first, until the history is full."""
        for event in events:
            if self.is_full:
                return
            self._add(event)

    def _add(self, event: SessionEvent) -> None:
        match event:
            case ReplyCompleted():
                written = _answer(event.mode, event.data, is_prose=self._is_prose)
                self._open[event.in_reply_to] = _Exchange(written)
                return  # its message is older
            case UserMessagePosted() if not self._is_before:
                self._open.pop(event.message_id, None)
                self._is_before = event.message_id == self._upto
            case UserMessagePosted() if event.message_id in self._open:
                self._open[event.message_id].message = event.text
            case UserMessagePosted(source="client"):
                self._open[event.message_id] = _Exchange(None, event.text)
            case AssistantMessageAdded() if self._is_before:
                self._open[event.message_id] = _Exchange(event.text, "")
            case MaterialAdded() if event.text:
                # Also what was given after the message, which waited for another reply.
                self._open[event.message_id] = _Exchange(None, f"{event.kind}:\n{event.text}")
            case SystemMessagePosted(type="message") if self._is_before and event.variables:
                note = f"(Note: {self._said(event.template, event.variables)})"
                self._open[event.message_id] = _Exchange(None, note)
            case _:
                return
        self._make_turns()

    def _make_turns(self) -> None:
        """Of the newest exchanges, as far as they are whole and fit."""
        while self._open and not self.is_full:
            key = next(iter(self._open))
            if not self._open[key].is_whole:
                return
            turns = self._open.pop(key).turns()
            self._characters -= sum([len(each.text) for each in turns])
            if self._characters >= 0:
                self._turns += turns


def _joined(run: tuple[Turn, ...]) -> Turn:
    """The turns of one side as one turn. Nearly always there is only one."""
    return run[0] if len(run) == 1 else Turn(run[0].role, "\n\n".join(each.text for each in run))


def _answer(mode: ReplyMode, data: Json, *, is_prose: bool) -> str:
    """A reply as the model wrote it: an envelope, or prose; nothing for an erased reply."""
    if data is None:
        return ""
    if is_prose and mode == "general":
        return str(data.get("markdown", ""))
    return dumps({"intent": mode, "response": data}, ensure_ascii=False)
