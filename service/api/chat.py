"""Plan chat: a message in, a reply out, streamed or whole."""

import orjson
from starlette.responses import Response

from service.api import chat_schemas, replies_schemas
from service.api.replies import stream_after
from service.chat.admission import Message
from service.chat.turns import OnBusy
from service.eventlog.errors import ReplyContinues
from service.http.call import AnyCall, Call
from service.http.operation import Operation, Success
from service.http.rate_limit_headers import rate_limit
from service.replies import envelope
from service.replies.text_view import View
from service.wire import LOG_POSITION


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
    if on_busy == "interrupt":  # such a message may wait for the end of another reply
        call.service.overload.admitted(call.request_id)
    admitted, tail = await call.service.turns.start(message, on_busy, call.cause(message.user_id))
    call.service.overload.admitted(call.request_id)
    call.entry.session_id, call.entry.reply_id = admitted.session_id, admitted.reply_id
    headers = {
        "Location": f"/v1/chat-plan/replies/{admitted.reply_id}",
        LOG_POSITION: str(admitted.position),
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
        others={204: Success("The message was sent before, and Last-Event-ID is its final event.")},
        problems=(400, 402, 404, 409, 413, 415, 422, 429),
        streams=True,
        begins_reply=True,
        handle=post_message,
    ),
)
