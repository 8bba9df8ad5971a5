"""The versions of a prompt: added, listed, read, compared."""

import asyncio
from functools import partial
from types import NoneType

from starlette.responses import Response

from domain.deciders import prompt
from domain.deciders.session import About
from domain.errors import PromptUnknown, PromptVersionUnknown
from domain.texts import word_diff
from projections import prompts as rows
from projections.prompts import PROMPT_VERSIONS, VersionRow
from service.api import prompts_schemas, schemas
from service.api.prompts import visible_prompt
from service.commands import prompts as commands
from service.eventlog.errors import AnswerMissing, answering
from service.http.call import AnyCall, Call
from service.http.operation import Operation, answered
from service.http.reads import reading_at
from service.postgres.connections import Connection
from service.wire import LOG_POSITION


async def add_version(call: Call[prompts_schemas.VersionRequest, None]) -> Response:
    """Add a version to a prompt, for a member that may act in its project."""
    asked, prompt_id = call.body, call.path["promptId"]
    async with call.reading() as connection:
        row = await visible_prompt(connection, call, prompt_id, asked.user_id)
    work = partial(
        commands.add_version,
        project_id=row.project_id,
        prompt_id=prompt_id,
        user_id=asked.user_id,
        text=asked.text,
        note=asked.note,
    )
    number, position = await call.transact(work, user_id=asked.user_id)
    added = await added_version(call, prompt_id, number, asked.user_id, position)
    headers = {"Location": f"/v1/prompts/{prompt_id}/versions/{number}"}
    answer = prompts_schemas.version(added)
    return answered(answer, position=position, status=201, headers=headers)


async def added_version(
    call: AnyCall, prompt_id: str, number: int, user_id: str, position: int
) -> VersionRow:
    """The version that was added at a position of the log, or before. Raises PromptUnknown for a
    prompt that was erased since, and AnswerMissing where the read model leaves the prompt out."""
    with answering(position):
        async with reading_at(call, PROMPT_VERSIONS.name, position) as (connection, _):
            try:
                return await visible_version(connection, call, prompt_id, number, user_id)
            except PromptVersionUnknown:
                headers = {LOG_POSITION: str(position)}
                raise AnswerMissing("the version is not in the read model", headers) from None


async def list_versions(call: Call[None, prompts_schemas.VersionsQuery]) -> Response:
    """A page of the versions of a prompt, without their texts."""
    asked, prompt_id = call.query, call.path["promptId"]
    async with reading_at(call, PROMPT_VERSIONS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await visible_prompt(connection, call, prompt_id, asked.user_id)
        found = await rows.versions(
            connection,
            tenant_id=call.tenant_id,
            prompt_id=prompt_id,
            before=asked.before or 2**31 - 1,
            limit=asked.limit + 1,
        )
    return answered(prompts_schemas.versions(found, asked.limit), position=position)


async def read_version(call: Call[None, schemas.ActingQuery]) -> Response:
    """A version of a prompt with its text."""
    asked, number = call.query, _number(call)
    async with reading_at(call, PROMPT_VERSIONS.name, asked.min_position) as (connection, position):
        found = await visible_version(
            connection, call, call.path["promptId"], number, asked.user_id
        )
    return answered(prompts_schemas.version(found), position=position)


async def diff_versions(call: Call[None, prompts_schemas.DiffQuery]) -> Response:
    """What differs between two versions of a prompt."""
    asked, prompt_id, number = call.query, call.path["promptId"], _number(call)
    async with reading_at(call, PROMPT_VERSIONS.name, asked.min_position) as (connection, position):
        new = await visible_version(connection, call, prompt_id, number, asked.user_id)
        old = await visible_version(connection, call, prompt_id, asked.against, asked.user_id)
    async with call.service.heavy_reads.turn():
        answer = await asyncio.to_thread(_diff, old, new)
    return answered(answer, position=position)


def _diff(old: VersionRow, new: VersionRow) -> prompts_schemas.VersionDiff:
    before, after = old.text or "", new.text or ""
    names = (f"version {each.number}" for each in (old, new))
    return prompts_schemas.VersionDiff(
        prompt_id=new.prompt_id,
        number=new.number,
        against=old.number,
        ops=[
            prompts_schemas.DiffOp(op=each.op, text=each.text)
            for each in word_diff.word_ops(before, after)
        ],
        unified=word_diff.unified(before, after, *names),
    )


def _number(call: AnyCall) -> int:
    """The number of the path. Raises PromptVersionUnknown for a text that is no number."""
    number = prompt.number_in(call.path["number"])
    if number is None:
        raise PromptVersionUnknown
    return number


async def visible_version(
    connection: Connection, call: AnyCall, prompt_id: str, number: int, user_id: str | None
) -> VersionRow:
    """The version, for a member of its project. Raises PromptVersionUnknown, PromptUnknown,
    ProjectUnknown, Forbidden."""
    await visible_prompt(connection, call, prompt_id, user_id)
    found = await rows.version(
        connection, tenant_id=call.tenant_id, prompt_id=prompt_id, number=number
    )
    if found is None:
        raise PromptVersionUnknown
    return found


async def version_of_id(
    connection: Connection,
    call: AnyCall,
    prompt_version_id: str,
    user_id: str | None,
    project_id: str,
) -> VersionRow:
    """The version with this id in a project, for a member of the project. Raises
    PromptVersionUnknown, ProjectUnknown, Forbidden."""
    named = prompt.version_named(prompt_version_id)
    if named is None:
        raise PromptVersionUnknown
    try:
        found = await visible_version(connection, call, *named, user_id)
    except PromptUnknown:
        raise PromptVersionUnknown from None
    if found.project_id != project_id:
        raise PromptVersionUnknown
    return found


async def target_of(
    connection: Connection, tenant_id: str, context: About, project_id: str
) -> VersionRow | None:
    """The version of a prompt that a context names; None where the context names none, and where
    its ids are the client's own. Raises PromptVersionUnknown for a prompt of another project."""
    named = prompt.version_named(context.prompt_version_id or "")
    prompt_id = context.prompt_id if named is None else named[0]
    if prompt_id is None:
        return None
    of_id = await rows.prompt(connection, tenant_id=tenant_id, prompt_id=prompt_id, user_id=None)
    if of_id is None:
        return None
    if of_id.project_id != project_id:
        raise PromptVersionUnknown
    if named is None:
        return None
    found = await rows.version(
        connection, tenant_id=tenant_id, prompt_id=prompt_id, number=named[1]
    )
    if found is None:
        raise PromptVersionUnknown
    return found


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/prompts/{promptId}/versions",
        name="addPromptVersion",
        browsers=True,
        summary="Add a version to a prompt. Of two that are added at once, both are there.",
        scopes=("chat",),
        body=prompts_schemas.VersionRequest,
        query=NoneType,
        answer=prompts_schemas.PromptVersion,
        status=201,
        reads=(PROMPT_VERSIONS,),
        problems=(400, 403, 404, 409, 413, 415, 422),
        handle=add_version,
    ),
    Operation(
        method="GET",
        path="/v1/prompts/{promptId}/versions",
        name="listPromptVersions",
        browsers=True,
        summary="The versions of a prompt, newest first, without their texts.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=prompts_schemas.VersionsQuery,
        answer=prompts_schemas.PromptVersions,
        reads=(PROMPT_VERSIONS,),
        problems=(404, 409, 422),
        handle=list_versions,
    ),
    Operation(
        method="GET",
        path="/v1/prompts/{promptId}/versions/{number}",
        name="readPromptVersion",
        browsers=True,
        summary="A version of a prompt with its text and its placeholders.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=prompts_schemas.PromptVersion,
        reads=(PROMPT_VERSIONS,),
        problems=(404, 409, 422),
        handle=read_version,
    ),
    Operation(
        method="GET",
        path="/v1/prompts/{promptId}/versions/{number}/diff",
        name="diffPromptVersions",
        browsers=True,
        summary="What differs between two versions of a prompt, by words and as a unified text.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=prompts_schemas.DiffQuery,
        answer=prompts_schemas.VersionDiff,
        reads=(PROMPT_VERSIONS,),
        problems=(404, 409, 422),
        handle=diff_versions,
    ),
)
