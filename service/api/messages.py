"""The messages of a session: page by page, live, and one more of them."""

from types import NoneType
from typing import Any

from starlette.responses import Response

from domain.errors import ReplyUnknown, SessionUnknown
from projections import sessions, timeline
from projections.timeline import TIMELINE, Shown
from service.api import messages_schemas, replies_schemas
from service.api.chat import reply_to
from service.api.timeline import begin_of_stream, live, within_bytes
from service.chat.admission import AppendedMessage, Message
from service.eventlog.errors import answering
from service.eventlog.store import cursor_at
from service.eventlog.transactions import Transaction
from service.http.call import AnyCall, Call
from service.http.operation import Operation, Success, answered
from service.http.rate_limit_headers import rate_limit
from service.http.reads import (
    in_language,
    position_in,
    reading_at,
    shown_parts,
    visible_session,
)
from service.http.sse_response import SEND_SECONDS, EventStream
from service.ops.metrics import RESUMES
from service.replies import envelope
from service.replies.events import REPLY_EVENTS
from service.timelines import items
from service.timelines.feed import Session


async def read_messages(call: Call[None, messages_schemas.MessagesQuery]) -> Response:
    """A page, oldest first. A fork has the messages that it shares with the session it left."""
    asked, session_id = call.query, call.path["sessionId"]
    before, after = position_in(call, asked.before), position_in(call, asked.after)
    async with reading_at(call, TIMELINE.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        row = await visible_session(connection, call, session_id, asked.user_id)
        page = await timeline.messages(
            connection,
            tenant_id=call.tenant_id,
            parts=await shown_parts(connection, call, row),
            limit=asked.limit,
            before=before,
            after=after,
        )
    page = within_bytes(page, is_after=after is not None)
    locale = call.locale(asked.locale)
    answer = messages_schemas.messages(page, locale)
    return answered(answer, position=position, headers=in_language(locale))


async def stream_session(call: Call[None, messages_schemas.SessionStreamQuery]) -> Response:
    """Messages as they come, each with the cursor of the message before it.

    They begin after the cursor that is given, else after where the read model stands now.
    """
    asked, session_id = call.query, call.path["sessionId"]
    after = position_in(call, call.last_event_id or asked.after)
    if call.last_event_id:
        RESUMES.labels("session").inc()
    async with reading_at(call, TIMELINE.name, asked.min_position) as (connection, position):
        row = await visible_session(connection, call, session_id, asked.user_id)
        parts = await shown_parts(connection, call, row)
        after = position if after is None else after
        begun = cursor_at(after)
        await begun.send(connection)
        begin = min(after, position)
        before = await timeline.messages(
            connection, tenant_id=call.tenant_id, parts=parts, limit=1, before=begin + 1
        )
        headers = begin_of_stream(await begun.row(), position)
    prev, locale = before.rows[0].cursor if before.rows else None, call.locale(asked.locale)
    subject = Session(call.tenant_id, row.project_id, parts)
    feed = call.service.feeds.follow(subject, begin, Shown(with_live=True), asked.user_id)
    sources = [live(feed, after, prev, locale, is_of_session=True)]
    if asked.replies:
        key = (call.tenant_id, row.project_id, session_id)
        sources.append(call.service.project_replies.follow(key))
    frames = call.service.merged_streams.merge(*sources)
    headers |= in_language(locale)
    permit = call.permit(row.project_id, asked.user_id)
    return EventStream(frames, headers, grace_seconds=SEND_SECONDS, permit=permit)


async def post_message(
    call: Call[messages_schemas.MessageRequest, replies_schemas.ViewQuery],
) -> Response:
    """Say something in the session: with a reply, or appended without asking the model."""
    asked, session_id = call.body, call.path["sessionId"]
    project_id = await _project_of_own(call, session_id, asked.user_id)
    if project_id is None:
        return await _as_before(call)
    call.entry.project_id = project_id
    message = Message(
        tenant_id=call.tenant_id,
        user_id=asked.user_id,
        project_id=project_id,
        text=asked.message,
        locale=asked.locale,
        chat_mode=asked.chat_mode,
        session_id=session_id,
        context=() if asked.context is None else asked.context.names,
        version_id=asked.version_id,
        build_id=asked.build_id,
        may_wait=asked.on_busy == "enqueue",
    )
    if asked.reply:
        return await reply_to(call, message, asked.on_busy, call.query.view)
    said = await call.service.admission.append(message, asked.role, call.cause(asked.user_id))
    return _appended(call, said)


async def _project_of_own(call: AnyCall, session_id: str, user_id: str) -> str | None:
    """The project of a session of this user; None where there is no such session for the caller."""
    async with call.reading() as connection:
        row = await sessions.session(connection, tenant_id=call.tenant_id, session_id=session_id)
    if row is None or row.user_id != user_id:
        return None
    return row.project_id if call.caller.project_id in (None, row.project_id) else None


async def _as_before(call: Call[messages_schemas.MessageRequest, Any]) -> Response:
    """The answer that the same request got before its session was erased. Raises SessionUnknown
    for any other request, and ReplyUnknown where the answer was a reply."""
    before, position = await call.transact(_refuse, user_id=call.body.user_id)
    if "message" not in before:
        with answering(position):
            raise ReplyUnknown
    said = AppendedMessage(
        session_id=before["session"], message_id=before["message"], position=position
    )
    return _appended(call, said)


async def _refuse(_: Transaction) -> dict[str, Any]:
    raise SessionUnknown


def _appended(call: Call[messages_schemas.MessageRequest, Any], said: AppendedMessage) -> Response:
    answer = messages_schemas.appended(said, call.body.role)
    headers = rate_limit(said.limits)
    return answered(answer, position=said.position, status=201, headers=headers)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/sessions/{sessionId}/messages",
        name="getSessionMessages",
        browsers=True,
        summary="What was said in a session, oldest first: the newest page, or next to a cursor.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=messages_schemas.MessagesQuery,
        answer=messages_schemas.SessionMessages,
        reads=(TIMELINE,),
        problems=(404, 409, 422),
        handle=read_messages,
    ),
    Operation(
        method="POST",
        path="/v1/sessions/{sessionId}/messages",
        name="postSessionMessage",
        browsers=True,
        summary="Say something in a session, with a reply or appended without asking the model.",
        scopes=("chat",),
        body=messages_schemas.MessageRequest,
        query=replies_schemas.ViewQuery,
        answer=envelope.ChatPlanResponse,
        others={
            201: Success("The message was appended.", messages_schemas.Appended),
            204: Success("The message was sent before, and Last-Event-ID is its final event."),
        },
        problems=(400, 402, 403, 404, 409, 413, 415, 422, 429),
        streams=True,
        begins_reply=True,
        handle=post_message,
    ),
    Operation(
        method="GET",
        path="/v1/sessions/{sessionId}/stream",
        name="streamSession",
        browsers=True,
        summary="The messages of a session as they come, resumable without gap or repeat.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=messages_schemas.SessionStreamQuery,
        streams=True,
        events={"item": items.LiveItem, "erased": items.Erased, **REPLY_EVENTS},
        reads=(TIMELINE,),
        problems=(404, 409, 422),
        handle=stream_session,
    ),
)
