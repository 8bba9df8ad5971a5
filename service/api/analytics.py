"""A project's figures."""

from datetime import UTC, datetime
from types import NoneType

from starlette.responses import Response

from projections import analytics
from projections.builds import BUILDS
from projections.consumption import CONSUMPTION
from projections.projection import reached
from projections.prompts import PROMPT_VERSIONS, PROMPTS
from projections.runs import RUNS
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE
from service.api import analytics_schemas
from service.http.call import Call
from service.http.operation import Operation, answered
from service.http.reads import reading_at, visible_project


async def read_analytics(call: Call[None, analytics_schemas.AnalyticsQuery]) -> Response:
    """The figures of a span of time."""
    asked = call.query
    until = asked.until or datetime.now(UTC)
    since = asked.since or max(until, _FIRST + analytics_schemas.SPAN) - analytics_schemas.SPAN
    async with reading_at(call, TIMELINE.name, asked.min_position) as (connection, _):
        await visible_project(connection, call, call.path["projectId"], asked.user_id)
    async with (
        call.service.heavy_reads.turn(),
        call.reading_again() as connection,
    ):
        position = await reached(connection, TIMELINE.name)
        found = await analytics.analytics(
            connection,
            tenant_id=call.tenant_id,
            project_id=call.path["projectId"],
            user_id=asked.user_id,
            since=since,
            until=until,
        )
    return answered(analytics_schemas.analytics(found), position=position)


_FIRST = datetime.min.replace(tzinfo=UTC)

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/projects/{projectId}/analytics",
        name="getAnalytics",
        browsers=True,
        summary="How a project's planning and building goes: times, errors, tokens, conversions.",
        scopes=("read", "admin", "chat"),
        body=NoneType,
        query=analytics_schemas.AnalyticsQuery,
        answer=analytics_schemas.AnalyticsAnswer,
        reads=(TIMELINE, CONSUMPTION, SESSIONS, BUILDS, RUNS, PROMPTS, PROMPT_VERSIONS),
        problems=(404, 409, 422),
        handle=read_analytics,
    ),
)
