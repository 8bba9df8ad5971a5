"""A session: one user's conversation about one project. These are the decisions on it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final, Literal

from domain.deciders.session_state import (
    INITIAL,
    PLANS,
    Details,
    Fork,
    Plan,
    RunningReply,
    Session,
    UsedPrompt,
    evolve,
    fold,
    plan_digest,
)
from domain.errors import (
    ImprovementUnknown,
    ModeFixed,
    PlanMissing,
    PlanUnknown,
    ReplyInProgress,
    ReplyNotEnded,
    SessionChanged,
    SessionEnded,
    SessionFull,
    SessionSpent,
    SessionUnknown,
    ShareUnknown,
    TooManyForks,
)
from domain.events import (
    AssistantMessageAdded,
    CancelReason,
    ChatMode,
    Context,
    ImprovementAccepted,
    Json,
    MaterialAdded,
    MaterialErased,
    PlanSaved,
    PlanShared,
    ReplyCancelRequested,
    ReplyCompleted,
    ReplyFailed,
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
    TimelineMode,
    UserMessagePosted,
)
from domain.modes import MODES, PRIVATE_ID

__all__ = [
    "INITIAL",
    "PLANS",
    "Details",
    "Fork",
    "Plan",
    "RunningReply",
    "Session",
    "UsedPrompt",
    "evolve",
    "fold",
]

Decided = tuple[SessionEvent, ...]

MOST_FORKS: Final = 20
"""Forks of forks: each question in the last fork reads from all forks before it."""
AppendedRole = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The ids of what a session is about."""

    run_id: str | None = None
    step_id: str | None = None
    candidate_id: str | None = None
    prompt_id: str | None = None
    prompt_version_id: str | None = None
    version_id: str | None = None
    build_id: str | None = None


NOTHING: Final = About()


def open_session(
    state: Session,
    *,
    session_id: str,
    project_id: str,
    user_id: str,
    mode: SessionMode = "plan",
    name: str | None = None,
    context: About = NOTHING,
) -> Decided:
    """Open a session, about what the context names. Raises SessionEnded unless it is new.

    `modes.session_id` makes the id: that of a private session is known by its beginning.
    """
    if state.status != "new":
        raise SessionEnded(status=state.status)
    if session_id.startswith(PRIVATE_ID) != MODES[mode].is_private:
        raise ValueError(f"use modes.session_id for a session of mode {mode}")
    opened = SessionOpened(
        session_id=session_id,
        project_id=project_id,
        user_id=user_id,
        mode=mode,
        name=name,
        **asdict(context),
    )
    return (opened,)


def open_fork(
    state: Session,
    *,
    session_id: str,
    user_id: str,
    mode: SessionMode,
    parent: Session,
    message_id: str,
    version: int,
    forks: int = 0,
    context: About = NOTHING,
) -> Decided:
    """Open a fork of another session, which shares what that had said up to a message.

    `version` is the version of the event with the message, in the parent's stream. The parent is
    the last of `forks` forks. A fork of a private session is private. Raises SessionUnknown for a
    parent that is erased, ModeFixed, TooManyForks.
    """
    _require_known(parent)
    if MODES[parent.mode].is_private != MODES[mode].is_private:
        raise ModeFixed(mode=parent.mode)
    if forks >= MOST_FORKS:
        raise TooManyForks(limit=MOST_FORKS)
    (opened,) = open_session(
        state,
        session_id=session_id,
        project_id=parent.project_id,
        user_id=user_id,
        mode=mode,
        context=context,
    )
    assert isinstance(opened, SessionOpened)
    return (
        replace(
            opened,
            forked_from_session_id=parent.session_id,
            forked_from_message_id=message_id,
            forked_from_version=version,
        ),
    )


def says(event: SessionEvent, message_id: str) -> bool:
    """Whether a fork at this message begins after the event: the event has the message, or ends
    the reply with this id."""
    match event:
        case UserMessagePosted() | AssistantMessageAdded() | MaterialAdded():
            return event.message_id == message_id
        case SystemMessagePosted(visible=True):
            return event.message_id == message_id
        case ReplyCompleted() | ReplyFailed():
            return event.reply_id == message_id
        case _:
            return False


def instruct(
    state: Session,
    *,
    instructions: str | None = None,
    model: str | None = None,
    max_tokens: int | None = None,
    settings: Json = None,
    prompt: UsedPrompt | None = None,
) -> Decided:
    """Say how the session's replies are made. Raises SessionUnknown."""
    _require_known(state)
    return (
        SessionInstructed(
            session_id=state.session_id,
            instructions=instructions,
            model=model,
            max_tokens=max_tokens,
            settings=settings,
            prompt_id=None if prompt is None else prompt.prompt_id,
            prompt_version_id=None if prompt is None else prompt.prompt_version_id,
            prompt_number=None if prompt is None else prompt.number,
            answers=None if prompt is None else prompt.answers,
        ),
    )


def give_material(state: Session, *, message_id: str, kind: str, text: str) -> Decided:
    """Add a text for the model, beside the messages. Raises SessionUnknown."""
    _require_known(state)
    return (
        MaterialAdded(session_id=state.session_id, message_id=message_id, kind=kind, text=text),
    )


def erase_material(state: Session, *, message_id: str) -> Decided:
    """Erase a text that the model got. A session that is erased does not change."""
    if state.status in ("new", "deleted"):
        return ()
    return (MaterialErased(session_id=state.session_id, message_id=message_id),)


def append_message(
    state: Session, *, message_id: str, role: AppendedRole, text: str, locale: str
) -> Decided:
    """Append what was said elsewhere. The model is not asked, and nothing is billed.

    Raises SessionUnknown, SessionEnded, SessionFull, SessionSpent, and ReplyInProgress while a
    reply runs, whose place in the talk would change.
    """
    require_capacity(state)
    _require_quiet(state)
    if role == "assistant":
        return (
            AssistantMessageAdded(
                session_id=state.session_id,
                message_id=message_id,
                user_id=state.user_id,
                text=text,
                locale=locale,
            ),
        )
    return (
        UserMessagePosted(
            session_id=state.session_id,
            message_id=message_id,
            user_id=state.user_id,
            text=text,
            locale=locale,
            source="client",
        ),
    )


def post_message(
    state: Session,
    *,
    message_id: str,
    text: str,
    locale: str,
    chat_mode: ChatMode | None,
    context: tuple[Context, ...] = (),
    viewed_version_id: str | None = None,
    viewed_build_id: str | None = None,
) -> Decided:
    """Post a user's message. Raises SessionUnknown, SessionEnded, SessionFull, SessionSpent."""
    require_capacity(state)
    return (
        UserMessagePosted(
            session_id=state.session_id,
            message_id=message_id,
            user_id=state.user_id,
            text=text,
            locale=locale,
            chat_mode=chat_mode,
            context=context,
            viewed_version_id=viewed_version_id,
            viewed_build_id=viewed_build_id,
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
    """Begin a reply to the message `in_reply_to`.

    Raises SessionEnded, and ReplyInProgress while another reply runs, unless `may_wait`: then the
    new reply waits for the other reply's end.
    """
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
    """Begin a running reply again, under the lease of another process.

    A reply that has ended does not change.
    """
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
    """Ask a reply to end, once. A reply that has ended does not change."""
    running = state.running.get(reply_id)
    if running is None or running.cancelled is not None:
        return ()
    return (ReplyCancelRequested(session_id=state.session_id, reply_id=reply_id, reason=reason),)


def complete_reply(state: Session, end: ReplyCompleted) -> Decided:
    """End a reply that has something to show. A reply that has ended stays as it ended.

    The session may have ended before: every reply that began is brought to its end.
    """
    return (end,) if end.reply_id in state.running else ()


def fail_reply(state: Session, end: ReplyFailed) -> Decided:
    """End a reply that has no content. A reply that has ended does not change."""
    return (end,) if end.reply_id in state.running else ()


def post_system_message(
    state: Session,
    *,
    message_id: str,
    type: str = "message",  # noqa: A002 - the contract's word
    template: str,
    variables: Mapping[str, str],
    visible: bool = True,
    mode: TimelineMode = "plan",
    build_id: str | None = None,
) -> Decided:
    """Post a message of the service. The session may have ended before. Raises SessionUnknown."""
    _require_known(state)
    return (
        SystemMessagePosted(
            session_id=state.session_id,
            message_id=message_id,
            type=type,
            template=template,
            variables=variables,
            visible=visible,
            mode=mode,
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
    """Save a plan as a draft, once. The session may have ended before.

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


def share_plan(
    state: Session,
    *,
    reply_id: str,
    share_id: str,
    user_id: str,
    token_digest: str,
    expires_at: datetime,
) -> Decided:
    """Share a plan with everyone who has the share's link, until a time.

    The session may have ended before. Raises PlanUnknown, ReplyNotEnded.
    """
    known_plan(state, reply_id)
    return (
        PlanShared(
            session_id=state.session_id,
            reply_id=reply_id,
            share_id=share_id,
            user_id=user_id,
            token_digest=token_digest,
            expires_at=expires_at.isoformat(),
        ),
    )


def revoke_share(state: Session, *, share_id: str) -> Decided:
    """End a share. Raises ShareUnknown, also where the share was revoked before."""
    if share_id not in state.shares:
        raise ShareUnknown
    return (ShareRevoked(session_id=state.session_id, share_id=share_id),)


def accept_improvement(
    state: Session, *, reply_id: str, user_id: str, prompt_id: str, prompt_version_id: str
) -> Decided:
    """Note which version of a prompt the improved prompt in a reply became.

    The session may have ended before. Raises SessionUnknown, ReplyNotEnded, ImprovementUnknown.
    """
    require_improvement(state, reply_id)
    return (
        ImprovementAccepted(
            session_id=state.session_id,
            reply_id=reply_id,
            user_id=user_id,
            prompt_id=prompt_id,
            prompt_version_id=prompt_version_id,
        ),
    )


def require_improvement(state: Session, reply_id: str) -> None:
    """Require a reply with an improved prompt. Raises SessionUnknown, ReplyNotEnded,
    ImprovementUnknown."""
    _require_known(state)
    if reply_id in state.running:
        raise ReplyNotEnded
    if reply_id not in state.improvements:
        raise ImprovementUnknown


def known_plan(state: Session, reply_id: str) -> Plan:
    """The plan in a reply. Raises PlanUnknown, ReplyNotEnded."""
    if reply_id in state.running:
        raise ReplyNotEnded
    if reply_id not in state.plans:
        raise PlanUnknown
    return state.plans[reply_id]


def change(state: Session, *, details: Details, revisions: Collection[str] | None) -> Decided:
    """Change what the user can change of a session, as one decision. The same details again change
    nothing.

    `revisions` are the details that the caller knows, by their versions; None allows any. Raises
    SessionUnknown, SessionChanged where the details have changed since, ModeFixed for a mode of
    another family.
    """
    _require_known(state)
    if revisions is not None and state.details.revision not in revisions:
        raise SessionChanged(revision=state.details.revision)
    if MODES[details.mode].family != MODES[state.mode].family:
        raise ModeFixed(mode=state.mode)
    return tuple(_changes(state, state.details, details))


def _changes(state: Session, old: Details, new: Details) -> Iterator[SessionEvent]:
    if new.name != old.name:
        yield SessionRenamed(session_id=state.session_id, name=new.name)
    if new.description != old.description:
        yield SessionDescribed(session_id=state.session_id, description=new.description)
    if new.tags != old.tags:
        yield SessionTagged(session_id=state.session_id, tags=new.tags)
    if new.mode != old.mode:
        yield SessionModeChanged(session_id=state.session_id, mode=new.mode)
    if new.is_starred != old.is_starred:
        star = SessionStarred if new.is_starred else SessionUnstarred
        yield star(session_id=state.session_id)
    if new.is_archived != old.is_archived:
        yield from (archive if new.is_archived else restore)(state)


def convert(
    state: Session,
    *,
    build_id: str,
    message_id: str,
    user_id: str,
    plan: Json,
    prompt: str,
    locale: str,
    failed_build_id: str | None = None,
) -> Decided:
    """Turn a plan of the session into a build: the build message of the user `user_id`, and the
    session's end.

    The session may have expired. It may have been converted, if its build `failed_build_id` failed.
    Raises SessionEnded, ReplyInProgress, PlanMissing.
    """
    require_plan(state, failed_build_id=failed_build_id)
    return (
        UserMessagePosted(
            session_id=state.session_id,
            message_id=message_id,
            user_id=user_id,
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
            plan_digest=plan_digest(plan),
        ),
    )


def require_plan(state: Session, *, failed_build_id: str | None = None) -> None:
    """Raises SessionEnded, ReplyInProgress, PlanMissing unless the session has a plan to build.

    `failed_build_id` is the id of the session's last build, if that build failed.
    """
    _require_known(state)
    is_free = state.status == "converted" and state.converted_to == failed_build_id
    if state.status not in ("active", "expired") and not is_free:
        raise SessionEnded(status=state.status)
    _require_quiet(state)
    if not state.plans:
        raise PlanMissing


def converted_before(state: Session, plan: Json) -> str | None:
    """The id of the last build of the session, if this plan became that build; else None."""
    return state.converted_to if state.plan_digest == plan_digest(plan) else None


def archive(state: Session) -> Decided:
    """Archive the session. An archived session does not change."""
    _require_known(state)
    if state.status == "archived":
        return ()
    return (SessionArchived(session_id=state.session_id),)


def restore(state: Session) -> Decided:
    """End the archiving of the session. A session that is not archived does not change."""
    _require_known(state)
    if state.status != "archived":
        return ()
    return (SessionRestored(session_id=state.session_id),)


def expire(state: Session) -> Decided:
    """End an idle session. A session that has ended, or has a running reply, does not change."""
    if state.status != "active" or state.running:
        return ()
    return (SessionExpired(session_id=state.session_id),)


def resume(state: Session) -> Decided:
    """Let an expired session take messages again. Another session does not change."""
    if state.status != "expired":
        return ()
    return (SessionResumed(session_id=state.session_id),)


def delete(state: Session) -> Decided:
    """Erase the session's texts. Raises SessionUnknown, and ReplyInProgress while a reply runs, as
    its text would be stored after the erasure."""
    _require_known(state)
    _require_quiet(state)
    return (SessionDeleted(session_id=state.session_id),)


def require_capacity(state: Session) -> None:
    """Raises SessionEnded, SessionFull, SessionSpent unless one more message may be posted."""
    _require_active(state)
    mode = MODES[state.mode]
    if state.message_count >= mode.most_messages:
        raise SessionFull(limit=mode.most_messages)
    if mode.most_tokens is not None and state.tokens_used >= mode.most_tokens:
        raise SessionSpent(limit=mode.most_tokens)


def takes_messages(state: Session) -> bool:
    """Whether one more message may be posted. An expired session is resumed by it."""
    try:
        require_capacity(fold(resume(state), state))
    except (SessionUnknown, SessionEnded, SessionFull, SessionSpent):
        return False
    return True


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
