"""Search over the names of a project's sessions and what was said in them."""

from types import NoneType

from starlette.responses import Response

from projections import words
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE
from projections.words import WORDS
from service.api import search_schemas
from service.eventlog.store import END
from service.http.call import Call
from service.http.operation import Operation, answered
from service.http.reads import position_in, reading_at, visible_project


async def search(call: Call[None, search_schemas.SearchQuery]) -> Response:
    """A page of what the words are in, newest first."""
    asked, project_id = call.query, call.path["projectId"]
    before = position_in(call, asked.before)
    async with (
        call.service.heavy_reads.turn(),
        reading_at(call, WORDS.name, asked.min_position) as (connection, position),
    ):
        await visible_project(connection, call, project_id, asked.user_id)
        found = await words.search(
            connection,
            tenant_id=call.tenant_id,
            project_id=project_id,
            query=asked.q,
            user_id=asked.user_id,
            mode=asked.mode,
            before=END if before is None else before,
            limit=asked.limit + 1,
        )
    answer = search_schemas.results(found, asked.limit)
    return answered(answer, position=position)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/projects/{projectId}/search",
        name="searchProject",
        browsers=True,
        summary="The messages, replies and names of sessions that have these words, newest first.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=search_schemas.SearchQuery,
        answer=search_schemas.SearchResults,
        reads=(WORDS, TIMELINE, SESSIONS),
        problems=(404, 409, 422),
        handle=search,
    ),
)
