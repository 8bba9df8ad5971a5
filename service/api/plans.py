"""Drafts, which are plans that are kept; replies and sessions as documents."""

from functools import partial
from types import NoneType
from typing import Final

from pydantic import BaseModel
from starlette.responses import Response

from domain import markdown, session
from domain.errors import PlanUnknown, ReplyNotEnded, SessionUnknown
from domain.events import (
    ReplyCompleted,
    SessionEvent,
    SystemMessagePosted,
    UserMessagePosted,
)
from projections import drafts, sessions
from projections.drafts import DRAFTS
from service.api import plans_schemas, schemas
from service.api.replies import visible_reply
from service.commands.sessions import save_plan as save
from service.eventlog.errors import answering
from service.eventlog.store import END, Recorded
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import decode
from service.http.call import AnyCall, Call
from service.http.operation import Operation, answered
from service.http.reads import (
    in_language,
    position_in,
    reading_at,
    visible_project,
    visible_session,
)
from service.texts.templates import render

AUTHOR: Final = "Throughline"

Said = tuple[Recorded, SessionEvent]
"""An event with its place in the log, and the event itself."""


async def save_plan(call: Call[None, schemas.ActingQuery]) -> Response:
    """Keep a plan as a draft; a second time changes nothing."""
    asked = call.query
    row = await visible_reply(call, asked.user_id)
    work = partial(save, reply=row, user_id=asked.user_id)
    _, position = await call.transact(work, user_id=asked.user_id)
    with answering(position):
        async with reading_at(call, DRAFTS.name, position) as (connection, _):
            kept = await drafts.of_reply(
                connection, tenant_id=call.tenant_id, reply_id=row.reply_id
            )
            convertible = await sessions.convertible(
                connection, tenant_id=call.tenant_id, session_ids=[row.session_id]
            )
    if kept is None:
        raise PlanUnknown
    return answered(plans_schemas.draft(kept, convertible), position=position)


async def list_drafts(call: Call[None, schemas.PageQuery]) -> Response:
    """The plans of a project that were kept, newest first."""
    asked = call.query
    before = position_in(asked.before, call.service.log_epoch)
    async with reading_at(call, DRAFTS.name, asked.min_position) as (connection, position):
        await visible_project(connection, call, call.path["projectId"], asked.user_id)
        rows = await drafts.page(
            connection,
            tenant_id=call.tenant_id,
            project_id=call.path["projectId"],
            before=END if before is None else before,
            limit=asked.limit,
        )
        convertible = await sessions.convertible(
            connection, tenant_id=call.tenant_id, session_ids={row.session_id for row in rows}
        )
    answer = plans_schemas.drafts(rows, convertible, call.service.log_epoch)
    return answered(answer, position=position)


async def export_reply(call: Call[None, plans_schemas.ExportQuery]) -> Response:
    """A reply as a document."""
    asked = call.query
    row = await visible_reply(call, asked.user_id)
    if row.ended_position is None:
        raise ReplyNotEnded
    for recorded, event in await _said(call, row.session_id):
        if isinstance(event, ReplyCompleted) and event.reply_id == row.reply_id:
            name = f"plan-{row.reply_id}"
            if asked.format == "json":
                return _json(name, _reply(recorded, event), recorded.position)
            text = markdown.reply(event.mode, event.data, asked.locale)
            return _markdown(name, text, asked.locale)
    raise PlanUnknown


async def export_session(call: Call[None, plans_schemas.ExportQuery]) -> Response:
    """A session as a document: everything that was said, in order."""
    asked, session_id = call.query, call.path["sessionId"]
    async with call.reading() as connection:
        row = await visible_session(connection, call, session_id, asked.user_id)
        known = await visible_project(connection, call, row.project_id, asked.user_id)
    said = await _said(call, session_id)
    state = session.fold(event for _, event in said)
    if state.status == "deleted":  # it was erased since
        raise SessionUnknown
    name = f"session-{state.session_id}"
    if asked.format == "json":
        items = [item for each in said if (item := _item(*each)) is not None]
        return _json(
            name,
            plans_schemas.SessionExport(
                session_id=state.session_id,
                project_id=state.project_id,
                user_id=state.user_id,
                name=state.details.name,
                items=items,
            ),
            said[-1][0].position,
        )
    entries = [entry for each in said if (entry := _entry(*each, asked.locale)) is not None]
    text = markdown.conversation(state.details.name or known.name, entries, asked.locale)
    return _markdown(name, text, asked.locale)


async def _said(call: AnyCall, session_id: str) -> list[Said]:
    found = await call.service.store.stream(call.tenant_id, str(session_stream(session_id)))
    return [(each, decode(each.type, each.state)) for each in found]


def _item(
    recorded: Recorded, event: SessionEvent
) -> plans_schemas.SaidMessage | plans_schemas.ReplyExport | None:
    """One item of the JSON export; None for an event that nobody sees."""
    match event:
        case UserMessagePosted():
            return plans_schemas.SaidMessage(
                kind="user_message",
                message_id=event.message_id,
                timestamp=recorded.recorded_at,
                user_id=event.user_id,
                text=event.text,
            )
        case SystemMessagePosted() if event.visible:
            return plans_schemas.SaidMessage(
                kind="system_message",
                message_id=event.message_id,
                timestamp=recorded.recorded_at,
                template=event.template,
                variables=dict(event.variables),
            )
        case ReplyCompleted():
            return _reply(recorded, event)
        case _:
            return None


def _reply(recorded: Recorded, event: ReplyCompleted) -> plans_schemas.ReplyExport:
    return plans_schemas.ReplyExport(
        message_id=event.reply_id,
        timestamp=recorded.recorded_at,
        subtype=event.subtype,
        mode=event.mode,
        data=event.data,
    )


def _entry(recorded: Recorded, event: SessionEvent, locale: str) -> markdown.Entry | None:
    """One Markdown entry of the export; None for an event that nobody sees."""
    match event:
        case UserMessagePosted():
            who, text = event.user_id, event.text
        case SystemMessagePosted() if event.visible:
            who, text = AUTHOR, render(event.template, event.variables, locale)
        case ReplyCompleted():
            who, text = AUTHOR, markdown.reply(event.mode, event.data, locale)
        case _:
            return None
    return markdown.Entry(who=who, at=recorded.recorded_at, text=text)


def _markdown(name: str, text: str, locale: str) -> Response:
    """A document whose headings are in the locale's language, or in English: the header says it."""
    headers = in_language(locale)
    return _file(Response(text, media_type="text/markdown", headers=headers), f"{name}.md")


def _json(name: str, content: BaseModel, position: int) -> Response:
    return _file(answered(content, position=position), f"{name}.json")


def _file(response: Response, name: str) -> Response:
    """The response as a file with this name, which browsers save and do not open."""
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/chat-plan/replies/{messageId}/save",
        name="savePlan",
        browsers=True,
        summary="Keep a plan as a draft. Again, it stays as it is.",
        scopes=("chat",),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=plans_schemas.Draft,
        problems=(404, 409, 422),
        handle=save_plan,
    ),
    Operation(
        method="GET",
        path="/v1/projects/{projectId}/drafts",
        name="listDrafts",
        browsers=True,
        summary="The plans of a project that were kept, newest first.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=schemas.PageQuery,
        answer=plans_schemas.Drafts,
        problems=(404, 409, 422),
        handle=list_drafts,
    ),
    Operation(
        method="GET",
        path="/v1/chat-plan/replies/{messageId}/export",
        name="exportReply",
        browsers=True,
        summary="A reply as a document, in Markdown or JSON.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=plans_schemas.ExportQuery,
        answer=plans_schemas.ReplyExport,
        document="text/markdown",
        problems=(404, 409, 422),
        handle=export_reply,
    ),
    Operation(
        method="GET",
        path="/v1/chat-plan/session/{sessionId}/export",
        name="exportSession",
        browsers=True,
        summary="Everything that was said in a session, in Markdown or JSON.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=plans_schemas.ExportQuery,
        answer=plans_schemas.SessionExport,
        document="text/markdown",
        problems=(404, 409, 422),
        handle=export_session,
    ),
)
