"""Sessions: plans that are kept as drafts, and the end of idle sessions."""

from functools import partial

from domain import project, session
from projections.replies import ReplyRow
from service.eventlog.stream_ids import project_stream, session_stream
from service.eventlog.transactions import Transaction


async def save_plan(transaction: Transaction, *, reply: ReplyRow, user_id: str | None) -> None:
    """Keep the plan of a reply as a draft of the user; without one, of the session's user.

    Raises PlanUnknown, NotAMember, ViewerOnly.
    """
    stream = session_stream(reply.session_id, reply.project_id)
    await transaction.recall(stream, project_stream(reply.project_id))
    if user_id is not None:
        members = await transaction.load(project_stream(reply.project_id))
        project.require_actor(members, user_id)
    state = await transaction.load(stream)
    decision = partial(session.save_plan, reply_id=reply.reply_id, user_id=user_id or state.user_id)
    await transaction.decide(stream, decision)


async def expire(transaction: Transaction, *, project_id: str, session_id: str) -> None:
    """End an idle session, unless a reply of it is being written."""
    await transaction.decide(session_stream(session_id, project_id), session.expire)
