"""Builds: ordered by users, claimed and reported on by workers."""

from contextlib import aclosing
from types import NoneType

from starlette.responses import Response

from domain.errors import BuildUnknown
from domain.events import BuildOperation
from projections import builds, versions
from projections.builds import BUILD_EVENTS, BUILDS, BuildRow, BuildStatus
from projections.projects import ProjectRow
from projections.versions import VERSIONS
from service.api import builds_schemas, schemas
from service.commands.builds import Order, Ordered
from service.eventlog.errors import answering
from service.eventlog.store import END
from service.eventlog.stream_ids import build_stream
from service.http.call import AnyCall, Call
from service.http.operation import Operation, answered
from service.http.problems import BadRequest
from service.http.reads import fold_project, position_in, reading_at, visible_project
from service.postgres.connections import Connection


async def convert_to_build(call: Call[builds_schemas.ConvertRequest, None]) -> Response:
    """Turn a plan into a build; the same plan again is the same build, unless it failed."""
    asked = call.body
    await _member(call, asked.project_id, asked.user_id)
    ordered = await call.service.builds.convert(
        _order(call, asked),
        session_id=asked.session_id,
        plan=asked.plan_data,
        cause=call.cause(asked.user_id),
    )
    return await _accepted(call, ordered)


async def begin_build(call: Call[builds_schemas.BuildRequest, None]) -> Response:
    """Build an idea."""
    asked = call.body
    known = await _member(call, asked.project_id, asked.user_id)
    by_itself: BuildOperation = "main_build" if known.version_id is None else "update"
    ordered = await call.service.builds.begin(
        _order(call, asked),
        idea=asked.message,
        operation=asked.operation or by_itself,
        cause=call.cause(asked.user_id),
    )
    return await _accepted(call, ordered)


async def list_builds(call: Call[None, builds_schemas.BuildsQuery]) -> Response:
    """Builds that a worker may claim, or the builds of a project."""
    asked = call.query
    at = position_in(call, asked.cursor)
    if asked.project_id is None:
        rows, position = await _open_builds(call, after=at or 0)
    else:
        async with reading_at(call, BUILDS.name, asked.min_position, asked.as_of) as (
            connection,
            position,
        ):
            await visible_project(connection, call, asked.project_id, asked.user_id)
            rows = await builds.of_project(
                connection,
                tenant_id=call.tenant_id,
                project_id=asked.project_id,
                status=asked.status,
                before=END if at is None else at,
                limit=asked.limit,
            )
    answer = builds_schemas.build_list(rows)
    return answered(answer, position=position, is_idle=bool(asked.wait) and not rows)


async def _open_builds(
    call: Call[None, builds_schemas.BuildsQuery], *, after: int
) -> tuple[list[BuildRow], int]:
    """Builds for workers, and the position of the read model. A poll with `wait` waits for them.

    No connection is held while the poll waits.
    """
    asked = call.query
    _require_worker(call)
    status = asked.status or "queued"
    if status not in ("queued", "running"):
        detail = "Name a project, or ask for builds that are queued or running."
        raise BadRequest(422, "project_needed", detail)
    rows: list[BuildRow] = []
    position = 0
    async with aclosing(call.service.build_polls.rounds(call.tenant_id, asked.wait)) as rounds:
        async for _ in rounds:
            async with reading_at(call, BUILDS.name, asked.min_position) as (connection, position):
                rows = await builds.open_builds(
                    connection,
                    tenant_id=call.tenant_id,
                    status=status,
                    worker_id=asked.worker_id,
                    after=after,
                    limit=asked.limit,
                )
            if rows:
                break
    return rows, position


async def read_build(call: Call[None, schemas.PastQuery]) -> Response:
    """One build."""
    row, position = await _visible(call)
    if call.query.as_of is not None:
        row, position = await _build_then(call, row.project_id, call.query.as_of)
    return answered(builds_schemas.build_answer(row), position=position)


async def claim_build(call: Call[builds_schemas.ClaimRequest, None]) -> Response:
    """Claim a build; of many workers that try, one gets it."""
    asked = call.body
    build_id = call.path["buildId"]
    position = await call.service.builds.claim(
        call.tenant_id, build_id, worker_id=asked.worker_id, cause=call.cause()
    )
    position = call.service.live_log.head if position is None else position
    with answering(position):
        row, _ = await _build(call, build_id, position)
    return answered(builds_schemas.build_answer(row), position=position)


async def cancel_build(call: Call[None, schemas.ActingQuery]) -> Response:
    """End a build; a build that has ended stays as it is."""
    asked = call.query
    row, _ = await _build(call, call.path["buildId"], None)
    async with call.reading() as connection:
        await visible_project(connection, call, row.project_id, asked.user_id)
    position = await call.service.builds.cancel(
        call.tenant_id, row.build_id, user_id=asked.user_id, cause=call.cause(asked.user_id)
    )
    position = call.service.live_log.head if position is None else position
    with answering(position):
        row, _ = await _build(call, row.build_id, position)
    return answered(builds_schemas.build_answer(row), position=position)


async def report_events(call: Call[builds_schemas.ReportsRequest, None]) -> Response:
    """Store a worker's reports."""
    asked = call.body
    result = await call.service.builds.report(
        call.tenant_id,
        call.path["buildId"],
        [each.report() for each in asked.events],
        call.cause(),
    )
    answer = builds_schemas.ReportsAnswer.model_validate(result)
    return answered(answer, position=call.service.live_log.head)


async def read_events(call: Call[None, builds_schemas.BuildEventsQuery]) -> Response:
    """The reports of a build."""
    asked = call.query
    after = position_in(call, asked.after)
    row, _ = await _visible(call)
    async with reading_at(call, BUILD_EVENTS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await fold_project(connection, call, row.project_id)
        await _of_id(connection, call, row.build_id)
        rows = await builds.events(
            connection,
            tenant_id=call.tenant_id,
            build_id=call.path["buildId"],
            with_hidden=asked.include_hidden,
            after=after or 0,
            limit=asked.limit + 1,
        )
    answer = builds_schemas.build_events(rows, limit=asked.limit)
    return answered(answer, position=position)


async def list_versions(call: Call[None, schemas.PastPageQuery]) -> Response:
    """A project's versions, newest first."""
    asked = call.query
    before = position_in(call, asked.before)
    async with reading_at(call, VERSIONS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await visible_project(connection, call, call.path["projectId"], asked.user_id)
        rows = await versions.newest(
            connection,
            tenant_id=call.tenant_id,
            project_id=call.path["projectId"],
            before=END if before is None else before,
            limit=asked.limit,
        )
    return answered(builds_schemas.versions(rows), position=position)


def _order(
    call: AnyCall, asked: builds_schemas.ConvertRequest | builds_schemas.BuildRequest
) -> Order:
    return Order(
        tenant_id=call.tenant_id,
        project_id=asked.project_id,
        user_id=asked.user_id,
        locale=asked.locale,
    )


async def _accepted(call: AnyCall, ordered: Ordered) -> Response:
    """The build with its present status: a build that was ordered before may be further."""
    build_id = ordered.build_id
    position = call.service.live_log.head if ordered.position is None else ordered.position
    status: BuildStatus = "queued"
    if not ordered.is_new:
        with answering(position):
            state = await call.service.transactions.current(call.tenant_id, build_stream(build_id))
        if state.status == "new" or state.status == "erased":
            raise BuildUnknown
        status = state.status
    answer = builds_schemas.BuildAccepted(build_id=build_id, status=status)
    location = {"Location": f"/v1/builds/{build_id}"}
    return answered(answer, position=position, status=202, headers=location)


def _require_worker(call: AnyCall) -> None:
    """Workers and the tenant's own service see the builds of all projects. Raises Forbidden."""
    if not call.caller.scopes & {"admin", "read"}:
        call.caller.require("build")


async def _member(call: AnyCall, project_id: str, user_id: str) -> ProjectRow:
    async with call.reading() as connection:
        return await visible_project(connection, call, project_id, user_id)


async def _build(call: AnyCall, build_id: str, at_least: int | None) -> tuple[BuildRow, int]:
    """The build, and the position of its read model. Raises BuildUnknown."""
    async with reading_at(call, BUILDS.name, at_least) as (connection, position):
        return await _of_id(connection, call, build_id), position


async def _build_then(call: AnyCall, project_id: str, as_of: str) -> tuple[BuildRow, int]:
    """The build of the path as it was, for those who may see it, and the position of that moment.

    Raises BuildUnknown.
    """
    async with reading_at(call, BUILDS.name, None, as_of) as (connection, position):
        await fold_project(connection, call, project_id)
        return await _of_id(connection, call, call.path["buildId"]), position


async def _of_id(connection: Connection, call: AnyCall, build_id: str) -> BuildRow:
    known = await builds.of_ids(connection, tenant_id=call.tenant_id, build_ids=[build_id])
    if build_id not in known:
        raise BuildUnknown
    return known[build_id]


async def _visible(call: Call[object, schemas.ActingQuery]) -> tuple[BuildRow, int]:
    """The build of the path, if its project may be seen."""
    asked = call.query
    row, position = await _build(call, call.path["buildId"], asked.min_position)
    if asked.user_id is not None:
        await _member(call, row.project_id, asked.user_id)
    else:
        _require_worker(call)
    return row, position


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/chat-plan/convert-to-build",
        name="convertToBuild",
        browsers=True,
        summary="Turn a session's plan into a build. The same plan again is the same build, unless "
        "that build failed.",
        scopes=("chat", "build"),
        body=builds_schemas.ConvertRequest,
        query=NoneType,
        answer=builds_schemas.BuildAccepted,
        status=202,
        problems=(400, 402, 404, 409, 413, 415, 422),
        handle=convert_to_build,
    ),
    Operation(
        method="POST",
        path="/v1/builds",
        name="beginBuild",
        browsers=True,
        summary="Build a project from an idea.",
        scopes=("chat", "build"),
        body=builds_schemas.BuildRequest,
        query=NoneType,
        answer=builds_schemas.BuildAccepted,
        status=202,
        problems=(400, 402, 404, 409, 413, 415, 422),
        handle=begin_build,
    ),
    Operation(
        method="GET",
        path="/v1/builds",
        name="listBuilds",
        browsers=True,
        summary="What a worker may take, oldest first; or a project's builds, newest first.",
        scopes=("build", "chat", "read", "admin"),
        body=NoneType,
        query=builds_schemas.BuildsQuery,
        answer=builds_schemas.BuildList,
        reads=(BUILDS,),
        problems=(404, 409, 422),
        handle=list_builds,
    ),
    Operation(
        method="GET",
        path="/v1/builds/{buildId}",
        name="getBuild",
        browsers=True,
        summary="One build: what is to be built, and how far it has come.",
        scopes=("build", "chat", "read", "admin"),
        body=NoneType,
        query=schemas.PastQuery,
        answer=builds_schemas.BuildAnswer,
        reads=(BUILDS,),
        problems=(404, 409, 422),
        handle=read_build,
    ),
    Operation(
        method="POST",
        path="/v1/builds/{buildId}/claim",
        name="claimBuild",
        summary="Take a build. Of many workers one has it, and may claim it again.",
        scopes=("build",),
        body=builds_schemas.ClaimRequest,
        query=NoneType,
        answer=builds_schemas.BuildAnswer,
        reads=(BUILDS,),
        problems=(400, 404, 409, 413, 415, 422),
        handle=claim_build,
    ),
    Operation(
        method="POST",
        path="/v1/builds/{buildId}/cancel",
        name="cancelBuild",
        browsers=True,
        summary="End a build, and free its project. Again, or after its end, it is harmless.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=builds_schemas.BuildAnswer,
        reads=(BUILDS,),
        problems=(404, 422),
        handle=cancel_build,
    ),
    Operation(
        method="POST",
        path="/v1/builds/{buildId}/events",
        name="reportBuild",
        summary="Report one to 500 things of a build, each once, in any order.",
        scopes=("build",),
        body=builds_schemas.ReportsRequest,
        query=NoneType,
        answer=builds_schemas.ReportsAnswer,
        problems=(400, 404, 409, 413, 415, 422),
        handle=report_events,
    ),
    Operation(
        method="GET",
        path="/v1/builds/{buildId}/events",
        name="getBuildEvents",
        browsers=True,
        summary="What was reported of a build, oldest first.",
        scopes=("build", "chat", "read", "admin"),
        body=NoneType,
        query=builds_schemas.BuildEventsQuery,
        answer=builds_schemas.BuildEvents,
        reads=(BUILD_EVENTS,),
        problems=(404, 409, 422),
        handle=read_events,
    ),
    Operation(
        method="GET",
        path="/v1/projects/{projectId}/versions",
        name="listVersions",
        browsers=True,
        summary="A project's versions, newest first.",
        scopes=("chat", "build", "read", "admin"),
        body=NoneType,
        query=schemas.PastPageQuery,
        answer=builds_schemas.Versions,
        reads=(VERSIONS,),
        problems=(404, 409, 422),
        handle=list_versions,
    ),
)
