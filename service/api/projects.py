"""Projects and their members."""

from functools import partial
from types import NoneType

from starlette.responses import Response

from service.api import projects_schemas
from service.commands import projects
from service.http.call import Call
from service.http.operation import Operation, answered


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
