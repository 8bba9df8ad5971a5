"""A reply by its id, on any server: join its stream, read its state, cancel it."""

from types import NoneType
from typing import Any

from starlette.responses import Response

from domain.errors import ReplyNotEnded, ReplyUnknown
from projections.replies import REPLIES, ReplyRef, ReplyRow
from service.access.stream_access import Permit
from service.api import replies_schemas, schemas
from service.eventlog.errors import ReplyStillEnding, answering
from service.eventlog.stream_ids import session_stream
from service.http.call import AnyCall, Call
from service.http.operation import Operation, Success, answered
from service.http.problems import BadRequest
from service.http.reads import is_private_to_another, reading_at, visible_project
from service.http.sse_response import EventStream
from service.ops.metrics import RESUMES
from service.replies.tail import ReplyTail
from service.replies.text_view import View


async def join(call: Call[None, replies_schemas.JoinQuery]) -> Response:
    """The reply's events after the last one that the client has seen, to the end."""
    asked = call.query
    row = await visible_reply(call, asked.user_id, asked.min_position)
    tail = await _found(call, row)
    permit = call.permit(tail.ref.project_id, asked.user_id)
    return await stream_after(call, tail, call.last_event_id or asked.after, asked.view, {}, permit)


async def stream_after(
    call: AnyCall,
    tail: ReplyTail,
    event_id: str | None,
    view: View,
    headers: dict[str, str],
    permit: Permit | None,
) -> Response:
    """The reply's events after the one with this id; 204 after the final one. Raises BadRequest."""
    after = _frame_in(event_id, tail.ref)
    if after:
        RESUMES.labels("reply").inc()
    if after > tail.upto and tail.end is None:
        await call.service.directory.poll(tail)
    if tail.end is not None and after == tail.end.frames + 1:
        return Response(status_code=204, headers=headers)
    if after > tail.upto:
        raise BadRequest(422, "bad_cursor", "The reply has not come to this event.")
    grace_seconds = call.service.reply_grace_seconds
    events = call.service.directory.watch(tail.ref, after, view)
    return EventStream(events, headers, grace_seconds=grace_seconds, permit=permit)


async def read(call: Call[None, schemas.ActingQuery]) -> Response:
    """The reply so far, or its final envelope."""
    asked = call.query
    row = await visible_reply(call, asked.user_id, asked.min_position)
    tail = await _found(call, row)
    return await _state(call, tail)


async def cancel(call: Call[None, schemas.ActingQuery]) -> Response:
    """End the reply with what it has shown; a reply that has ended stays as it is."""
    asked = call.query
    row = await visible_reply(call, asked.user_id)
    tail = await call.service.turns.cancel(
        row, "cancelled", call.cause(asked.user_id), user_id=asked.user_id
    )
    if tail is None:
        raise ReplyStillEnding
    with answering(call.service.live_log.head):
        return await _state(call, tail)


async def visible_reply(
    call: AnyCall, user_id: str | None, at_least: int | None = None
) -> ReplyRow:
    """The reply of the path, if its project and its session may be seen.

    Raises ReplyUnknown, ProjectUnknown.
    """
    row = await call.service.turns.find(call.tenant_id, call.path["messageId"])
    if row is None or is_private_to_another(row.private_to, user_id):
        raise ReplyUnknown
    async with reading_at(call, REPLIES.name, at_least) as (connection, _):
        await visible_project(connection, call, row.project_id, user_id)
        call.streams.add(str(session_stream(row.session_id)))
    return row


async def ended(call: AnyCall, row: ReplyRow) -> dict[str, Any]:
    """The final envelope of a reply. Raises ReplyNotEnded."""
    tail = await _found(call, row)
    if tail.end is None:
        raise ReplyNotEnded
    return tail.end.envelope


async def _found(call: AnyCall, row: ReplyRow) -> ReplyTail:
    return await call.service.directory.find(row.ref, has_ended=row.ended_position is not None)


async def _state(call: AnyCall, tail: ReplyTail) -> Response:
    ref = tail.ref
    shown, through = await tail.shown()
    state = replies_schemas.ReplyState(
        message_id=ref.reply_id,
        session_id=ref.session_id,
        project_id=ref.project_id,
        status="running" if tail.end is None else "ended",
        through=tail.upto if tail.end else through,
        mode=shown.mode,
        data=shown.data,
        final=tail.end.envelope if tail.end else None,
    )
    return answered(state, position=call.service.live_log.head)


def _frame_in(event_id: str | None, ref: ReplyRef) -> int:
    """The number of an event of this reply; 0 for none. Raises BadRequest for any other id."""
    if not event_id:
        return 0
    reply_id, _, n = event_id.rpartition(".")
    if reply_id not in ("", ref.reply_id) or not n.isascii() or not n.isdigit():
        raise BadRequest(422, "bad_cursor", "Use the id of an event of this reply.")
    return min(int(n[:12]), 2**31 - 1)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/chat-plan/replies/{messageId}/stream",
        name="joinReply",
        browsers=True,
        summary="A reply's events from Last-Event-ID on, while it is written or after.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=replies_schemas.JoinQuery,
        others={204: Success("The final event was seen already.")},
        reads=(REPLIES,),
        problems=(404, 409, 422),
        streams=True,
        handle=join,
    ),
    Operation(
        method="GET",
        path="/v1/chat-plan/replies/{messageId}",
        name="getReply",
        browsers=True,
        summary="What a reply has come to: so far, or its final envelope.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=replies_schemas.ReplyState,
        reads=(REPLIES,),
        problems=(404, 409, 422),
        handle=read,
    ),
    Operation(
        method="POST",
        path="/v1/chat-plan/replies/{messageId}/cancel",
        name="cancelReply",
        browsers=True,
        summary="End a reply: what was shown is kept and billed. Again, or later, it is harmless.",
        scopes=("chat",),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=replies_schemas.ReplyState,
        reads=(REPLIES,),
        problems=(404, 422),
        handle=cancel,
    ),
)
