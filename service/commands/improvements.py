"""Improvements: the improved prompt in a reply becomes a version of a prompt."""

from functools import partial
from typing import Any

from domain.deciders import prompt, session
from domain.deciders.prompt import Source
from projections.replies import ReplyRow
from service.commands import prompts
from service.commands.projects import require_actor
from service.eventlog.stream_ids import project_stream, prompt_stream, session_stream
from service.eventlog.transactions import Transaction


async def accept(
    transaction: Transaction,
    *,
    reply: ReplyRow,
    user_id: str,
    text: str,
    prompt_id: str | None,
    name: str,
) -> dict[str, Any]:
    """Make the improved prompt in a reply a version of a prompt; without `prompt_id` the first one
    of a new prompt with this name. Returns the prompt's id as `prompt`, the version's `number`, and
    `is_new`.

    A reply that was accepted before stays the version that it became, until that is erased. The
    append has events of both streams, so of requests that race one adds the version.

    Raises NotAMember, ViewerOnly, SessionUnknown, ReplyNotEnded, ImprovementUnknown, PromptUnknown,
    PromptRetired.
    """
    stream = session_stream(reply.session_id, reply.project_id)
    await transaction.recall(project_stream(reply.project_id), stream)
    await require_actor(transaction, reply.project_id, user_id)
    state = await transaction.load(stream)
    session.require_improvement(state, reply.reply_id)
    before = prompt.version_named(state.accepted.get(reply.reply_id, ""))
    if before is not None and await _is_there(transaction, before[0]):
        return {"prompt": before[0], "number": before[1], "is_new": False}
    source = Source(session_id=reply.session_id, message_id=reply.reply_id)
    adding = {"project_id": reply.project_id, "user_id": user_id, "text": text}
    if prompt_id is None:
        number = 1
        prompt_id = await prompts.create(transaction, **adding, name=name, source=source)
    else:
        number = await prompts.add_version(
            transaction, **adding, prompt_id=prompt_id, source=source
        )
    accepting = partial(
        session.accept_improvement,
        reply_id=reply.reply_id,
        user_id=user_id,
        prompt_id=prompt_id,
        prompt_version_id=prompt.version_id(prompt_id, number),
    )
    await transaction.decide(stream, accepting)
    return {"prompt": prompt_id, "number": number, "is_new": True}


async def _is_there(transaction: Transaction, prompt_id: str) -> bool:
    state = await transaction.load(prompt_stream(prompt_id))
    return state.status in ("active", "archived")
