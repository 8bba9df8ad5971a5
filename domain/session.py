"""A session: one user's conversation about one project, from opening to its end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from json import dumps
from typing import Final, Literal, assert_never

from domain.errors import (
    PlanMissing,
    PlanUnknown,
    ReplyInProgress,
    ReplyNotEnded,
    SessionEnded,
    SessionFull,
    SessionSpent,
    SessionUnknown,
)
from domain.events import (
    CancelReason,
    ChatMode,
    Context,
    Json,
    PlanSaved,
    ReplyCancelRequested,
    ReplyCompleted,
    ReplyFailed,
    ReplyStarted,
    SessionArchived,
    SessionConverted,
    SessionDeleted,
    SessionEvent,
    SessionExpired,
    SessionMode,
    SessionModeChanged,
    SessionOpened,
    SessionRenamed,
    SystemMessagePosted,
    UserMessagePosted,
)

MAX_MESSAGES: Final = 50
"""User messages in one session: past this its history no longer fits what a model reads well."""

MAX_TOKENS: Final = 100_000
"""Tokens of all kinds that the replies of one session use, before another one has to begin."""

PLANS: Final[frozenset[ChatMode]] = frozenset({"feature", "fix"})
"""The modes whose replies are plans: something that can be built."""

Status = Literal["new", "active", "converted", "archived", "expired", "deleted"]
Decided = tuple[SessionEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReply:
    """A reply that has not ended: who writes it, for the how-manieth time, and whether to stop."""

    in_reply_to: str
    reservation_id: str
    model: str
    lease_id: int
    starts: int = 1
    cancelled: CancelReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A reply that can be built, in a word: its `title` says what it is about."""

    mode: ChatMode
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What decisions need to know. `running` are the replies that have not ended, oldest first.
    `builds` are those that were asked for in it.

    `plans` are the whole plans, by the ids of their replies, `plan` is what the last one says, and
    `saved` are those that were kept as drafts. `converted_to` is the build that a plan became,
    `plan_digest` names that plan.
    """

    session_id: str = ""
    project_id: str = ""
    user_id: str = ""
    status: Status = "new"
    name: str = ""
    mode: SessionMode = "plan"
    message_count: int = 0
    tokens_used: int = 0
    running: Mapping[str, RunningReply] = field(default_factory=dict[str, RunningReply])
    plans: Mapping[str, Plan] = field(default_factory=dict[str, Plan])
    plan: Json = None
    saved: frozenset[str] = frozenset()
    builds: tuple[str, ...] = ()
    converted_to: str | None = None
    plan_digest: str | None = None


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
        case SystemMessagePosted():
            return state
        case PlanSaved():
            return replace(state, saved=state.saved | {event.reply_id})
        case SessionOpened():
            return Session(
                session_id=event.session_id,
                project_id=event.project_id,
                user_id=event.user_id,
                mode=event.mode,
                status="active",
            )
        case SessionRenamed():
            return replace(state, name=event.name)
        case SessionModeChanged():
            return replace(state, mode=event.mode)
        case SessionConverted():
            return replace(
                state,
                status="converted",
                converted_to=event.build_id,
                plan_digest=event.plan_digest,
            )
        case SessionArchived():
            return replace(state, status="archived")
        case SessionExpired():
            return replace(state, status="expired")
        case SessionDeleted():
            return _deleted(state)
        case _:
            assert_never(event)


def fold(events: Iterable[SessionEvent], state: Session = INITIAL) -> Session:
    """The session after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


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
    if event.subtype != "success" or event.mode not in PLANS or event.data is None:
        return state
    said = event.data["summary"] if event.mode == "feature" else event.data["issue"]["description"]
    plan = Plan(mode=event.mode, title=str(said))
    return replace(state, plan=event.data, plans={**state.plans, event.reply_id: plan})


def _deleted(state: Session) -> Session:
    """What is left: whose it was."""
    return Session(
        session_id=state.session_id,
        project_id=state.project_id,
        user_id=state.user_id,
        status="deleted",
    )


def _with_running(state: Session, reply_id: str, running: RunningReply) -> Session:
    return replace(state, running={**state.running, reply_id: running})


def open_session(
    state: Session,
    *,
    session_id: str,
    project_id: str,
    user_id: str,
    mode: SessionMode = "plan",
) -> Decided:
    """Begin a session."""
    if state.status != "new":
        raise SessionEnded(status=state.status)
    return (
        SessionOpened(session_id=session_id, project_id=project_id, user_id=user_id, mode=mode),
    )


def post_message(
    state: Session,
    *,
    message_id: str,
    text: str,
    locale: str,
    chat_mode: ChatMode | None,
    context: tuple[Context, ...] = (),
) -> Decided:
    """Take a user's message. Raises SessionEnded, SessionFull, SessionSpent."""
    require_room(state)
    return (
        UserMessagePosted(
            session_id=state.session_id,
            message_id=message_id,
            user_id=state.user_id,
            text=text,
            locale=locale,
            chat_mode=chat_mode,
            context=context,
        ),
    )


def start_reply(
    state: Session,
    *,
    reply_id: str,
    in_reply_to: str,
    model: str,
    reservation_id: str,
    lease_id: int,
    may_wait: bool = False,
) -> Decided:
    """Begin a reply to the message `in_reply_to`. Raises ReplyInProgress while another one runs,
    unless it may wait for that one's end."""
    _require_active(state)
    if not may_wait:
        _require_quiet(state)
    return (
        ReplyStarted(
            session_id=state.session_id,
            reply_id=reply_id,
            in_reply_to=in_reply_to,
            model=model,
            reservation_id=reservation_id,
            lease_id=lease_id,
        ),
    )


def claim_reply(state: Session, *, reply_id: str, lease_id: int) -> Decided:
    """Begin a reply once more, in another process's hands. One that has ended stays as it ended."""
    running = state.running.get(reply_id)
    if running is None:
        return ()
    return (
        ReplyStarted(
            session_id=state.session_id,
            reply_id=reply_id,
            in_reply_to=running.in_reply_to,
            model=running.model,
            reservation_id=running.reservation_id,
            lease_id=lease_id,
        ),
    )


def cancel_reply(state: Session, *, reply_id: str, reason: CancelReason) -> Decided:
    """Ask a reply to end. One that was asked before, or has ended, is left alone."""
    running = state.running.get(reply_id)
    if running is None or running.cancelled is not None:
        return ()
    return (ReplyCancelRequested(session_id=state.session_id, reply_id=reply_id, reason=reason),)


def complete_reply(state: Session, end: ReplyCompleted) -> Decided:
    """End a reply that has something to show. A reply that has ended stays as it ended.

    The session's own end does not matter here: what was begun is always brought to its end.
    """
    return (end,) if end.reply_id in state.running else ()


def fail_reply(state: Session, end: ReplyFailed) -> Decided:
    """End a reply that has nothing to show. A reply that has ended stays as it ended."""
    return (end,) if end.reply_id in state.running else ()


def post_system_message(
    state: Session,
    *,
    message_id: str,
    type: str = "message",  # noqa: A002 - the contract's word
    template: str,
    variables: dict[str, str],
    visible: bool = True,
    build_id: str | None = None,
) -> Decided:
    """Say something in the service's own name; with a build, in mode `build`."""
    _require_active(state)
    return (
        SystemMessagePosted(
            session_id=state.session_id,
            message_id=message_id,
            type=type,
            template=template,
            variables=variables,
            visible=visible,
            mode="plan" if build_id is None else "build",
            build_id=build_id,
        ),
    )


def request_build(
    state: Session, *, build_id: str, message_id: str, text: str, locale: str
) -> Decided:
    """Ask for the first build of a project, from an idea. Raises SessionEnded."""
    _require_active(state)
    return (
        UserMessagePosted(
            session_id=state.session_id,
            message_id=message_id,
            user_id=state.user_id,
            text=text,
            locale=locale,
            chat_mode="initial",
            mode="build",
            build_id=build_id,
        ),
    )


def save_plan(state: Session, *, reply_id: str, user_id: str) -> Decided:
    """Keep a plan as a draft. One that was kept stays so; the session's end does not matter.

    Raises PlanUnknown, ReplyNotEnded.
    """
    plan = known_plan(state, reply_id)
    if reply_id in state.saved:
        return ()
    return (
        PlanSaved(
            session_id=state.session_id,
            reply_id=reply_id,
            user_id=user_id,
            mode=plan.mode,
            title=plan.title,
        ),
    )


def known_plan(state: Session, reply_id: str) -> Plan:
    """The plan in a reply. Raises PlanUnknown, ReplyNotEnded."""
    if reply_id in state.running:
        raise ReplyNotEnded
    if reply_id not in state.plans:
        raise PlanUnknown
    return state.plans[reply_id]


def rename(state: Session, *, name: str) -> Decided:
    """Give the session a name. The same name again changes nothing."""
    _require_known(state)
    if name == state.name:
        return ()
    return (SessionRenamed(session_id=state.session_id, name=name),)


def change_mode(state: Session, *, mode: SessionMode) -> Decided:
    """Turn from planning to building, or back."""
    _require_active(state)
    if mode == state.mode:
        return ()
    return (SessionModeChanged(session_id=state.session_id, mode=mode),)


def convert(
    state: Session, *, build_id: str, message_id: str, plan: Json, prompt: str, locale: str
) -> Decided:
    """Turn a plan of the session into a build: the user's build message, and the session's end.

    Raises SessionEnded, ReplyInProgress, PlanMissing.
    """
    require_plan(state)
    return (
        UserMessagePosted(
            session_id=state.session_id,
            message_id=message_id,
            user_id=state.user_id,
            text=prompt,
            locale=locale,
            chat_mode="build",
            mode="build",
            build_id=build_id,
            converted_from_session_id=state.session_id,
        ),
        SessionConverted(
            session_id=state.session_id,
            build_id=build_id,
            prompt=prompt,
            plan_digest=digest(plan),
        ),
    )


def require_plan(state: Session) -> None:
    """Raises SessionEnded, ReplyInProgress, PlanMissing unless there is a plan to be built."""
    _require_active(state)
    _require_quiet(state)
    if not state.plans:
        raise PlanMissing


def converted_before(state: Session, plan: Json) -> str | None:
    """The build that this very plan of the session became, if it did."""
    return state.converted_to if state.plan_digest == digest(plan) else None


def digest(plan: Json) -> str:
    """A name for a plan: the same for the same values, however they are ordered."""
    return sha256(dumps(plan, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def archive(state: Session) -> Decided:
    """Put the session away. An archived one stays so."""
    _require_known(state)
    if state.status == "archived":
        return ()
    return (SessionArchived(session_id=state.session_id),)


def expire(state: Session) -> Decided:
    """End an idle session; one that has ended, or is being replied to, is left alone."""
    if state.status != "active" or state.running:
        return ()
    return (SessionExpired(session_id=state.session_id),)


def delete(state: Session) -> Decided:
    """Erase what was said in the session. Raises SessionUnknown, and ReplyInProgress: a reply would
    still be written after it."""
    _require_known(state)
    _require_quiet(state)
    return (SessionDeleted(session_id=state.session_id),)


def require_room(state: Session) -> None:
    """Raises SessionEnded, SessionFull, SessionSpent unless one more message may be posted."""
    _require_active(state)
    if state.message_count >= MAX_MESSAGES:
        raise SessionFull(limit=MAX_MESSAGES)
    if state.tokens_used >= MAX_TOKENS:
        raise SessionSpent(limit=MAX_TOKENS)


def _require_known(state: Session) -> None:
    if state.status in ("new", "deleted"):
        raise SessionUnknown


def _require_quiet(state: Session) -> None:
    if state.running:
        raise ReplyInProgress(message_id=next(iter(state.running)))


def _require_active(state: Session) -> None:
    _require_known(state)
    if state.status != "active":
        raise SessionEnded(status=state.status)
