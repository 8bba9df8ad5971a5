"""Sessions: plans that are kept or shared, and sessions that are archived or end."""

from datetime import datetime
from functools import partial

from domain import session
from projections.replies import ReplyRow
from service.commands.projects import require_actor
from service.eventlog.stream_ids import project_stream, session_stream
from service.eventlog.transactions import Transaction


async def save_plan(transaction: Transaction, *, reply: ReplyRow, user_id: str | None) -> None:
    """Keep the plan of a reply as a draft of the user; without one, of the session's user.

    Raises PlanUnknown, NotAMember, ViewerOnly.
    """
    stream = session_stream(reply.session_id, reply.project_id)
    await transaction.recall(stream, project_stream(reply.project_id))
    if user_id is not None:
        await require_actor(transaction, reply.project_id, user_id)
    state = await transaction.load(stream)
    decision = partial(session.save_plan, reply_id=reply.reply_id, user_id=user_id or state.user_id)
    await transaction.decide(stream, decision)


async def share_plan(
    transaction: Transaction,
    *,
    reply: ReplyRow,
    share_id: str,
    user_id: str,
    token_digest: str,
    expires_at: datetime,
) -> dict[str, str]:
    """Share the plan of a reply; returns what the answer is made from, without the token.

    Raises PlanUnknown, NotAMember, ViewerOnly.
    """
    await require_actor(transaction, reply.project_id, user_id)
    decision = partial(
        session.share_plan,
        reply_id=reply.reply_id,
        share_id=share_id,
        user_id=user_id,
        token_digest=token_digest,
        expires_at=expires_at,
    )
    await transaction.decide(session_stream(reply.session_id, reply.project_id), decision)
    return {"share": share_id, "digest": token_digest, "expires_at": expires_at.isoformat()}


async def revoke_share(
    transaction: Transaction,
    *,
    project_id: str,
    session_id: str,
    share_id: str,
    user_id: str | None,
) -> None:
    """End a share, for a user or for the tenant. Raises ShareUnknown, NotAMember, ViewerOnly."""
    if user_id is not None:
        await require_actor(transaction, project_id, user_id)
    decision = partial(session.revoke_share, share_id=share_id)
    await transaction.decide(session_stream(session_id, project_id), decision)


async def archive(transaction: Transaction, *, project_id: str, session_id: str) -> None:
    """Archive a session: it takes no more messages. Raises SessionUnknown."""
    await transaction.decide(session_stream(session_id, project_id), session.archive)


async def restore(transaction: Transaction, *, project_id: str, session_id: str) -> None:
    """End the archiving of a session. Raises SessionUnknown."""
    await transaction.decide(session_stream(session_id, project_id), session.restore)


async def expire(transaction: Transaction, *, project_id: str, session_id: str) -> None:
    """End an idle session, unless a reply of it is being written."""
    await transaction.decide(session_stream(session_id, project_id), session.expire)
