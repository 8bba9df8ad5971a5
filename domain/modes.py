"""The modes of sessions. A mode decides the answers of a session, the price, the end, the readers.

A mode is one row of `MODES`. Everything that differs between the kinds of conversation stands here,
so a new kind is one more row, and its system text in `domain/replies/questions.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from domain.events import OperationType, ReplyMode, SessionMode
from domain.metering import ESTIMATES, OPERATIONS

PLANNER: Final[tuple[ReplyMode, ...]] = ("question", "feature", "fix", "analysis", "general")
"""The contracts among which the planner chooses by what the message is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """What holds for the sessions of one mode.

    A reply keeps to one of the `contracts`; without contracts a reply is Markdown, whatever it
    begins with. `has_tools` says that the model may read the project's source. `most_tokens` is
    None where only the number of messages ends the session.

    `expires` says that a session without a message for a while is no longer found for the user's
    next message. `is_locked` says that its messages are refused while a build of the project runs.
    `is_private` says that only the session's own user can see it. A user changes the mode of a
    session within its `family`.

    `estimate` are the AI seconds to reserve for a reply; None goes by the mode of the message.
    `operation` is what a reply is billed as; None goes by the mode of the reply.
    """

    contracts: tuple[ReplyMode, ...]
    has_tools: bool
    most_messages: int
    most_tokens: int | None
    family: str
    expires: bool = False
    is_locked: bool = False
    is_private: bool = False
    estimate: int | None = None
    operation: OperationType | None = None


_DISCUSSION: Final = Mode(
    contracts=PLANNER,
    has_tools=True,
    most_messages=200,
    most_tokens=400_000,
    family="plan",
    is_locked=True,
)

MODES: Final[Mapping[SessionMode, Mode]] = {
    "plan": Mode(
        contracts=PLANNER,
        has_tools=True,
        most_messages=50,
        most_tokens=100_000,
        family="plan",
        expires=True,
        is_locked=True,
    ),
    "setup": _DISCUSSION,
    "analysis": _DISCUSSION,
    "what_if": _DISCUSSION,
    "idea": Mode(
        contracts=("improvement",),
        has_tools=False,
        most_messages=50,
        most_tokens=100_000,
        family="improvement",
        estimate=60,
        operation="idea_consultation",
    ),
    "run_feedback": Mode(
        contracts=("improvement",),
        has_tools=False,
        most_messages=50,
        most_tokens=100_000,
        family="improvement",
        estimate=60,
        operation="run_feedback",
    ),
    "prompt": Mode(
        contracts=(),
        has_tools=False,
        most_messages=2_000,
        most_tokens=None,
        family="prompt",
        is_private=True,
        estimate=60,
        operation="prompt_run",
    ),
    # A session of this mode is opened by the first build of a project. It can be talked to as to
    # the planner, and ends as a plan does.
    "build": Mode(
        contracts=PLANNER,
        has_tools=True,
        most_messages=50,
        most_tokens=100_000,
        family="build",
        expires=True,
        is_locked=True,
    ),
}

EXPIRING: Final = tuple(name for name, mode in MODES.items() if mode.expires)


PRIVATE_ID: Final = "private-"
"""What the id of a private session begins with. So the name of each stream says whether its events
are private, and the database need not look it up."""


def session_id(mode: SessionMode, new_id: str) -> str:
    """The id of a new session of this mode."""
    return f"{PRIVATE_ID}{new_id}" if MODES[mode].is_private else new_id


def estimate(mode: SessionMode, message: ReplyMode | None) -> int:
    """The AI seconds to reserve for a reply in a session of this mode.

    `message` is the client's hint, or what the model has decided.
    """
    return MODES[mode].estimate or ESTIMATES[message or "general"]


def operation(mode: SessionMode, reply: ReplyMode) -> OperationType:
    """What a reply of this mode is billed as, in a session of this mode."""
    return MODES[mode].operation or OPERATIONS[reply]
