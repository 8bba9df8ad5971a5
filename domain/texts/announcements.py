"""What the service says by itself in a conversation, and which event makes it speak.

The message is stored in the append of its event, so it is said once, and never without the event.
It counts as no message of the session and costs nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from domain.deciders import session
from domain.deciders.session_state import Session
from domain.events import (
    BuildFailed,
    BuildQueued,
    BuildSucceeded,
    Event,
    Json,
    ReplyCompleted,
    SessionConverted,
    SessionEvent,
    SessionOpened,
    TimelineMode,
    VersionDeployed,
)
from domain.modes import MODES, PLANNER

PLAN_GREETING: Final = "plan_greeting"
BUILD_GREETING: Final = "initial_build_greeting"
BUILD_QUEUED: Final = "build_queued"
BUILD_SUCCEEDED: Final = "build_succeeded"
BUILD_FAILED: Final = "build_failed"
BUILD_TIMED_OUT: Final = "build_timed_out"
VERSION_DEPLOYED: Final = "version_deployed"
SESSION_CONVERTED: Final = "session_converted"
PLAN_CLARIFICATION: Final = "plan_clarification"
PLAN_SUGGESTION: Final = "plan_suggestion"

LONGEST: Final = 500
"""The most characters of a question or a suggestion that is taken out of a reply."""

CUT_OFF: Final = frozenset(("time_limit", "balance"))
"""Why a reply was cut off, where the user has to know. A reply that failed says its reason itself,
and a user who cancelled a reply knows why."""

UNLESS: Final[Mapping[str, frozenset[str]]] = {
    BUILD_QUEUED: frozenset((BUILD_GREETING, SESSION_CONVERTED)),
    BUILD_SUCCEEDED: frozenset((VERSION_DEPLOYED,)),
}
"""A template that is not said beside others, which say the same and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A template with its variables. In mode `plan` it stands in the conversation about the plan,
    in mode `build` with the build."""

    template: str
    variables: Mapping[str, str]
    type: str = "message"
    mode: TimelineMode = "plan"
    build_id: str | None = None


def announced(
    state: Session,
    events: Iterable[Event],
    *,
    new_id: Callable[[], str],
    facts: Mapping[str, str] | None = None,
) -> session.Decided:
    """The messages about events of one append, for their session; none for an erased session.

    `facts` are the variables that no event has: `project_name`, `business_idea_summary` for the
    first build of a project, and `minutes` of a build that timed out.
    """
    if state.status in ("new", "deleted"):
        return ()
    plans = MODES[state.mode].contracts == PLANNER
    found = [
        said
        for each in events
        if (said := _announcement(each, facts or {}, plans=plans)) is not None
    ]
    templates = {said.template for said in found}
    decided: list[SessionEvent] = []
    for said in found:
        if not templates & UNLESS.get(said.template, frozenset()):
            decided += session.post_system_message(state, message_id=new_id(), **asdict(said))
    return tuple(decided)


def _announcement(event: Event, facts: Mapping[str, str], *, plans: bool) -> Announcement | None:
    """What is said about an event; `plans` says that the planner answers in the session."""
    match event:
        case SessionOpened(mode="plan"):
            return Announcement(
                template=PLAN_GREETING, variables=_of(facts, "project_name"), type="greeting"
            )
        case ReplyCompleted(subtype="partial", reason=str(reason)) if reason in CUT_OFF:
            return Announcement(template=f"reply_{reason}", variables={})
        case ReplyCompleted(subtype="success") if plans:
            return _of_reply(event)
        case SessionConverted():
            variables = {"build_id": event.build_id}
            return Announcement(
                template=SESSION_CONVERTED, variables=variables, build_id=event.build_id
            )
        case BuildQueued() | BuildSucceeded() | VersionDeployed() | BuildFailed():
            return _of_build(event, facts)
        case _:
            return None


def _of_build(
    event: BuildQueued | BuildSucceeded | VersionDeployed | BuildFailed, facts: Mapping[str, str]
) -> Announcement | None:
    build_id, type_ = event.build_id, "message"
    match event:
        case BuildQueued() if "business_idea_summary" in facts:
            template, variables = BUILD_GREETING, _of(facts, "business_idea_summary")
            type_ = "greeting"
        case BuildQueued():
            template, variables = BUILD_QUEUED, {"build_id": build_id}
        case BuildSucceeded():
            template, variables = BUILD_SUCCEEDED, {"version_id": event.version_id}
        case VersionDeployed(preview_url=str(preview_url)):
            template = VERSION_DEPLOYED
            variables = {"version_id": event.version_id, "preview_url": preview_url}
        case BuildFailed(code="failed"):
            template, variables = BUILD_FAILED, {"error": event.error}
        case BuildFailed(code="timed_out"):
            template, variables = BUILD_TIMED_OUT, _of(facts, "minutes")
        case _:
            return None
    return Announcement(
        template=template, variables=variables, type=type_, mode="build", build_id=build_id
    )


def _of_reply(event: ReplyCompleted) -> Announcement | None:
    """The question with which a reply ends, or the first thing that an analysis recommends."""
    data: Mapping[str, Any] = event.data or {}
    if event.mode == "general" and (question := _question_at_end(data.get("markdown", ""))):
        return Announcement(template=PLAN_CLARIFICATION, variables={"question": question})
    if event.mode == "analysis" and (suggestion := _recommended(data.get("findings", ()))):
        return Announcement(template=PLAN_SUGGESTION, variables={"suggestion": suggestion})
    return None


_SENTENCE_ENDS: Final = re.compile(r"(?<=[.!?؟…:])\s+")
_MARKUP: Final = "*_#>-` "
"""What Markdown puts around a sentence."""


def _question_at_end(markdown: str) -> str:
    """The last sentence of a text if it is a question, else an empty text."""
    last = markdown.rstrip(f"{_MARKUP}\n").rpartition("\n")[2]
    sentence = _SENTENCE_ENDS.split(last)[-1].strip(_MARKUP)
    return sentence if sentence.endswith(("?", "؟")) and len(sentence) <= LONGEST else ""


def _recommended(findings: Sequence[Json]) -> str:
    """The first recommendation of an analysis, else an empty text."""
    for finding in findings:
        for text in finding.get("recommendations", ()):
            return text if len(text) <= LONGEST else ""
    return ""


def _of(facts: Mapping[str, str], name: str) -> dict[str, str]:
    return {name: facts[name]}
