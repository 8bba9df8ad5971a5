"""The unified timeline of a project, page by page."""

from starlette.responses import Response

from projections import timeline
from service import wire
from service.api.operation import Call, Operation, answered
from service.api.reading import position_in, position_of, visible_project


async def read_timeline(call: Call) -> Response:
    """A page, newest first."""
    asked: wire.TimelineQuery = call.query
    epoch = call.service.epoch
    before, after = position_in(asked.before, epoch), position_in(asked.after, epoch)
    async with call.service.pool.connection() as connection:
        position = await position_of(connection, "timeline", asked.min_position)
        await visible_project(connection, call, call.path["projectId"], asked.user_id)
        page = await timeline.page(
            connection,
            tenant_id=call.caller.tenant_id,
            project_id=call.path["projectId"],
            mode=None if asked.mode == "all" else asked.mode,
            with_hidden=asked.include_hidden,
            limit=asked.limit,
            offset=asked.offset,
            before=before,
            after=after,
        )
    return answered(wire.timeline(page, epoch), position=position)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/project/{projectId}/timeline",
        name="getTimeline",
        summary="Everything that was said and done in a project, newest first.",
        scopes=("chat", "read", "admin"),
        query=wire.TimelineQuery,
        answer=wire.Timeline,
        problems=(404, 409, 422),
        handle=read_timeline,
    ),
)
