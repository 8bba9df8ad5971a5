"""Drafts, which are plans that are kept."""

from functools import partial
from types import NoneType

from starlette.responses import Response

from domain.errors import PlanUnknown
from projections import drafts, sessions
from projections.drafts import DRAFTS
from projections.sessions import SESSIONS
from service.api import plans_schemas, schemas
from service.api.replies import visible_reply
from service.commands.sessions import save_plan as save
from service.eventlog.errors import answering
from service.eventlog.store import END
from service.http.call import Call
from service.http.operation import Operation, answered
from service.http.reads import (
    position_in,
    reading_at,
    visible_project,
)


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
    before = position_in(call, asked.before)
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
    answer = plans_schemas.drafts(rows, convertible)
    return answered(answer, position=position)


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
        reads=(DRAFTS, SESSIONS),
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
        reads=(DRAFTS, SESSIONS),
        problems=(404, 409, 422),
        handle=list_drafts,
    ),
)
