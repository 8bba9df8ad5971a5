"""Instructions: a session of mode prompt goes on with another version, other values or settings."""

from functools import partial
from types import NoneType

from starlette.responses import Response

from domain.deciders import prompt
from domain.errors import PromptVersionUnknown
from projections.sessions import SESSIONS, SessionRow
from service.api import instructions_schemas, sessions_schemas
from service.api.prompt_versions import version_of_id
from service.api.sessions import answered_session
from service.commands import instructions
from service.eventlog.errors import answering
from service.http.call import Call
from service.http.operation import Operation
from service.http.reads import visible_session


async def instruct_session(
    call: Call[instructions_schemas.InstructionsRequest, None],
) -> Response:
    """Change how the replies of a session of mode prompt are made."""
    asked, session_id = call.body, call.path["sessionId"]
    async with call.reading() as connection:
        row = await visible_session(connection, call, session_id, asked.user_id)
        named = _named(call.body, row)
        version = None
        if named is not None:
            version = await version_of_id(connection, call, named, asked.user_id, row.project_id)
    settings = sessions_schemas.allowed(asked.settings, call.service.settings)
    work = partial(
        instructions.instruct,
        project_id=row.project_id,
        session_id=session_id,
        user_id=asked.user_id,
        version=version,
        answers=asked.values,
        settings=settings,
    )
    _, position = await call.transact(work, user_id=asked.user_id)
    with answering(position):
        return await answered_session(call, session_id, asked.user_id, position)


def _named(asked: instructions_schemas.InstructionsRequest, row: SessionRow) -> str | None:
    """The id of the version that the session is to be made of; None where its text stays.

    Raises PromptVersionUnknown for the newest version where the session has no prompt.
    """
    if asked.prompt_version_id == instructions_schemas.NEWEST:
        if row.prompt_id is None or row.prompt_newest is None:
            raise PromptVersionUnknown
        return prompt.version_id(row.prompt_id, row.prompt_newest)
    if asked.prompt_version_id is None and asked.values is not None:
        return row.prompt_version_id
    return asked.prompt_version_id


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/sessions/{sessionId}/instructions",
        name="instructSession",
        browsers=True,
        summary="Go on with another version of the prompt, other values or other settings.",
        scopes=("chat",),
        body=instructions_schemas.InstructionsRequest,
        query=NoneType,
        answer=sessions_schemas.SessionAnswer,
        reads=(SESSIONS,),
        problems=(400, 403, 404, 409, 413, 415, 422),
        handle=instruct_session,
    ),
)
