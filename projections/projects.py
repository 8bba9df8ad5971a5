"""The projects and their members."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row, scalar_row
from psycopg.types.numeric import Int8

from domain.events import (
    MemberAdded,
    MemberRemoved,
    ProjectDescribed,
    ProjectErased,
    ProjectErasureRequested,
    ProjectLocked,
    ProjectRegistered,
    ProjectUnlocked,
    Role,
    VersionDeployed,
)
from projections.projection import Connection, Projection
from projections.read import Read

PROJECTS: Final = Projection(
    name="projects",
    version=4,
    rules="6071cf87",
    views=("projects",),
    handles=(
        ProjectRegistered,
        ProjectDescribed,
        ProjectLocked,
        ProjectUnlocked,
        VersionDeployed,
        ProjectErasureRequested,
        ProjectErased,
    ),
)
MEMBERS: Final = Projection(
    name="members",
    version=3,
    rules="d81b4195",
    views=("project_members",),
    handles=(MemberAdded, MemberRemoved, ProjectErasureRequested),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRow:
    """A project, with what the planner should know about it.

    `active_build_id` is the running build, `last_build_id` the last build that began, with its
    status and the time of its end (or of its order), `version_id` the version that is deployed
    since `modified_at`. From `erasing_since` on the project is hidden. Lists leave out how the last
    build stands.
    """

    project_id: str
    name: str
    framework: str | None
    source_root: str | None
    registered_at: datetime
    active_build_id: str | None
    last_build_id: str | None
    version_id: str | None
    modified_at: datetime
    erasing_since: datetime | None
    last_build_status: str | None = None
    last_build_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedProject(ProjectRow):
    """A project of a list; `role` is the role of the user who asks for the list."""

    registered_position: int
    cursor: str
    role: Role | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """A member, with the role since `since`."""

    user_id: str
    role: Role
    since: datetime


async def page(
    connection: Connection, *, tenant_id: str, user_id: str | None, before: int, limit: int
) -> list[ListedProject]:
    """A user's projects before a position, newest first. Without a user, the tenant's projects."""
    statement = PROJECTS.statements["page" if user_id is None else "page_of_member"]
    asked = {"tenant_id": tenant_id, "user_id": user_id, "before": Int8(before), "limit": limit}
    async with connection.cursor(row_factory=class_row(ListedProject)) as cursor:
        await cursor.execute(statement, asked)
        return await cursor.fetchall()


async def members(
    connection: Connection, *, tenant_id: str, project_id: str, after: str, limit: int
) -> list[MemberRow]:
    """The members of a project after a user's id, in the order of their ids."""
    asked = {"tenant_id": tenant_id, "project_id": project_id}
    async with connection.cursor(row_factory=class_row(MemberRow)) as cursor:
        await cursor.execute(
            MEMBERS.statements["page"], asked | {"after_user_id": after, "limit": limit}
        )
        return await cursor.fetchall()


async def role(
    connection: Connection, *, tenant_id: str, project_id: str, user_id: str
) -> Role | None:
    """The role of a user in a project; None where the user is no member."""
    asked = {"tenant_id": tenant_id, "project_id": project_id, "user_id": user_id}
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(MEMBERS.statements["role"], asked)
        found: Role | None = await cursor.fetchone()
        return found


async def project(
    connection: Connection, *, tenant_id: str, project_id: str, user_id: str | None
) -> ProjectRow | None:
    """The project, or None. With a `user_id` the user must be a member."""
    read = project_read(tenant_id=tenant_id, project_id=project_id, user_id=user_id)
    await read.send(connection)
    return await read.row()


def project_read(*, tenant_id: str, project_id: str, user_id: str | None) -> Read[ProjectRow]:
    """The read of `project`, for a pipeline."""
    return Read(
        PROJECTS.statements["by_id" if user_id is None else "of_member"],
        class_row(ProjectRow),
        {"tenant_id": tenant_id, "project_id": project_id, "user_id": user_id},
    )


async def erasing(connection: Connection, *, limit: int) -> list[tuple[str, str]]:
    """Projects of all tenants that wait for erasure, oldest first: (tenant, project) ids."""
    found = await connection.execute(PROJECTS.statements["erasing"], {"limit": limit})
    return await found.fetchall()
