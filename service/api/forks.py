"""Forks: ask again, ask otherwise, or ask what if, from any message of a session."""

from functools import partial
from types import NoneType
from typing import Final

from starlette.responses import Response

from domain.deciders.session import About
from projections.sessions import SESSIONS, SessionRow
from service.api import forks_schemas, sessions_schemas
from service.api.sessions import answered_session
from service.commands import forks
from service.eventlog.errors import answering
from service.http.call import Call
from service.http.operation import Operation
from service.http.reads import visible_session

_CONTEXT: Final = {
    "runId": "run_id",
    "stepId": "step_id",
    "candidateId": "candidate_id",
    "promptId": "prompt_id",
    "promptVersionId": "prompt_version_id",
    "versionId": "version_id",
    "buildId": "build_id",
}


async def fork_session(call: Call[forks_schemas.ForkRequest, None]) -> Response:
    """Open a session that shares what another one had said up to a message."""
    asked, session_id = call.body, call.path["sessionId"]
    async with call.reading() as connection:
        row = await visible_session(connection, call, session_id, asked.user_id)
    async with call.service.heavy_reads.turn():
        point, before = await forks.point(
            call.service.store,
            tenant_id=call.tenant_id,
            session_id=session_id,
            message_id=asked.message_id,
        )
    work = partial(
        forks.fork,
        project_id=row.project_id,
        session_id=session_id,
        user_id=asked.user_id,
        message_id=asked.message_id,
        mode=asked.mode,
        context=_about(row),
        point=point,
        forks=before,
    )
    fork_id, position = await call.transact(work, user_id=asked.user_id)
    with answering(position):
        return await answered_session(call, fork_id, asked.user_id, position, is_new=True)


def _about(row: SessionRow) -> About:
    return About(**{_CONTEXT[name]: value for name, value in row.context.items()})


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/sessions/{sessionId}/fork",
        name="forkSession",
        browsers=True,
        summary="Open a session that shares what another one had said up to a message.",
        scopes=("chat",),
        body=forks_schemas.ForkRequest,
        query=NoneType,
        answer=sessions_schemas.SessionAnswer,
        status=201,
        reads=(SESSIONS,),
        problems=(400, 404, 409, 413, 415, 422),
        handle=fork_session,
    ),
)
