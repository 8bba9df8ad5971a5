"""A prompt: a text with placeholders, and its numbered versions."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from json import dumps
from typing import Final, Literal, assert_never

from domain.errors import (
    PromptChanged,
    PromptRetired,
    PromptTooLong,
    PromptUnknown,
    ValuesMissing,
    ValuesUnknown,
)
from domain.events import (
    PromptArchived,
    PromptCreated,
    PromptErased,
    PromptErasureRequested,
    PromptEvent,
    PromptRenamed,
    PromptRestored,
    PromptVersionAdded,
)

Decided = tuple[PromptEvent, ...]
Status = Literal["new", "active", "archived", "erasing", "erased"]

MOST_CHARACTERS: Final = 100_000
"""The longest text of a version."""
MOST_FILLED: Final = 200_000
"""The longest text with its values."""
MOST_PLACEHOLDERS: Final = 50
LONGEST_NAME: Final = 64

_PLACEHOLDER: Final = re.compile(rf"\{{\{{(\w{{1,{LONGEST_NAME}}})\}}\}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a user can change about a prompt."""

    name: str = ""
    is_archived: bool = False

    @property
    def revision(self) -> str:
        """A name for these values: the same for the same values."""
        return sha256(dumps([self.name, self.is_archived]).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What decisions need to know. `versions` is the number of the newest version."""

    prompt_id: str = ""
    project_id: str = ""
    user_id: str = ""
    name: str = ""
    status: Status = "new"
    versions: int = 0

    @property
    def details(self) -> Details:
        """What a user can change."""
        return Details(name=self.name, is_archived=self.status == "archived")


INITIAL: Final = Prompt()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The reply that proposed a text, and its session."""

    session_id: str
    message_id: str


def evolve(state: Prompt, event: PromptEvent) -> Prompt:
    """The prompt after one more event."""
    match event:
        case PromptCreated():
            return Prompt(
                prompt_id=event.prompt_id,
                project_id=event.project_id,
                user_id=event.user_id,
                name=event.name,
                status="active",
            )
        case PromptVersionAdded():
            return replace(state, versions=event.number)
        case PromptRenamed():
            return replace(state, name=event.name)
        case PromptArchived():
            return replace(state, status="archived")
        case PromptRestored():
            return replace(state, status="active")
        case PromptErasureRequested():
            return replace(state, status="erasing", name="")
        case PromptErased():
            return replace(state, status="erased")
        case _:
            assert_never(event)


def fold(events: Iterable[PromptEvent], state: Prompt = INITIAL) -> Prompt:
    """The prompt after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


def placeholders(text: str) -> tuple[str, ...]:
    """The names of the placeholders in a text, in the order of their first appearance.

    A placeholder is written `{{name}}`. Its name has 1 to 64 letters, digits and underscores.
    """
    return tuple(dict.fromkeys(_PLACEHOLDER.findall(text)))


def fill(text: str, answers: Mapping[str, str]) -> str:
    """The text with a value in the place of each placeholder. An empty text is a value.

    A value stays as it is, also where the value has a placeholder in it. Raises ValuesMissing,
    ValuesUnknown, PromptTooLong.
    """
    found = _PLACEHOLDER.findall(text)
    names = dict.fromkeys(found)
    if missing := [name for name in names if name not in answers]:
        raise ValuesMissing(names=", ".join(missing))
    if unknown := [name for name in answers if name not in names]:
        raise ValuesUnknown(names=", ".join(unknown))
    grown = sum(len(answers[name]) - len(name) - len("{{}}") for name in found)
    if len(text) + grown > MOST_FILLED:
        raise PromptTooLong(limit=MOST_FILLED)
    return _PLACEHOLDER.sub(lambda match: answers[match[1]], text)


def version_id(prompt_id: str, number: int) -> str:
    """The id of a version."""
    return f"{prompt_id}.{number}"


def version_named(prompt_version_id: str) -> tuple[str, int] | None:
    """The prompt and the number that the id of a version names; None for another text."""
    prompt_id, _, text = prompt_version_id.rpartition(".")
    number = number_in(text)
    return None if not prompt_id or number is None else (prompt_id, number)


def number_in(text: str) -> int | None:
    """The number of a version that a text names; None for another text."""
    return int(text) if re.fullmatch("[1-9][0-9]{0,8}", text) else None


def create(state: Prompt, *, prompt_id: str, project_id: str, user_id: str, name: str) -> Decided:
    """Create the prompt. Its first version is a decision of its own.

    Raises PromptUnknown unless the id is new.
    """
    if state.status != "new":
        raise PromptUnknown
    return (PromptCreated(prompt_id=prompt_id, project_id=project_id, user_id=user_id, name=name),)


def add_version(
    state: Prompt,
    *,
    user_id: str,
    text: str,
    note: str | None = None,
    source: Source | None = None,
) -> Decided:
    """Add a version, the next by its number. The same text again is a version as well.

    Raises PromptUnknown, PromptRetired.
    """
    require_active(state)
    number = state.versions + 1
    return (
        PromptVersionAdded(
            prompt_id=state.prompt_id,
            prompt_version_id=version_id(state.prompt_id, number),
            number=number,
            name=state.name,
            text=text,
            placeholders=placeholders(text),
            user_id=user_id,
            note=note,
            source_session_id=None if source is None else source.session_id,
            source_message_id=None if source is None else source.message_id,
        ),
    )


def change(state: Prompt, *, details: Details, revisions: Collection[str] | None) -> Decided:
    """Change what a user can change of a prompt. The same details again change nothing.

    `revisions` are the details that the caller knows, by their versions; None allows any. Raises
    PromptUnknown, and PromptChanged where the details have changed since.
    """
    require_known(state)
    if revisions is not None and state.details.revision not in revisions:
        raise PromptChanged(revision=state.details.revision)
    decided: list[PromptEvent] = []
    if details.name != state.name:
        decided.append(PromptRenamed(prompt_id=state.prompt_id, name=details.name))
    if details.is_archived != state.details.is_archived:
        kind = PromptArchived if details.is_archived else PromptRestored
        decided.append(kind(prompt_id=state.prompt_id))
    return tuple(decided)


def request_erasure(state: Prompt) -> Decided:
    """Close the prompt for good, to be erased. Raises PromptUnknown."""
    require_known(state)
    return (PromptErasureRequested(prompt_id=state.prompt_id),)


def erase(state: Prompt) -> Decided:
    """End the erasure, once, after that of all sessions made of the prompt. Raises PromptUnknown
    unless the erasure was requested."""
    if state.status not in ("erasing", "erased"):
        raise PromptUnknown
    return () if state.status == "erased" else (PromptErased(prompt_id=state.prompt_id),)


def require_active(state: Prompt) -> None:
    """Require a prompt that can be used. Raises PromptUnknown, PromptRetired."""
    require_known(state)
    if state.status == "archived":
        raise PromptRetired


def require_known(state: Prompt) -> None:
    """Raises PromptUnknown unless the prompt is there."""
    if state.status in ("new", "erasing", "erased"):
        raise PromptUnknown
