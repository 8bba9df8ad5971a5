"""Improvements: the improved prompt in a reply becomes a version of a prompt."""

from functools import partial
from types import NoneType
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from domain.deciders import prompt
from domain.errors import ImprovementUnknown, PromptUnknown
from projections import sessions
from projections.prompts import PROMPT_VERSIONS
from projections.replies import ReplyRow
from service.api import improvements_schemas, prompts_schemas
from service.api.prompt_versions import added_version
from service.api.prompts import visible_prompt
from service.api.replies import ended, visible_reply
from service.commands import improvements
from service.http.call import Call
from service.http.operation import Operation, Success, answered
from service.http.problems import BadRequest

_TEXT: TypeAdapter[str] = TypeAdapter(prompts_schemas.PromptText)


async def accept_improvement(call: Call[improvements_schemas.AcceptRequest, None]) -> Response:
    """Make the improved prompt in a reply a version of a prompt, once."""
    asked = call.body
    row = await visible_reply(call, asked.user_id)
    text = _improved(await ended(call, row))
    work = partial(
        improvements.accept,
        reply=row,
        user_id=asked.user_id,
        text=text,
        prompt_id=None if asked.name is not None else await _target(call, row),
        name=asked.name or "",
    )
    found, position = await call.transact(work, user_id=asked.user_id)
    version = await added_version(call, found["prompt"], found["number"], asked.user_id, position)
    answer = improvements_schemas.AcceptedImprovement(
        prompt_id=version.prompt_id, version=prompts_schemas.version(version)
    )
    path = f"/v1/prompts/{version.prompt_id}/versions/{version.number}"
    status = 201 if found["is_new"] else 200
    return answered(answer, position=position, status=status, headers={"Location": path})


def _improved(envelope: dict[str, Any]) -> str:
    """The improved prompt of a reply. Raises ImprovementUnknown, and BadRequest for a text that no
    prompt can have."""
    if envelope["mode"] != "improvement" or envelope["subtype"] != "success":
        raise ImprovementUnknown
    try:
        return _TEXT.validate_python(envelope["data"]["improvedPrompt"])
    except ValidationError:
        detail = "The improved prompt is empty, too long, or has too many placeholders. Ask again."
        raise BadRequest(422, "unusable_improvement", detail) from None


async def _target(call: Call[improvements_schemas.AcceptRequest, None], row: ReplyRow) -> str:
    """The prompt that gets the version: the prompt that the request names, else the prompt of the
    session's context. Raises PromptUnknown, and BadRequest where neither names a prompt."""
    asked = call.body
    async with call.reading() as connection:
        prompt_id = asked.prompt_id
        if prompt_id is None:
            known = await sessions.session(
                connection, tenant_id=call.tenant_id, session_id=row.session_id
            )
            context = {} if known is None else known.context
            named = prompt.version_named(context.get("promptVersionId", ""))
            prompt_id = context.get("promptId") if named is None else named[0]
        if prompt_id is None:
            detail = "The session has no prompt as its context: send promptId, or name."
            raise BadRequest(422, "prompt_needed", detail)
        found = await visible_prompt(connection, call, prompt_id, asked.user_id)
    if found.project_id != row.project_id:
        raise PromptUnknown
    return prompt_id


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/chat-plan/replies/{messageId}/accept",
        name="acceptImprovement",
        browsers=True,
        summary="Make the improved prompt of a reply a version of a prompt. Again, it is the same.",
        scopes=("chat",),
        body=improvements_schemas.AcceptRequest,
        query=NoneType,
        answer=improvements_schemas.AcceptedImprovement,
        status=201,
        others={
            200: Success(
                "The reply was accepted before: this version.",
                improvements_schemas.AcceptedImprovement,
            )
        },
        reads=(PROMPT_VERSIONS,),
        problems=(400, 403, 404, 409, 413, 415, 422),
        handle=accept_improvement,
    ),
)
