"""A session: one user's conversation about one project. These are the decisions on it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from domain.errors import (
    PlanMissing,
    PlanUnknown,
    ReplyInProgress,
    ReplyNotEnded,
    SessionEnded,
    SessionFull,
    SessionSpent,
    SessionUnknown,
    ShareUnknown,
)
from domain.events import (
    CancelReason,
    ChatMode,
    Context,
    Json,
    PlanSaved,
    PlanShared,
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
    SessionRestored,
    SessionResumed,
    ShareRevoked,
    SystemMessagePosted,
    UserMessagePosted,
)
from domain.session_state import (
    INITIAL,
    PLANS,
    Plan,
    RunningReply,
    Session,
    evolve,
    fold,
    plan_digest,
)

__all__ = ["INITIAL", "PLANS", "Plan", "RunningReply", "Session", "evolve", "fold"]

MAX_MESSAGES: Final = 50
"""The most user messages of a session. A longer history is more than a model reads well."""

MAX_TOKENS: Final = 100_000
"""Tokens of all kinds that the replies of a session may use before it takes no more messages."""

Decided = tuple[SessionEvent, ...]


def open_session(
    state: Session,
    *,
    session_id: str,
    project_id: str,
    user_id: str,
    mode: SessionMode = "plan",
) -> Decided:
    """Open a session. Raises SessionEnded unless the session is new."""
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
    mode: SessionMode = "plan",
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


def known_plan(state: Session, reply_id: str) -> Plan:
    """The plan in a reply. Raises PlanUnknown, ReplyNotEnded."""
    if reply_id in state.running:
        raise ReplyNotEnded
    if reply_id not in state.plans:
        raise PlanUnknown
    return state.plans[reply_id]


def rename(state: Session, *, name: str) -> Decided:
    """Rename the session. The same name again changes nothing."""
    _require_known(state)
    if name == state.name:
        return ()
    return (SessionRenamed(session_id=state.session_id, name=name),)


def change_mode(state: Session, *, mode: SessionMode) -> Decided:
    """Change the mode to planning or building. Raises SessionEnded."""
    _require_active(state)
    if mode == state.mode:
        return ()
    return (SessionModeChanged(session_id=state.session_id, mode=mode),)


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
