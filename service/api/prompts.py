"""Prompts: created, listed, read, renamed, archived and erased."""

from functools import partial
from types import NoneType

from starlette.responses import Response

from domain.errors import PromptUnknown
from projections import prompts as rows
from projections.prompts import PROMPT_VERSIONS, PROMPTS, PromptRow
from projections.sessions import SESSIONS
from service.api import prompts_schemas, schemas
from service.commands import prompts as commands
from service.eventlog.errors import answering
from service.eventlog.stream_ids import prompt_stream
from service.eventlog.transactions import Transaction
from service.http.call import AnyCall, Call
from service.http.operation import Operation, answered
from service.http.reads import reading_at, visible_project
from service.postgres.connections import Connection


async def create_prompt(call: Call[prompts_schemas.PromptRequest, None]) -> Response:
    """Create a prompt with its first version."""
    asked = call.body
    work = partial(
        commands.create,
        project_id=asked.project_id,
        user_id=asked.user_id,
        name=asked.name,
        text=asked.text,
        note=asked.note,
    )
    prompt_id, position = await call.transact(work, user_id=asked.user_id)
    with answering(position):
        return await _prompt(call, prompt_id, asked.user_id, position, status=201)


async def list_prompts(call: Call[None, prompts_schemas.PromptsQuery]) -> Response:
    """A page of the prompts of a project."""
    asked, project_id = call.query, call.path["projectId"]
    after = prompts_schemas.keys_in(call, asked.before, asked.sort)
    async with reading_at(call, PROMPTS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await visible_project(connection, call, project_id, asked.user_id)
        found = await rows.page(
            connection,
            tenant_id=call.tenant_id,
            project_id=project_id,
            user_id=asked.user_id,
            statuses=asked.statuses,
            query=asked.q or "",
            sort=asked.sort,
            after=after,
            limit=asked.limit + 1,
        )
    page = prompts_schemas.prompts(found, asked)
    return answered(page, position=position)


async def read_prompt(call: Call[None, schemas.PastQuery]) -> Response:
    """A prompt with its newest version, and its entity tag."""
    asked = call.query
    prompt_id = call.path["promptId"]
    return await _prompt(call, prompt_id, asked.user_id, asked.min_position, as_of=asked.as_of)


async def change_prompt(call: Call[prompts_schemas.PromptPatch, None]) -> Response:
    """Change the name of a prompt, archive it or restore it."""
    user_id = call.body.user_id or call.caller.user_id
    row = await _writable(call, user_id)
    if row is None:
        raise PromptUnknown
    work = partial(
        commands.change,
        project_id=row.project_id,
        prompt_id=row.prompt_id,
        user_id=user_id,
        changes=call.body.changes,
        revisions=call.known_revisions,
    )
    _, position = await call.transact(work, user_id=user_id)
    with answering(position):
        return await _prompt(call, row.prompt_id, user_id, position)


async def delete_prompt(call: Call[None, schemas.ActingQuery]) -> Response:
    """Erase a prompt with its versions, and the sessions of all users that are made of it."""
    user_id = call.query.user_id
    row = await _writable(call, user_id)
    if row is None:
        # The same request, sent again, gets the answer that it got before.
        _, position = await call.transact(_refuse)
    else:
        position = await call.service.erasure.prompt(
            call.tenant_id, row.project_id, row.prompt_id, user_id, call.cause(user_id)
        )
    answer = prompts_schemas.PromptErased(prompt_id=call.path["promptId"])
    return answered(answer, position=position)


async def _refuse(_: Transaction) -> None:
    raise PromptUnknown


async def visible_prompt(
    connection: Connection, call: AnyCall, prompt_id: str, user_id: str | None
) -> PromptRow:
    """The prompt, for a member of its project. Raises PromptUnknown, ProjectUnknown, Forbidden."""
    row = await rows.prompt(
        connection, tenant_id=call.tenant_id, prompt_id=prompt_id, user_id=user_id
    )
    if row is None:
        raise PromptUnknown
    await visible_project(connection, call, row.project_id, user_id)
    if call.past.is_folded:
        row = await rows.prompt(
            connection, tenant_id=call.tenant_id, prompt_id=prompt_id, user_id=user_id
        )
        if row is None:
            raise PromptUnknown
    call.streams.add(str(prompt_stream(prompt_id)))
    return row


async def _writable(call: AnyCall, user_id: str | None) -> PromptRow | None:
    """The prompt of the path, for a member of its project or for the tenant's own service; None
    where there is no such prompt. Raises ProjectUnknown."""
    if user_id is None:
        call.caller.require("admin")
    async with call.reading() as connection:
        try:
            return await visible_prompt(connection, call, call.path["promptId"], user_id)
        except PromptUnknown:
            return None


async def _prompt(
    call: AnyCall,
    prompt_id: str,
    user_id: str | None,
    at_least: int | None,
    *,
    status: int = 200,
    as_of: str | None = None,
) -> Response:
    """A prompt with its newest version, at a position of the log at least."""
    async with reading_at(call, PROMPTS.name, at_least, as_of) as (connection, position):
        row = await visible_prompt(connection, call, prompt_id, user_id)
        newest = await rows.version(
            connection, tenant_id=call.tenant_id, prompt_id=prompt_id, number=row.versions
        )
    answer = prompts_schemas.prompt_answer(row, newest)
    headers = {"ETag": prompts_schemas.etag(row)}
    if status == 201:
        headers["Location"] = f"/v1/prompts/{prompt_id}"
    return answered(answer, position=position, status=status, headers=headers)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/prompts",
        name="createPrompt",
        browsers=True,
        summary="Create a prompt of a project, with its first version.",
        scopes=("chat",),
        body=prompts_schemas.PromptRequest,
        query=NoneType,
        answer=prompts_schemas.PromptAnswer,
        status=201,
        problems=(400, 403, 404, 409, 413, 415, 422),
        handle=create_prompt,
    ),
    Operation(
        method="GET",
        path="/v1/projects/{projectId}/prompts",
        name="listPrompts",
        browsers=True,
        summary="The prompts of a project, with the number of sessions that the user made of each.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=prompts_schemas.PromptsQuery,
        answer=prompts_schemas.Prompts,
        reads=(PROMPTS, SESSIONS),
        problems=(404, 409, 422),
        handle=list_prompts,
    ),
    Operation(
        method="GET",
        path="/v1/prompts/{promptId}",
        name="readPrompt",
        browsers=True,
        summary="A prompt with its newest version, and its entity tag.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=schemas.PastQuery,
        answer=prompts_schemas.PromptAnswer,
        reads=(PROMPTS, PROMPT_VERSIONS),
        problems=(404, 409, 422),
        handle=read_prompt,
    ),
    Operation(
        method="PATCH",
        path="/v1/prompts/{promptId}",
        name="changePrompt",
        browsers=True,
        summary="Rename, archive or restore a prompt; with If-Match only if unchanged.",
        scopes=("chat", "admin"),
        body=prompts_schemas.PromptPatch,
        query=NoneType,
        answer=prompts_schemas.PromptAnswer,
        reads=(PROMPTS, PROMPT_VERSIONS),
        problems=(400, 403, 404, 409, 413, 415, 422),
        handle=change_prompt,
    ),
    Operation(
        method="DELETE",
        path="/v1/prompts/{promptId}",
        name="erasePrompt",
        browsers=True,
        summary="Erase a prompt, its versions, and the sessions of all users made of it.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=prompts_schemas.PromptErased,
        problems=(403, 404, 409, 413, 422),
        handle=delete_prompt,
    ),
)
