"""The state of a session, and how each event changes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from json import dumps
from typing import Any, Final, Literal, assert_never

from domain.events import (
    AssistantMessageAdded,
    CancelReason,
    ImprovementAccepted,
    Json,
    MaterialAdded,
    MaterialErased,
    PlanSaved,
    PlanShared,
    ReplyCancelRequested,
    ReplyCompleted,
    ReplyFailed,
    ReplyMode,
    ReplyStarted,
    SessionArchived,
    SessionConverted,
    SessionDeleted,
    SessionDescribed,
    SessionEvent,
    SessionExpired,
    SessionInstructed,
    SessionMode,
    SessionModeChanged,
    SessionOpened,
    SessionRenamed,
    SessionRestored,
    SessionResumed,
    SessionStarred,
    SessionTagged,
    SessionUnstarred,
    ShareRevoked,
    SystemMessagePosted,
    UserMessagePosted,
)

PLANS: Final[frozenset[ReplyMode]] = frozenset({"feature", "fix"})
"""The modes whose replies are plans, which can be built."""

Status = Literal["new", "active", "converted", "archived", "expired", "deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReply:
    """A reply in progress: its lease, how often it was started, and why it was cancelled, if so."""

    in_reply_to: str
    reservation_id: str
    model: str
    lease_id: int
    starts: int = 1
    cancelled: CancelReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan that can be built, with its short title."""

    mode: ReplyMode
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a user can change about a session. `name` is empty until a user gives one."""

    name: str = ""
    description: str = ""
    mode: SessionMode = "plan"
    is_starred: bool = False
    tags: tuple[str, ...] = ()
    is_archived: bool = False

    @property
    def revision(self) -> str:
        """A name for these values: the same for the same values."""
        values = [self.name, self.description, self.mode]
        values += [str(self.is_starred), str(self.is_archived), *self.tags]
        return sha256(dumps(values).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Where a fork left another session: after the event with this version of that stream."""

    session_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedPrompt:
    """The version of a prompt that a session is made of, and the values of its placeholders.

    A fork has no values of its own: it has its instructions from the session that it left.
    """

    prompt_id: str
    prompt_version_id: str
    number: int
    answers: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What decisions need to know.

    `fork` is set for a fork. `instructions`, `model` and `max_tokens` are None where the
    mode and the service decide. `settings` are further settings of the client, None without any.
    `prompt` is set for a session that is made of a prompt.

    `running` are the replies that have not ended by id, oldest first. `plans` are the plans by the
    ids of their replies, `plan` is the data of the newest plan, and `saved` are the ids of the
    drafts. `builds` are the ids of the builds that the session asked for. `converted_to` is the id
    of the last build that a plan became, and `plan_digest` is that plan's digest. `shares` maps the
    ids of the shares that were not revoked to the replies with their plans. `improvements` are the
    ids of the replies with an improved prompt, and `accepted` maps the ids of the accepted replies
    to the ids of the versions that they became.
    """

    session_id: str = ""
    project_id: str = ""
    user_id: str = ""
    status: Status = "new"
    details: Details = Details()
    fork: Fork | None = None
    instructions: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    settings: Json = None
    prompt: UsedPrompt | None = None
    message_count: int = 0
    tokens_used: int = 0
    running: Mapping[str, RunningReply] = field(default_factory=dict[str, RunningReply])
    plans: Mapping[str, Plan] = field(default_factory=dict[str, Plan])
    plan: Json = None
    saved: frozenset[str] = frozenset()
    builds: tuple[str, ...] = ()
    converted_to: str | None = None
    plan_digest: str | None = None
    shares: Mapping[str, str] = field(default_factory=dict[str, str])
    improvements: frozenset[str] = frozenset()
    accepted: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def mode(self) -> SessionMode:
        """What the session is for."""
        return self.details.mode


INITIAL: Final = Session()


def evolve(state: Session, event: SessionEvent) -> Session:
    """The session after one more event."""
    match event:
        case UserMessagePosted():
            builds = () if event.build_id is None else (event.build_id,)
            return replace(
                state, message_count=state.message_count + 1, builds=state.builds + builds
            )
        case ReplyStarted():
            return _with_running(state, event.reply_id, _started(state, event))
        case ReplyCancelRequested():
            return _cancelled(state, event)
        case ReplyCompleted():
            return _completed(_ended(state, event), event)
        case ReplyFailed():
            return _ended(state, event)
        case SystemMessagePosted() | MaterialAdded() | MaterialErased():
            return state
        case AssistantMessageAdded():
            return replace(state, message_count=state.message_count + 1)
        case PlanSaved():
            return replace(state, saved=state.saved | {event.reply_id})
        case PlanShared():
            return replace(state, shares={**state.shares, event.share_id: event.reply_id})
        case ImprovementAccepted():
            accepted = {**state.accepted, event.reply_id: event.prompt_version_id}
            return replace(state, accepted=accepted)
        case ShareRevoked():
            rest = {key: reply for key, reply in state.shares.items() if key != event.share_id}
            return replace(state, shares=rest)
        case SessionOpened():
            return _opened(event)
        case SessionRenamed():
            return _with_details(state, name=event.name)
        case SessionDescribed():
            return _with_details(state, description=event.description)
        case SessionTagged():
            return _with_details(state, tags=event.tags)
        case SessionStarred():
            return _with_details(state, is_starred=True)
        case SessionUnstarred():
            return _with_details(state, is_starred=False)
        case SessionModeChanged():
            return _with_details(state, mode=event.mode)
        case SessionInstructed():
            return replace(
                state,
                instructions=event.instructions,
                model=event.model,
                max_tokens=event.max_tokens,
                settings=event.settings,
                prompt=_used_prompt(event),
            )
        case SessionConverted():
            return replace(
                state,
                status="converted",
                converted_to=event.build_id,
                plan_digest=event.plan_digest,
            )
        case SessionArchived():
            return _with_details(replace(state, status="archived"), is_archived=True)
        case SessionRestored():
            status: Status = "active" if state.converted_to is None else "converted"
            return _with_details(replace(state, status=status), is_archived=False)
        case SessionExpired():
            return replace(state, status="expired")
        case SessionResumed():
            return replace(state, status="active")
        case SessionDeleted():
            return _deleted(state)
        case _:
            assert_never(event)


def fold(events: Iterable[SessionEvent], state: Session = INITIAL) -> Session:
    """The session after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


def _opened(event: SessionOpened) -> Session:
    fork = None
    if event.forked_from_session_id is not None and event.forked_from_version is not None:
        fork = Fork(session_id=event.forked_from_session_id, version=event.forked_from_version)
    return Session(
        session_id=event.session_id,
        project_id=event.project_id,
        user_id=event.user_id,
        status="active",
        details=Details(name=event.name or "", mode=event.mode),
        fork=fork,
    )


def _used_prompt(event: SessionInstructed) -> UsedPrompt | None:
    if event.prompt_id is None or event.prompt_version_id is None or event.prompt_number is None:
        return None
    return UsedPrompt(
        prompt_id=event.prompt_id,
        prompt_version_id=event.prompt_version_id,
        number=event.prompt_number,
        answers=event.answers,
    )


def _with_details(state: Session, **changes: Any) -> Session:
    return replace(state, details=replace(state.details, **changes))


def _started(state: Session, event: ReplyStarted) -> RunningReply:
    former = state.running.get(event.reply_id)
    if former is not None:
        return replace(former, lease_id=event.lease_id, starts=former.starts + 1)
    return RunningReply(
        in_reply_to=event.in_reply_to,
        reservation_id=event.reservation_id,
        model=event.model,
        lease_id=event.lease_id,
    )


def _cancelled(state: Session, event: ReplyCancelRequested) -> Session:
    running = state.running.get(event.reply_id)
    if running is None:
        return state
    return _with_running(state, event.reply_id, replace(running, cancelled=event.reason))


def _ended(state: Session, event: ReplyCompleted | ReplyFailed) -> Session:
    rest = {key: run for key, run in state.running.items() if key != event.reply_id}
    return replace(state, running=rest, tokens_used=state.tokens_used + (event.tokens_used or 0))


def _completed(state: Session, event: ReplyCompleted) -> Session:
    if event.subtype == "success" and event.mode == "improvement" and event.data is not None:
        return replace(state, improvements=state.improvements | {event.reply_id})
    if event.subtype != "success" or event.mode not in PLANS or event.data is None:
        return state
    said = event.data["summary"] if event.mode == "feature" else event.data["issue"]["description"]
    plan = Plan(mode=event.mode, title=str(said))
    return replace(state, plan=event.data, plans={**state.plans, event.reply_id: plan})


def _deleted(state: Session) -> Session:
    """The session after its erasure: its ids alone."""
    return Session(
        session_id=state.session_id,
        project_id=state.project_id,
        user_id=state.user_id,
        status="deleted",
    )


def _with_running(state: Session, reply_id: str, running: RunningReply) -> Session:
    return replace(state, running={**state.running, reply_id: running})


def plan_digest(plan: Json) -> str:
    """A name for a plan, in hexadecimal digits: the same for the same values in any order."""
    return sha256(dumps(plan, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
