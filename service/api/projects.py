"""Projects and their members."""

from functools import partial
from types import NoneType

from starlette.responses import Response

from projections import projects as rows
from projections.builds import BUILDS
from projections.projects import MEMBERS, PROJECTS
from service.api import projects_schemas, schemas
from service.commands import projects
from service.eventlog.errors import answering
from service.eventlog.store import END
from service.http.call import AnyCall, Call
from service.http.operation import Operation, answered
from service.http.reads import fold_projects_of, position_in, reading_at, visible_project


async def register_project(call: Call[projects_schemas.ProjectRequest, None]) -> Response:
    """Make a project known."""
    asked = call.body
    work = partial(
        projects.register,
        project_id=asked.project_id,
        name=asked.name,
        framework=asked.framework,
        source_root=asked.source_root,
        members={member.user_id: member.role for member in asked.members},
    )
    _, position = await call.transact(work)
    answer = projects_schemas.ProjectAnswer(project_id=asked.project_id)
    return answered(answer, position=position, status=201)


async def list_projects(call: Call[None, projects_schemas.ProjectsQuery]) -> Response:
    """A page of the projects of a user, or of the tenant."""
    asked = call.query
    if asked.user_id is None and "admin" not in call.caller.scopes:
        call.caller.require("read")
    before = position_in(call, asked.before)
    async with reading_at(call, PROJECTS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await fold_projects_of(connection, call, asked.user_id)
        found = await rows.page(
            connection,
            tenant_id=call.tenant_id,
            user_id=asked.user_id,
            before=END if before is None else before,
            limit=asked.limit + 1,
        )
    page = projects_schemas.projects(found, asked.limit)
    return answered(page, position=position)


async def read_project(call: Call[None, schemas.PastQuery]) -> Response:
    """A project, with its entity tag."""
    asked = call.query
    return await _project(call, asked.user_id, asked.min_position, as_of=asked.as_of)


async def describe_project(call: Call[projects_schemas.DescriptionRequest, None]) -> Response:
    """Change what a project is known by."""
    work = partial(
        projects.describe,
        project_id=call.path["projectId"],
        changes=call.body.changes,
        revisions=call.known_revisions,
    )
    _, position = await call.transact(work)
    with answering(position):
        return await _project(call, None, position)


async def _project(
    call: AnyCall, user_id: str | None, at_least: int | None, *, as_of: str | None = None
) -> Response:
    project_id = call.path["projectId"]
    async with reading_at(call, PROJECTS.name, at_least, as_of) as (connection, position):
        row = await visible_project(connection, call, project_id, user_id)
        role = None
        if user_id is not None:
            role = await rows.role(
                connection, tenant_id=call.tenant_id, project_id=project_id, user_id=user_id
            )
    headers = {"ETag": projects_schemas.etag(row)}
    return answered(projects_schemas.project_entry(row, role), position=position, headers=headers)


async def list_members(call: Call[None, projects_schemas.MembersQuery]) -> Response:
    """A page of the members of a project."""
    asked, project_id = call.query, call.path["projectId"]
    async with reading_at(call, MEMBERS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await visible_project(connection, call, project_id, asked.user_id)
        found = await rows.members(
            connection,
            tenant_id=call.tenant_id,
            project_id=project_id,
            after=asked.after or "",
            limit=asked.limit + 1,
        )
    return answered(projects_schemas.members(found, asked.limit), position=position)


async def put_member(call: Call[projects_schemas.RoleRequest, None]) -> Response:
    """Let a user act in the project, or change the user's role."""
    asked = call.body
    project_id, user_id = call.path["projectId"], call.path["userId"]
    work = partial(projects.add_member, project_id=project_id, user_id=user_id, role=asked.role)
    _, position = await call.transact(work)
    answer = projects_schemas.MemberAnswer(project_id=project_id, user_id=user_id, role=asked.role)
    return answered(answer, position=position)


async def delete_member(call: Call[None, None]) -> Response:
    """Take a user out of the project."""
    project_id, user_id = call.path["projectId"], call.path["userId"]
    work = partial(projects.remove_member, project_id=project_id, user_id=user_id)
    _, position = await call.transact(work)
    return answered(projects_schemas.ProjectAnswer(project_id=project_id), position=position)


async def delete_project(call: Call[None, None]) -> Response:
    """Erase a project: all that was said in it, everywhere."""
    project_id = call.path["projectId"]
    position = await call.service.erasure.project(call.tenant_id, project_id, call.cause())
    answer = projects_schemas.ProjectAnswer(project_id=project_id)
    return answered(answer, position=position)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/projects",
        name="registerProject",
        summary="Make a project known, with its first members.",
        scopes=("admin",),
        body=projects_schemas.ProjectRequest,
        query=NoneType,
        answer=projects_schemas.ProjectAnswer,
        status=201,
        problems=(400, 409, 413, 415, 422),
        handle=register_project,
    ),
    Operation(
        method="GET",
        path="/v1/projects",
        name="listProjects",
        browsers=True,
        summary="The projects of a user, newest first; without userId all of the tenant.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=projects_schemas.ProjectsQuery,
        answer=projects_schemas.Projects,
        reads=(PROJECTS, MEMBERS),
        problems=(409, 422),
        handle=list_projects,
    ),
    Operation(
        method="GET",
        path="/v1/projects/{projectId}",
        name="getProject",
        browsers=True,
        summary="A project: what it is known by, its running build, and its version.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=schemas.PastQuery,
        answer=projects_schemas.ProjectEntry,
        reads=(PROJECTS, MEMBERS, BUILDS),
        problems=(404, 409, 422),
        handle=read_project,
    ),
    Operation(
        method="PATCH",
        path="/v1/projects/{projectId}",
        name="describeProject",
        summary="Change the name, framework or source folder; with If-Match only if unchanged.",
        scopes=("admin",),
        body=projects_schemas.DescriptionRequest,
        query=NoneType,
        answer=projects_schemas.ProjectEntry,
        reads=(PROJECTS, BUILDS),
        problems=(400, 404, 409, 413, 415, 422),
        handle=describe_project,
    ),
    Operation(
        method="GET",
        path="/v1/projects/{projectId}/members",
        name="listMembers",
        browsers=True,
        summary="The members of a project with their roles, in the order of their ids.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=projects_schemas.MembersQuery,
        answer=projects_schemas.Members,
        reads=(MEMBERS,),
        problems=(404, 409, 422),
        handle=list_members,
    ),
    Operation(
        method="PUT",
        path="/v1/projects/{projectId}/members/{userId}",
        name="putMember",
        summary="Let a user act in the project, or change their role.",
        scopes=("admin",),
        body=projects_schemas.RoleRequest,
        query=NoneType,
        answer=projects_schemas.MemberAnswer,
        problems=(400, 404, 409, 413, 415, 422),
        handle=put_member,
    ),
    Operation(
        method="DELETE",
        path="/v1/projects/{projectId}/members/{userId}",
        name="deleteMember",
        summary="Take a user out of the project.",
        scopes=("admin",),
        body=NoneType,
        query=NoneType,
        answer=projects_schemas.ProjectAnswer,
        problems=(404, 409, 413, 422),
        handle=delete_member,
    ),
    Operation(
        method="DELETE",
        path="/v1/projects/{projectId}",
        name="deleteProject",
        summary="Erase a project and all that was said in it. What was billed stays.",
        scopes=("admin",),
        body=NoneType,
        query=NoneType,
        answer=projects_schemas.ProjectAnswer,
        problems=(404, 409, 413, 422),
        handle=delete_project,
    ),
)
