"""Replies and sessions as documents: Markdown, text, JSON, or a line of JSON an item."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final

import orjson
from starlette.responses import Response

from domain.errors import PlanUnknown, Refused, ReplyNotEnded
from domain.events import ReplyCompleted
from domain.texts import markdown, plain_text
from domain.texts.markdown_titles import titles_of
from projections import timeline
from projections.projection import reached_with_gaps
from projections.replies import REPLIES
from projections.sessions import SESSIONS, Part, SessionRow
from projections.timeline import TIMELINE, TimelineRow
from service.api import exports_schemas
from service.api.replies import visible_reply
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import decode
from service.http.call import AnyCall, Call
from service.http.operation import Operation, answered
from service.http.reads import (
    in_language,
    note_incomplete,
    reading_at,
    shown_parts,
    visible_project,
    visible_session,
)
from service.http.sse_response import LineStream
from service.texts.templates import render
from service.wire import LOG_POSITION, dumped

PAGE: Final = 50
"""Items that are read at a time. An export of a long session never holds more of them."""

_ROLES: Final[dict[str, exports_schemas.Role]] = {
    "user_message": "user",
    "reply": "assistant",
    "assistant_message": "assistant",
    "system_message": "service",
    "material": "material",
}
_FILES: Final[dict[exports_schemas.Format, tuple[str, str]]] = {
    "markdown": ("md", "text/markdown"),
    "text": ("txt", "text/plain"),
    "json": ("json", "application/json"),
    "ndjson": ("ndjson", "application/x-ndjson"),
}
_DOCUMENTS: Final = tuple(kind for _, kind in _FILES.values() if kind != "application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exported:
    """A session that is exported as it is at a position: its row, and the parts that it shows."""

    row: SessionRow
    title: str
    parts: tuple[Part, ...]
    position: int


async def export_reply(call: Call[None, exports_schemas.PlanExportQuery]) -> Response:
    """A reply as a document."""
    asked = call.query
    row = await visible_reply(call, asked.user_id, asked.min_position)
    if row.ended_position is None:
        raise ReplyNotEnded
    stream_id = str(session_stream(row.session_id))
    found = await call.service.store.of_types(call.tenant_id, stream_id, [ReplyCompleted.__name__])
    for recorded in found:
        event: ReplyCompleted = decode(recorded.type, recorded.state)
        if event.reply_id == row.reply_id:
            name = f"plan-{row.reply_id}"
            if asked.format == "json":
                answer = exports_schemas.ReplyExport(
                    message_id=event.reply_id,
                    timestamp=recorded.recorded_at,
                    subtype=event.subtype,
                    mode=event.mode,
                    data=event.data,
                )
                headers = _file(f"{name}.json")
                return answered(answer, position=recorded.position, headers=headers)
            text = markdown.reply(event.mode, event.data, asked.locale)
            headers = {**_file(f"{name}.md"), **in_language(asked.locale)}
            return Response(text, media_type="text/markdown", headers=headers)
    raise PlanUnknown


async def export_plan_session(call: Call[None, exports_schemas.PlanExportQuery]) -> Response:
    """A session as a document, at the path of plan chat."""
    return await _export(call, call.query)


async def export_session(call: Call[None, exports_schemas.ExportQuery]) -> Response:
    """A session as a document: everything that was said, in order."""
    return await _export(call, call.query)


async def _export(
    call: AnyCall, asked: exports_schemas.PlanExportQuery | exports_schemas.ExportQuery
) -> Response:
    session_id = call.path["sessionId"]
    exported = await _exported(call, session_id, asked.user_id, asked.min_position)
    form, locale = asked.format, asked.locale
    ending, media_type = _FILES[form]
    headers = {
        LOG_POSITION: str(exported.position),
        **_file(f"session-{exported.row.session_id}.{ending}"),
        **(in_language(locale) if form in ("markdown", "text") else {}),
    }
    return LineStream(_document(call, exported, form, locale), headers, media_type)


async def export_sessions(call: Call[exports_schemas.ExportRequest, None]) -> Response:
    """Several sessions, line by line, as they are read."""
    if call.body.user_id is None and "admin" not in call.caller.scopes:
        call.caller.require("read")
    await _note_incomplete(call)
    headers = {LOG_POSITION: str(call.service.live_log.head), **_file("sessions.ndjson")}
    return LineStream(_lines(call), headers)


async def _note_incomplete(call: Call[exports_schemas.ExportRequest, None]) -> None:
    """Note what the lines will lack, before the headers are sent and the sessions are read."""
    async with call.reading() as connection:
        _, have_gaps = await reached_with_gaps(connection, TIMELINE.name)
        if not have_gaps & call.reads:
            return
        for session_id in call.body.session_ids:
            with suppress(Refused):
                row = await visible_session(connection, call, session_id, call.body.user_id)
                await shown_parts(connection, call, row)
        if call.streams:
            await note_incomplete(connection, call)


async def _lines(
    call: Call[exports_schemas.ExportRequest, None],
) -> AsyncGenerator[bytes]:
    """The lines of each session, or one line with a code where there is none for the caller."""
    asked = call.body
    for session_id in asked.session_ids:
        named = orjson.dumps({"exportedId": session_id})[:-1]
        try:
            exported = await _exported(call, session_id, asked.user_id, None)
        except Refused as refused:
            yield named + b',"code":"%s"}\n' % refused.code.encode()
            continue
        async with aclosing(_document(call, exported, asked.format, asked.locale)) as pieces:
            if asked.format == "ndjson":
                async for line in pieces:
                    yield _joined(named, line)
                continue
            if asked.format == "json":
                whole = named
                async for piece in pieces:
                    yield _joined(whole, piece) if whole else piece
                    whole = b""
                yield b"\n"
                continue
            yield _joined(named, orjson.dumps(_described(exported)))[:-1] + b',"document":"'
            async for piece in pieces:
                yield orjson.dumps(piece.decode())[1:-1]
            yield b'"}\n'


def _joined(named: bytes, item: bytes) -> bytes:
    """One JSON object of two: the first without its end, the other with its beginning."""
    return named + b"," + item[1:]


async def _exported(
    call: AnyCall, session_id: str, user_id: str | None, at_least: int | None
) -> _Exported:
    """The session, for the callers that may see it. Raises SessionUnknown, ProjectUnknown."""
    async with reading_at(call, TIMELINE.name, at_least) as (connection, position):
        row = await visible_session(connection, call, session_id, user_id)
        known = await visible_project(connection, call, row.project_id, user_id)
        parts = await shown_parts(connection, call, row)
    return _Exported(row=row, title=row.name or known.name, parts=parts, position=position)


async def _items(call: AnyCall, exported: _Exported) -> AsyncGenerator[TimelineRow]:
    """What was said up to the position of the export, in order, read page by page."""
    after, has_more = 0, True
    while has_more:
        async with call.reading() as connection:
            page = await timeline.messages(
                connection,
                tenant_id=call.tenant_id,
                parts=exported.parts,
                limit=PAGE,
                after=after,
            )
        for row in reversed(page.rows):
            after = row.position
            if after > exported.position:
                return
            if row.kind in _ROLES and row.subtype != "error":
                yield row
        has_more = page.has_more


async def _document(
    call: AnyCall, exported: _Exported, form: exports_schemas.Format, locale: str
) -> AsyncGenerator[bytes]:
    """The pieces of the document. Of JSON by lines each piece is a line."""
    async with aclosing(_items(call, exported)) as rows:
        pieces = _json(exported, rows, by_lines=form == "ndjson")
        if form in ("markdown", "text"):
            pieces = _text(exported, rows, locale, is_markdown=form == "markdown")
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece


async def _json(
    exported: _Exported, rows: AsyncIterator[TimelineRow], *, by_lines: bool
) -> AsyncGenerator[bytes]:
    if by_lines:
        async for row in rows:
            yield orjson.dumps(dumped(_item(row))) + b"\n"
        return
    yield orjson.dumps(_described(exported))[:-1] + b',"items":['
    between = b""
    async for row in rows:
        yield between + orjson.dumps(dumped(_item(row)))
        between = b","
    yield b"]}"


async def _text(
    exported: _Exported, rows: AsyncIterator[TimelineRow], locale: str, *, is_markdown: bool
) -> AsyncGenerator[bytes]:
    form = markdown if is_markdown else plain_text
    yield form.heading(exported.title).encode()
    async for row in rows:
        yield form.said(_entry(row, locale), locale).encode()


def _described(exported: _Exported) -> dict[str, Any]:
    row = exported.row
    return dumped(
        exports_schemas.ExportedSession(
            session_id=row.session_id,
            project_id=row.project_id,
            user_id=row.user_id,
            name=row.name,
        )
    )


def _item(row: TimelineRow) -> exports_schemas.ExportedItem:
    said: dict[str, Any] = {"text": row.text}
    if row.kind == "reply":
        said = {"subtype": row.subtype, "mode": row.chat_mode, "data": row.data}
    elif row.kind == "system_message":
        said = {"template": row.data["template"], "variables": row.data["variables"]}
    return exports_schemas.ExportedItem.model_validate(
        {
            "session_id": row.session_id,
            "kind": row.kind,
            "role": _ROLES[row.kind],
            "message_id": row.item_id,
            "timestamp": row.recorded_at,
            "user_id": row.user_id,
            "in_reply_to": row.in_reply_to,
            "locale": row.locale,
            "source": row.source,
            **said,
        }
    )


def _entry(row: TimelineRow, locale: str) -> markdown.Entry:
    """An item as an entry: its author is a role in the reader's language, and a user's id."""
    titles = titles_of(locale)
    who, text = titles[_ROLES[row.kind].capitalize()], row.text or ""
    if row.kind == "reply":
        mode: Any = row.chat_mode
        text = markdown.reply(mode, row.data, locale)
    elif row.kind == "system_message":
        text = render(row.data["template"], row.data["variables"], locale)
    name = row.data["kind"] if row.kind == "material" else row.user_id
    if name is not None:
        who = f"{who}{titles.colon} {titles.apart(name)}"
    return markdown.Entry(who=who, at=row.recorded_at, text=text)


def _file(name: str) -> dict[str, str]:
    """The headers of a file with this name, which browsers save and do not open."""
    return {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/chat-plan/replies/{messageId}/export",
        name="exportReply",
        browsers=True,
        summary="A reply as a document, in Markdown or JSON.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=exports_schemas.PlanExportQuery,
        answer=exports_schemas.ReplyExport,
        documents=("text/markdown",),
        reads=(REPLIES,),
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
        query=exports_schemas.PlanExportQuery,
        answer=exports_schemas.SessionExport,
        documents=("text/markdown",),
        reads=(TIMELINE, SESSIONS),
        problems=(404, 409, 422),
        handle=export_plan_session,
    ),
    Operation(
        method="GET",
        path="/v1/sessions/{sessionId}/export",
        name="exportSessionAs",
        browsers=True,
        summary="Everything that was said in a session, in Markdown, text, JSON or lines of JSON.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=exports_schemas.ExportQuery,
        answer=exports_schemas.SessionExport,
        documents=_DOCUMENTS,
        reads=(TIMELINE, SESSIONS),
        problems=(404, 409, 422),
        handle=export_session,
    ),
    Operation(
        method="POST",
        path="/v1/sessions/export",
        name="exportSessions",
        browsers=True,
        summary="Up to 100 sessions: a line of JSON an item, or a line a session.",
        scopes=("chat", "read", "admin"),
        body=exports_schemas.ExportRequest,
        query=NoneType,
        lines=exports_schemas.ExportLine,
        reads=(TIMELINE, SESSIONS),
        problems=(400, 413, 415, 422),
        handle=export_sessions,
    ),
)
