"""Plan chat: a message in, a reply out, streamed or whole; and the session with its bill."""

from collections.abc import Awaitable
from functools import partial
from types import NoneType
from typing import Protocol

import orjson
from starlette.responses import Response

from domain.errors import SessionUnknown
from projections import sessions
from projections.sessions import SESSIONS, SessionRow
from service.api import chat_schemas, replies_schemas, schemas
from service.api.replies import stream_after
from service.chat.admission import Message
from service.chat.turns import OnBusy
from service.commands.sessions import archive, restore
from service.eventlog.errors import ReplyContinues, answering
from service.eventlog.transactions import Transaction
from service.http.call import AnyCall, Call
from service.http.operation import Operation, answered
from service.http.rate_limit_headers import rate_limit
from service.http.reads import reading_at, visible_project, visible_session
from service.replies import envelope
from service.replies.text_view import View


async def post_message(
    call: Call[chat_schemas.ChatPlanRequest, replies_schemas.ViewQuery],
) -> Response:
    """Admit the message, then stream its reply or answer the whole reply."""
    asked = call.body
    message = Message(
        tenant_id=call.tenant_id,
        user_id=asked.user_id,
        project_id=asked.project_id,
        text=asked.message,
        locale=asked.locale,
        chat_mode=asked.chat_mode,
        session_id=asked.session_id,
        context=() if asked.context is None else asked.context.names,
        version_id=asked.version_id,
        build_id=asked.build_id,
        may_wait=asked.on_busy == "enqueue",
    )
    return await reply_to(call, message, asked.on_busy, call.query.view)


async def reply_to(call: AnyCall, message: Message, on_busy: OnBusy, view: View) -> Response:
    """Admit a message, then stream its reply or answer the whole reply, as the client accepts."""
    admitted, tail = await call.service.turns.start(message, on_busy, call.cause(message.user_id))
    call.service.overload.admitted(call.request_id)
    call.entry.session_id, call.entry.reply_id = admitted.session_id, admitted.reply_id
    headers = {
        "Location": f"/v1/chat-plan/replies/{admitted.reply_id}",
        "X-Log-Position": str(admitted.position),
        **rate_limit(admitted.limits),
    }
    if call.wants_stream:
        member_at = None if admitted.is_again else admitted.position
        permit = call.permit(message.project_id, message.user_id, member_at)
        # A message that is sent again goes on where its reader was; a new one has no earlier event.
        event_id = call.last_event_id if admitted.is_again else None
        return await stream_after(call, tail, event_id, view, headers, permit)
    end = await tail.wait()
    if end is None:
        raise ReplyContinues(headers=headers)
    return Response(orjson.dumps(end.envelope), headers=headers, media_type="application/json")


async def read_session(call: Call[None, schemas.ActingQuery]) -> Response:
    """A session with its bill, for the members of its project."""
    acting = call.query
    async with reading_at(call, SESSIONS.name, acting.min_position) as (connection, position):
        row = await visible_session(connection, call, call.path["sessionId"], acting.user_id)
    return answered(chat_schemas.session(row), position=position)


class _Change(Protocol):
    """A command on one session."""

    def __call__(
        self, transaction: Transaction, *, project_id: str, session_id: str
    ) -> Awaitable[None]: ...


async def archive_session(call: Call[None, schemas.ActingQuery]) -> Response:
    """Archive a session: its user may, and the tenant's own service."""
    return await _changed(call, archive)


async def restore_session(call: Call[None, schemas.ActingQuery]) -> Response:
    """End the archiving of a session: its user may, and the tenant's own service."""
    return await _changed(call, restore)


async def _changed(call: Call[None, schemas.ActingQuery], change: _Change) -> Response:
    """Change a session of the acting user, and answer it as it is then."""
    row = await _own_session(call)
    if row is None:
        raise SessionUnknown
    session_id = row.session_id
    work = partial(change, project_id=row.project_id, session_id=session_id)
    _, position = await call.transact(work, user_id=call.query.user_id)
    with answering(position):
        async with reading_at(call, SESSIONS.name, position) as (connection, _):
            row = await sessions.session(
                connection, tenant_id=call.tenant_id, session_id=session_id
            )
    if row is None:  # it was erased since
        raise SessionUnknown
    return answered(chat_schemas.session(row), position=position)


async def _own_session(call: Call[None, schemas.ActingQuery]) -> SessionRow | None:
    """The session of the path, where the acting user or the tenant's own service may change it.

    Raises ProjectUnknown.
    """
    acting = call.query
    if acting.user_id is None:
        call.caller.require("admin")
    async with call.reading() as connection:
        row = await sessions.session(
            connection, tenant_id=call.tenant_id, session_id=call.path["sessionId"]
        )
        if row is None or acting.user_id not in (None, row.user_id):
            return None
        await visible_project(connection, call, row.project_id, acting.user_id)
    return row


async def _refuse(_: Transaction) -> None:
    raise SessionUnknown


async def delete_session(call: Call[None, schemas.ActingQuery]) -> Response:
    """Erase a session: its user may, and the tenant's own service."""
    row = await _own_session(call)
    if row is None:
        # The same request, sent again, gets the answer that it got before.
        _, position = await call.transact(_refuse)
    else:
        position = await call.service.erasure.session(
            call.tenant_id, row.project_id, row.session_id, call.cause(call.query.user_id)
        )
    answer = chat_schemas.SessionErased(session_id=call.path["sessionId"])
    return answered(answer, position=position)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/chat-plan",
        name="postChatPlan",
        browsers=True,
        summary="Plan with the model: JSON, or server-sent events with Accept: text/event-stream.",
        scopes=("chat",),
        body=chat_schemas.ChatPlanRequest,
        query=replies_schemas.ViewQuery,
        answer=envelope.ChatPlanResponse,
        no_content="The message was sent before, and Last-Event-ID is its final event.",
        problems=(400, 402, 404, 409, 413, 415, 422, 429),
        streams=True,
        begins_reply=True,
        handle=post_message,
    ),
    Operation(
        method="GET",
        path="/v1/chat-plan/session/{sessionId}",
        name="getSession",
        browsers=True,
        summary="A session with its billing aggregates.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=chat_schemas.SessionAnswer,
        problems=(404, 409, 422),
        handle=read_session,
    ),
    Operation(
        method="DELETE",
        path="/v1/chat-plan/session/{sessionId}",
        name="deleteSession",
        browsers=True,
        summary="Erase a session and all that was said in it. What was billed stays.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=chat_schemas.SessionErased,
        problems=(404, 409, 413, 422),
        handle=delete_session,
    ),
    Operation(
        method="POST",
        path="/v1/chat-plan/session/{sessionId}/archive",
        name="archiveSession",
        browsers=True,
        summary="Archive a session: it takes no more messages. Again, it stays archived.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=chat_schemas.SessionAnswer,
        problems=(404, 409, 413, 422),
        handle=archive_session,
    ),
    Operation(
        method="POST",
        path="/v1/chat-plan/session/{sessionId}/restore",
        name="restoreSession",
        browsers=True,
        summary="Make an archived session active again. Any other session stays as it is.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=chat_schemas.SessionAnswer,
        problems=(404, 409, 413, 422),
        handle=restore_session,
    ),
)
